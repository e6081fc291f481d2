"""Streams that overtook the CONNECT request of their session (draft-16 §4.6): few of them, and not for long."""

from __future__ import annotations

from quicstack.transport.stream import Stream
from webtransport.codes import ErrorCode

__all__ = ["EarlyStreams", "turn_away"]

MAX_EARLY_STREAMS = 16
EARLY_TIMEOUT = 2.0


def turn_away(stream: Stream, code: int) -> None:
    """Give both directions of a stream up, as one that no session owns."""
    if stream.can_send and not stream.send_done:
        stream.reset(code)
    if stream.can_receive:
        stream.stop_sending(code)


class EarlyStreams:
    """They stay unread, so QUIC's flow control holds their peer back, and wait for their session or a deadline."""

    def __init__(self, limit: int = MAX_EARLY_STREAMS, timeout: float = EARLY_TIMEOUT) -> None:
        self._limit = limit
        self._timeout = timeout
        self._waiting: dict[int, tuple[int, Stream, float]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def deadline(self) -> float | None:
        """When the first of them has waited long enough."""
        return next((deadline for _, _, deadline in self._waiting.values()), None)

    def add(self, session_id: int, stream: Stream, now: float) -> None:
        """Keep a stream, or turn it away if enough of them are kept."""
        stream.owner = self
        if len(self._waiting) >= self._limit:
            turn_away(stream, ErrorCode.WT_BUFFERED_STREAM_REJECTED)
        else:
            self._waiting[stream.id] = (session_id, stream, now + self._timeout)

    def take(self, session_id: int) -> list[Stream]:
        """The streams of a session that has come, in order of arrival."""
        mine = [stream for wanted, stream, _ in self._waiting.values() if wanted == session_id]
        for stream in mine:
            del self._waiting[stream.id]
        return mine

    def expire(self, now: float) -> None:
        """Turn away those that have waited too long."""
        for stream_id, (_, stream, deadline) in list(self._waiting.items()):
            if now < deadline:
                break
            del self._waiting[stream_id]
            turn_away(stream, ErrorCode.WT_BUFFERED_STREAM_REJECTED)

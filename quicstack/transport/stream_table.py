"""All streams of a connection: IDs, limits, creation and removal (RFC 9000 §2.1, §4.6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quicstack.errors import StreamLimitReached, TransportError, TransportErrorCode
from quicstack.transport.flow_control import MemoryBudget, ReceiveWindow, SendWindow
from quicstack.transport.outbox import Outbox, SentValue
from quicstack.transport.receive_stream import ReceiveStream
from quicstack.transport.send_stream import SendStream
from quicstack.transport.stream import Stream
from quicstack.wire import frame
from quicstack.wire.ranges import RangeSet

__all__ = ["StreamLimits", "StreamTable"]

BIDI, UNI = 0, 2


@dataclass(slots=True)
class StreamLimits:
    """Initial limits as transport parameters name them, seen from the side that set them (RFC 9000 §18.2)."""

    bidi_local: int = 0
    bidi_remote: int = 0
    uni: int = 0
    streams_bidi: int = 0
    streams_uni: int = 0


class _PeerStreams:
    """Streams of one type that the peer opens: how many it may, how many it did, which of them were never used."""

    __slots__ = ("closed", "kind", "limit", "max_streams", "opened", "outbox", "skipped", "window")

    def __init__(self, kind: int, window: int, outbox: Outbox) -> None:
        self.kind = kind
        self.window = window
        self.limit = window
        self.opened = 0
        self.closed = 0
        self.skipped = RangeSet()  # opened implicitly by a higher ID (§2.1); no state until a frame names them
        self.outbox = outbox
        self.max_streams: SentValue | None = None

    def close_one(self) -> None:
        self.closed += 1
        if 2 * (self.limit - self.closed) <= self.window:
            if self.max_streams is None:
                self.max_streams = SentValue(self._write)
            self.outbox.push(self.max_streams)

    def _write(self) -> bytes:
        self.limit = min(max(self.limit, self.closed + self.window), frame.MAX_STREAMS_LIMIT)
        return frame.write_limit(frame.MAX_STREAMS_UNI if self.kind else frame.MAX_STREAMS_BIDI, self.limit)


class _LocalStreams:
    """Streams of one type that we open: how many the peer lets us, how many we did."""

    __slots__ = ("blocked", "blocked_at", "kind", "limit", "opened")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.limit = 0
        self.opened = 0
        self.blocked_at = -1
        self.blocked: SentValue | None = None

    def tell_peer(self, outbox: Outbox) -> None:
        """STREAMS_BLOCKED (§19.14), once for each limit."""
        if self.blocked_at != self.limit:
            self.blocked_at = self.limit
            if self.blocked is None:
                self.blocked = SentValue(self._write)
            outbox.push(self.blocked)

    def _write(self) -> bytes | None:
        if self.opened < self.limit:
            return None
        frame_type = frame.STREAMS_BLOCKED_UNI if self.kind else frame.STREAMS_BLOCKED_BIDI
        return frame.write_limit(frame_type, self.limit)


class StreamTable:
    """Streams by ID. Only streams that are not finished are here; what is known of the others is a count."""

    __slots__ = (
        "_budget",
        "_buffer_limit",
        "_is_client",
        "_local_limits",
        "_max_window",
        "_outbox",
        "_peer_limits",
        "_waiting",
        "local",
        "peer",
        "receive_window",
        "send_window",
        "streams",
    )  # fmt: skip

    def __init__(
        self,
        *,
        is_client: bool,
        local_limits: StreamLimits,
        receive_window: ReceiveWindow,
        max_stream_window: int,
        send_buffer: int,
        outbox: Outbox,
        budget: MemoryBudget | None = None,
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self.receive_window = receive_window
        self.send_window = SendWindow()
        self._is_client = is_client
        self._local_limits = local_limits
        self._peer_limits = StreamLimits()
        self._max_window = max_stream_window
        self._buffer_limit = send_buffer
        self._outbox = outbox
        self._budget = budget
        self._waiting: dict[int, Stream] = {}  # for MAX_DATA
        self.local = {kind: _LocalStreams(kind) for kind in (BIDI, UNI)}
        self.peer = {
            BIDI: _PeerStreams(BIDI, local_limits.streams_bidi, outbox),
            UNI: _PeerStreams(UNI, local_limits.streams_uni, outbox),
        }

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self.streams.values()))

    def set_peer_limits(self, limits: StreamLimits, max_data: int) -> None:
        """The peer's transport parameters are known; streams opened before (0-RTT) get their limits raised."""
        self._peer_limits = limits
        self.send_window.raise_limit(max_data)
        for stream in self.streams.values():
            if stream.send is not None and stream.is_local:
                stream.send.limit = max(stream.send.limit, limits.uni if stream.id & 2 else limits.bidi_remote)
                self._outbox.push_stream(stream)
        self.raise_stream_count(BIDI, limits.streams_bidi)
        self.raise_stream_count(UNI, limits.streams_uni)

    def start_over(self, limits: StreamLimits, max_data: int, *, keep: bool) -> None:
        """0-RTT was rejected (RFC 9001 §4.6.2): nothing sent so far has happened, and other limits hold.

        Streams that these permit begin again, if ``keep``; the others are over, as if the peer had reset them.
        """
        self._peer_limits = limits
        self._waiting.clear()
        self.send_window.limit, self.send_window.used, self.send_window.blocked_at = max_data, 0, -1
        for kind, count in ((BIDI, limits.streams_bidi), (UNI, limits.streams_uni)):
            local = self.local[kind]
            local.limit, local.blocked_at = count, -1
            local.opened = min(local.opened, count if keep else 0)
        for stream in self:
            kind = stream.id & 2
            if stream.id >> 2 < self.local[kind].opened:
                if stream.send is not None:
                    stream.send.start_over(limits.uni if kind else limits.bidi_remote)
                    self._outbox.push_stream(stream)
            else:
                stream.refuse()
                del self.streams[stream.id]
        self._outbox.streams_allowed = True

    # -- opening -------------------------------------------------------------------------------------------------

    def can_open(self, unidirectional: bool) -> bool:
        streams = self.local[UNI if unidirectional else BIDI]
        return streams.opened < streams.limit

    def open(self, unidirectional: bool) -> Stream:
        """A new stream of ours; StreamLimitReached when the peer allows no more (§4.6), and it is told."""
        kind = UNI if unidirectional else BIDI
        streams = self.local[kind]
        if streams.opened >= streams.limit:
            streams.tell_peer(self._outbox)
            what = "unidirectional" if unidirectional else "bidirectional"
            raise StreamLimitReached(f"the peer allows {streams.limit} {what} streams so far, and all are opened")
        stream_id = streams.opened * 4 + kind + (not self._is_client)
        streams.opened += 1
        limits = self._local_limits
        receive = None if unidirectional else self._receive_part(stream_id, limits.bidi_local)
        peer_limit = self._peer_limits.uni if unidirectional else self._peer_limits.bidi_remote
        return self._add(stream_id, receive, SendStream(stream_id, peer_limit, self._buffer_limit, self._outbox))

    def _receive_part(self, stream_id: int, window: int) -> ReceiveStream:
        stream_window = ReceiveWindow(window, max(window, self._max_window), self._budget)
        return ReceiveStream(stream_id, stream_window, self.receive_window, self._outbox)

    def _add(self, stream_id: int, receive: ReceiveStream | None, send: SendStream | None) -> Stream:
        stream = Stream(stream_id, receive, send, self._outbox)
        self.streams[stream_id] = stream
        return stream

    def find(self, stream_id: int, frame_type: int, *, sending: bool) -> Stream | None:
        """The stream a frame names, created if the peer opens it thereby; None if it is finished.

        ``sending``: the frame is about our sending part (MAX_STREAM_DATA, STOP_SENDING), not about the receiving one.
        Raises STREAM_STATE_ERROR and STREAM_LIMIT_ERROR as §19.4-§19.13 ask.
        """
        stream = self.streams.get(stream_id)
        is_local = bool(stream_id & 1) != self._is_client
        if stream_id & 2 and is_local != sending:
            side = "send" if sending else "receive"
            raise TransportError(
                TransportErrorCode.STREAM_STATE_ERROR, f"stream {stream_id} has no {side} side here", frame_type
            )
        if stream is not None:
            return stream
        index = stream_id >> 2
        if is_local:
            if index >= self.local[stream_id & 2].opened:
                reason = f"stream {stream_id} was never opened"
                raise TransportError(TransportErrorCode.STREAM_STATE_ERROR, reason, frame_type)
            return None
        return self._peer_opens(stream_id, index, frame_type)

    def _peer_opens(self, stream_id: int, index: int, frame_type: int) -> Stream | None:
        streams = self.peer[stream_id & 2]
        if index < streams.opened:
            if index not in streams.skipped:
                return None
            streams.skipped.subtract(index, index + 1)
        elif index >= streams.limit:
            reason = f"stream {stream_id} is number {index + 1} of its type, {streams.limit} are allowed"
            raise TransportError(TransportErrorCode.STREAM_LIMIT_ERROR, reason, frame_type)
        else:
            streams.skipped.add(streams.opened, index)
            streams.opened = index + 1
        if stream_id & 2:
            stream = self._add(stream_id, self._receive_part(stream_id, self._local_limits.uni), None)
        else:
            send = SendStream(stream_id, self._peer_limits.bidi_local, self._buffer_limit, self._outbox)
            stream = self._add(stream_id, self._receive_part(stream_id, self._local_limits.bidi_remote), send)
        self._outbox.push_ready(stream)
        return stream

    # -- limits --------------------------------------------------------------------------------------------------

    def raise_stream_count(self, kind: int, limit: int) -> None:
        """MAX_STREAMS (§19.11); a limit that does not rise is ignored."""
        streams = self.local[kind]
        if limit > streams.limit:
            streams.limit = limit
            self._outbox.streams_allowed = True

    def raise_connection_limit(self, limit: int) -> None:
        """MAX_DATA (§19.9): streams that had waited for it may send."""
        if self.send_window.raise_limit(limit) and self._waiting:
            for stream in self._waiting.values():
                self._outbox.push_stream(stream)
            self._waiting.clear()

    def wait_for_credit(self, stream: Stream) -> bool:
        """The stream has nothing that it may send now. True if it waits for the connection's limit (§4.1)."""
        if stream.send is None or self.send_window.used < self.send_window.limit or not stream.send.has_new_data:
            return False
        self._waiting[stream.id] = stream
        return True

    # -- removal -------------------------------------------------------------------------------------------------

    def forget_finished(self) -> None:
        """Forget streams that are in terminal states both ways, and let the peer open others in their place.

        Not before the application has taken the stream from ``take_ready``: whoever opens and resets streams gets new
        ones no faster than the application learns of the old ones. A driver that takes streams for an application
        which has not asked for them yet holds them.
        """
        touched, self._outbox.touched = self._outbox.touched, []
        for stream in touched:
            if stream.is_ready or stream.is_held or not stream.finished:
                continue
            if self.streams.pop(stream.id, None) is not None:
                self._waiting.pop(stream.id, None)
                stream.owner = None  # nothing will happen to it any more, and the two would hold each other
                if stream.receive is not None:
                    stream.receive.window.release()
                if bool(stream.id & 1) == self._is_client:
                    self.peer[stream.id & 2].close_one()

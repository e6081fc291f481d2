"""One stream of a session, without waiting: reads, writes, codes and what the session's flow control counts.

A WebTransport stream is a QUIC stream behind a short header (draft-16 §4.2, §4.3). HTTP/3 reads or writes that header
and steps aside; bytes stay in the QUIC stream's own buffers, and this object is the stream's ``owner``.
"""

from __future__ import annotations

from typing import Protocol
from weakref import ReferenceType

from quicstack.transport.stream import Stream
from webtransport.codes import ErrorCode, application_code, http_code
from webtransport.errors import CloseInfo, SessionClosed, StreamReset, StreamStopped, WebTransportError
from webtransport.flow_control import SessionFlowControl

__all__ = ["Face", "SessionStream", "StreamSession"]


class Face(Protocol):
    """What the application holds."""

    def wake(self) -> None: ...


class StreamSession(Protocol):
    """What a stream asks of its session."""

    @property
    def flow(self) -> SessionFlowControl | None: ...

    @property
    def close_info(self) -> CloseInfo | None: ...

    @property
    def max_stream_error(self) -> int: ...

    def stream_blocked(self, stream: SessionStream) -> None: ...

    def stream_ending(self, stream: SessionStream) -> None: ...

    def stream_abandoned(self, stream: SessionStream) -> None: ...

    def stream_settled(self, stream: SessionStream) -> None: ...

    def send_flow_control(self) -> None: ...


class SessionStream:
    """The owner of a QUIC stream. ``face`` leads to whoever waits on it."""

    __slots__ = (
        "_consumed",
        "_header_received",
        "_header_sent",
        "_received",
        "_sent",
        "_settled",
        "face",
        "is_ended",
        "is_local",
        "session",
        "stream",
    )

    def __init__(self, session: StreamSession, stream: Stream, *, is_local: bool) -> None:
        self.session = session
        self.stream = stream
        self.is_local = is_local
        self.face: ReferenceType[Face] | None = None
        """What the application holds. When it has let go of it, nobody waits there."""
        self._header_sent = stream.bytes_written if is_local else 0
        self._header_received = 0 if is_local else stream.bytes_consumed
        self._sent = 0
        self._received = 0
        self._consumed = 0
        self._settled = False
        self.is_ended = False
        """The application has written all it wanted."""
        stream.owner = self

    def __repr__(self) -> str:
        return f"<SessionStream {self.stream.id}>"

    @property
    def stream_id(self) -> int:
        return self.stream.id

    @property
    def is_unidirectional(self) -> bool:
        return self.stream.is_unidirectional

    # Reading

    @property
    def at_end(self) -> bool:
        """The peer ended the stream and everything was read."""
        return self.stream.at_end

    def read(self, limit: int = -1) -> bytes:
        """What is there, up to ``limit`` bytes. StreamReset or SessionClosed once nothing more can come."""
        stream = self.stream
        if stream.reset_code is not None:
            raise self._reset_error(stream.reset_code)
        data = stream.read(limit)
        if not data and not stream.at_end and self.session.close_info is not None:
            raise SessionClosed(self.session.close_info)
        self._count_consumed()
        if stream.at_end:
            self.check_settled()
        return data

    def stop_sending(self, code: int) -> None:
        """Read no more, and tell the peer why (draft-16 §4.4)."""
        self.stream.stop_sending(self._wire_code(code))
        self.observe()

    # Writing

    @property
    def writable(self) -> int:
        """Bytes that ``write`` would take now."""
        flow = self.session.flow
        room = self.stream.writable
        return room if flow is None else min(room, flow.data_left)

    def write(self, data: bytes, fin: bool = False) -> int:
        """Take what there is room and credit for; ``fin`` counts only if that is all of ``data``."""
        self._check_sending()
        flow = self.session.flow
        if flow is None:
            accepted = self.stream.write(data, fin)
            self.is_ended = fin and accepted == len(data)
            return accepted
        if len(data) > flow.data_left:
            flow.data_blocked()
            self.session.stream_blocked(self)
            data, fin = data[: flow.data_left], False
            if not data:
                return 0
        accepted = self.stream.write(data, fin)
        self.is_ended = fin and accepted == len(data)
        self._sent += accepted
        flow.send_data(accepted)
        return accepted

    def finish(self) -> None:
        """End the sending side."""
        self._check_sending()
        if not self.is_ended:
            self.is_ended = True
            self.stream.finish()
            self.observe()

    def reset(self, code: int) -> None:
        """Abandon the sending side with the application's ``code`` (draft-16 §4.4)."""
        # draft-16 §4.4: without the header the peer could not tell whose stream was reset
        self.stream.reset(self._wire_code(code), self._header_sent)
        self.session.stream_ending(self)
        self.observe()

    def _check_sending(self) -> None:
        stop_code = self.stream.stop_code
        if stop_code is not None:
            if stop_code == ErrorCode.WT_SESSION_GONE and self.session.close_info is not None:
                raise SessionClosed(self.session.close_info)
            raise StreamStopped(stream_id=self.stream.id, code=application_code(stop_code), http_code=stop_code)
        if self.session.close_info is not None:
            raise SessionClosed(self.session.close_info)

    # What happens to it

    def observe(self) -> None:
        """Something changed: count what arrived, and leave the session once both sides are over.

        CapsuleError if the peer sent more than the session's flow control lets it.
        """
        self._count_received()
        self._count_consumed()
        self._count_unsent()
        if not self.check_settled() and self.stream.stop_code is not None:
            self.session.stream_ending(self)  # answered by a reset

    def check_settled(self) -> bool:
        """Whether the stream is over both ways; its session hears of it once."""
        if not self._settled and self.stream.finished:
            self._settled = True
            self.session.stream_settled(self)
        return self._settled

    def abandon(self, code: int, *, keep_received: bool = False) -> None:
        """The session is gone, or never was: give both sides up with an HTTP/3 ``code`` (draft-16 §6).

        ``keep_received`` spares a stream that has arrived in full and that somebody may still be reading.
        """
        stream = self.stream
        if stream.can_send and not stream.send_done:
            stream.reset(code, self._header_sent)
            self.session.stream_ending(self)
        if stream.can_receive and not (keep_received and stream.all_received):
            stream.stop_sending(code)
        self.session.stream_abandoned(self)
        self.observe()

    def _count_received(self) -> None:
        """draft-16 §5.4: what counts is the stream's body, up to its final size if it was reset."""
        flow, stream = self.session.flow, self.stream
        if flow is not None and stream.can_receive:
            growth = stream.bytes_received - self._header_received - self._received
            if growth > 0:
                self._received += growth
                flow.data_received(growth)

    def _count_consumed(self) -> None:
        """Bytes that were read or thrown away make room for others."""
        flow, stream = self.session.flow, self.stream
        if flow is None or not stream.can_receive:
            return
        consumed = stream.bytes_consumed - self._header_received
        if consumed > self._consumed:
            flow.data_released(consumed - self._consumed)
            self._consumed = consumed
            self.session.send_flow_control()

    def _count_unsent(self) -> None:
        """A reset throws away bytes that were counted when written; those that never left do not count."""
        flow, stream = self.session.flow, self.stream
        if flow is None or not stream.can_send:
            return
        written = max(0, stream.bytes_written - self._header_sent)  # a reset cuts it down to what was sent
        if written < self._sent:
            flow.send_data(written - self._sent)
            self._sent = written

    # Codes

    def _wire_code(self, code: int) -> int:
        if not 0 <= code <= self.session.max_stream_error:
            raise ValueError(
                f"a stream error code of this session lies between 0 and {self.session.max_stream_error:#x}, not {code}"
            )
        return http_code(code)

    def _reset_error(self, code: int) -> WebTransportError:
        if code == ErrorCode.WT_SESSION_GONE and self.session.close_info is not None:
            return SessionClosed(self.session.close_info)
        return StreamReset(stream_id=self.stream.id, code=application_code(code), http_code=code)

"""A stream as upper layers see it (RFC 9000 §2): bytes in order both ways, or one way."""

from __future__ import annotations

from quicstack.errors import StreamError, once_more
from quicstack.transport.outbox import Outbox
from quicstack.transport.receive_stream import ReceiveStream
from quicstack.transport.scheduler import DEFAULT_URGENCY, MAX_URGENCY
from quicstack.transport.send_stream import SendStream
from quicstack.transport.stream_states import RECEIVE_TERMINAL, SEND_TERMINAL, ReceiveState
from quicstack.wire.varint import MAX_VARINT

__all__ = ["Stream"]


def _checked(code: int) -> int:
    """RFC 9000 §20.2: application error codes are variable-length integers."""
    if not 0 <= code <= MAX_VARINT:
        raise ValueError(f"an application error code is between 0 and 2^62-1: {code}")
    return code


class Stream:
    """Handed over, never copied: whoever ``owner`` names reads and writes it, and nobody else.

    Nothing here waits. ``read`` returns what is there, ``write`` accepts what fits; the stream appears in the
    connection's ``take_ready`` when more can be done. ``send`` or ``receive`` is None on a unidirectional stream.
    """

    __slots__ = (
        "_outbox", "id", "incremental", "is_held", "is_ready", "is_sending", "owner", "receive", "send", "urgency",
    )  # fmt: skip

    def __init__(self, stream_id: int, receive: ReceiveStream | None, send: SendStream | None, outbox: Outbox) -> None:
        self.id = stream_id
        self.owner: object | None = None
        self.receive = receive
        self.send = send
        self.is_ready = False
        self.is_sending = False
        self.urgency = DEFAULT_URGENCY
        self.incremental = True
        self.is_held = False
        """A driver keeps it for somebody who has not asked for it yet."""
        self._outbox = outbox

    def __repr__(self) -> str:
        return f"<Stream {self.id}>"

    @property
    def is_unidirectional(self) -> bool:
        return bool(self.id & 2)

    @property
    def is_local(self) -> bool:
        """True if this side opened it."""
        return self.send is not None if self.id & 2 else self._opened_here

    @property
    def _opened_here(self) -> bool:
        return bool(self.id & 1) != self._outbox.is_client

    @property
    def can_receive(self) -> bool:
        return self.receive is not None

    @property
    def can_send(self) -> bool:
        return self.send is not None

    def _receiving(self) -> ReceiveStream:
        if self.receive is None:
            raise StreamError(f"stream {self.id} is for sending only", stream_id=self.id)
        return self.receive

    def _sending(self) -> SendStream:
        if self.send is None:
            raise StreamError(f"stream {self.id} is for receiving only", stream_id=self.id)
        return self.send

    @property
    def is_heard(self) -> bool:
        """Its connection has asked to be served: somebody should see to it that it is."""
        return self._outbox.rung

    def hold(self) -> None:
        """Count it as open though it may be finished, so that the peer gets no other in its place (§4.6)."""
        self.is_held = True

    def let_go(self) -> None:
        """Somebody has taken it."""
        self.is_held = False
        self._outbox.touched.append(self)
        self._outbox.ring()

    # -- receiving -----------------------------------------------------------------------------------------------

    @property
    def readable(self) -> int:
        """Bytes that can be read now."""
        return self._receiving().data.readable

    @property
    def at_end(self) -> bool:
        """The peer finished the stream and everything was read."""
        receive = self._receiving()
        return receive.state is ReceiveState.DATA_READ and receive.stop_code is None

    @property
    def reset_code(self) -> int | None:
        """The code of the peer's RESET_STREAM; what was not read by then is gone.

        A reset that keeps the beginning of the stream shows once that beginning was read.
        """
        return None if self.receive is None else self.receive.reset_code

    @property
    def all_received(self) -> bool:
        """Every byte up to the end of the stream has arrived, read or not; no reset can undo that (§3.2)."""
        return self._receiving().state in (ReceiveState.DATA_RECVD, ReceiveState.DATA_READ)

    @property
    def bytes_received(self) -> int:
        """The highest offset the peer has sent, or the final size after its reset (§4.5)."""
        return self._receiving().window.received

    @property
    def bytes_consumed(self) -> int:
        """Bytes read or discarded: what credit was returned for."""
        return self._receiving().window.consumed

    def peek(self, limit: int = -1) -> bytes:
        """Up to ``limit`` bytes without reading them: no credit is granted."""
        return self._receiving().data.peek(limit)

    def read(self, limit: int = -1) -> bytes:
        """Up to ``limit`` bytes (all with -1), b"" when there are none now. Raises StreamReset after a reset."""
        receive = self.receive or self._receiving()
        before = receive.state
        data = receive.read(limit)
        if receive.state is not before and receive.state in RECEIVE_TERMINAL:
            self._outbox.touched.append(self)
            if receive.reset_code is not None:
                self._outbox.push_ready(self)  # what was left of a stream that ends with a reset is read
            self._outbox.ring()  # the end of one stream is room for another
        return data

    def stop_sending(self, code: int) -> None:
        """Discard what comes and ask the peer to stop (STOP_SENDING)."""
        self._receiving().stop_sending(_checked(code))
        self._outbox.touched.append(self)
        self._outbox.ring()

    # -- sending -------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> int:
        """Bytes that ``write`` would take now."""
        return self._sending().writable

    @property
    def send_buffered(self) -> int:
        """Bytes written that the peer has not acknowledged."""
        return self._sending().buffer.buffered

    @property
    def stop_code(self) -> int | None:
        """The code of the peer's STOP_SENDING; it was answered with RESET_STREAM already."""
        return None if self.send is None else self.send.stop_code

    @property
    def bytes_written(self) -> int:
        """Bytes accepted so far; after a reset, the final size: what had been sent by then."""
        return self._sending().buffer.end

    @property
    def send_done(self) -> bool:
        """The peer has acknowledged the end of the stream, or its reset."""
        return self._sending().state in SEND_TERMINAL

    def write(self, data: bytes, fin: bool = False) -> int:
        """Bytes accepted: fewer than given when the buffer is full, and then ``fin`` is not applied either.

        Raises what closed the connection, when it is over.
        """
        sending = self._sending()
        if self._outbox.closed is not None:
            raise once_more(self._outbox.closed)
        accepted = sending.write(data, fin)
        if accepted or fin:
            self._outbox.push_stream(self)
        return accepted

    def finish(self) -> None:
        """End the sending side after what was written."""
        self.write(b"", fin=True)

    def reset(self, code: int, reliable_size: int = 0) -> None:
        """Abandon the sending side; nothing if it is over. The first ``reliable_size`` bytes reach the peer anyway.

        That takes RESET_STREAM_AT. Where the peer does not know it, RESET_STREAM waits until they are acknowledged. A
        later call with a smaller size gives up more.
        """
        self._sending().reset(_checked(code), reliable_size)
        self._outbox.ring()

    def set_priority(self, urgency: int = DEFAULT_URGENCY, incremental: bool = True) -> None:
        """When to send what is written here, beside the other streams (in the words of RFC 9218 §4), from now on.

        ``urgency`` is 0 (first) to 7 (last): while a more urgent stream can send, the others wait. Streams of one
        urgency share: ``incremental`` ones take turns, those that are not go one after another in the order of their
        ids. What is lost goes out again with the priority of its stream. The peer is not told. A scheduler of the
        configuration that is not the default may see it differently.
        """
        self._sending()
        if not 0 <= urgency <= MAX_URGENCY:
            raise ValueError(f"urgency is {urgency}, expected 0 to {MAX_URGENCY}")
        if (urgency, incremental) == (self.urgency, self.incremental):
            return
        queued = self.is_sending and self._outbox.closed is None
        if queued:
            self._outbox.sending.remove(self)
        self.urgency, self.incremental = urgency, incremental
        if queued:
            self._outbox.sending.push(self)

    def refuse(self) -> None:
        """0-RTT was rejected, and the peer will never know of this stream: over on both sides, as if it were reset."""
        if self.send is not None:
            self.send.refuse()
        if self.receive is not None:
            self.receive.receive_reset(0, 0)
        self._outbox.push_ready(self)

    # -- both ----------------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Both sides are in a terminal state (RFC 9000 §3): nothing more can happen."""
        if self.send is not None and self.send.state not in SEND_TERMINAL:
            return False
        return self.receive is None or self.receive.state in RECEIVE_TERMINAL

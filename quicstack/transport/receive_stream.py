"""The receiving part of a stream (RFC 9000 §3.2): bytes are home here until the application reads them."""

from __future__ import annotations

from quicstack.errors import StreamReset, TransportError, TransportErrorCode
from quicstack.transport.flow_control import ReceiveWindow
from quicstack.transport.outbox import Outbox, SentValue
from quicstack.transport.reassembly import Reassembly
from quicstack.transport.stream_states import ReceiveState
from quicstack.wire import frame

__all__ = ["ReceiveStream"]

_RECV = ReceiveState.RECV
MAX_GAPS = 4096
"""Pieces of a stream behind gaps: more than every second packet of the largest window lost."""


class ReceiveStream:
    """Reassembly, final size and credit of one stream; the connection's window is charged and credited along.

    At any time the connection window has consumed exactly what was read or discarded here, gaps of a discarded stream
    included, so after a terminal state it has consumed the final size, once.
    """

    __slots__ = (
        "_connection_window", "_max_stream_data", "_outbox", "_reset_code", "_stop_sending", "data", "final_size",
        "reliable_size", "reset_code", "state", "stop_code", "stream_id", "window",
    )  # fmt: skip

    def __init__(self, stream_id: int, window: ReceiveWindow, connection_window: ReceiveWindow, outbox: Outbox) -> None:
        self.stream_id = stream_id
        self.state = ReceiveState.RECV
        self.data = Reassembly()
        self.window = window
        self.final_size: int | None = None
        self.reset_code: int | None = None
        """Application error code of the peer's reset, from the moment that the application may see it."""
        self.reliable_size: int | None = None
        """Of the peer's RESET_STREAM_AT: bytes below it are delivered before the reset shows."""
        self._reset_code: int | None = None  # of a reset that came, whether it shows or not
        self.stop_code: int | None = None
        """Application error code of our own STOP_SENDING."""
        self._connection_window = connection_window
        self._outbox = outbox
        self._max_stream_data: SentValue | None = None
        self._stop_sending: SentValue | None = None

    # -- from the peer -------------------------------------------------------------------------------------------

    def receive(self, offset: int, data: bytes, fin: bool, frame_type: int) -> bool:  # hot path
        """STREAM (RFC 9000 §19.8). True when the application can see a change."""
        stop = offset + len(data)
        window = self.window
        if stop > window.received:
            if self.final_size is not None:
                self._check_final_size(stop, False, frame_type)
            self._use_credit(stop - window.received, frame_type)
        if self.state is _RECV and not fin and self.stop_code is None:
            return self.data.add(offset, data) or self._check_gaps(frame_type)
        self._check_final_size(stop, fin, frame_type)
        if self.state > ReceiveState.DATA_RECVD or self.stop_code is not None:
            changed = False
            self._discard()
        else:
            if self.reliable_size is not None:
                data = data[: max(0, self.reliable_size - offset)]
            changed = bool(data) and (self.data.add(offset, data) or self._check_gaps(frame_type))
        if fin and self.final_size is None:
            self.final_size = stop
            changed = True
            if self.state is ReceiveState.RECV:
                self.state = ReceiveState.SIZE_KNOWN
        if self.final_size is not None:
            self._advance()
        return changed

    @property
    def is_waiting(self) -> bool:
        """In the Recv state with nothing to read: there is nothing else to say."""
        return self.state is _RECV and not self.data.readable and self.stop_code is None

    def continues_at(self, offset: int) -> bool:
        """In the Recv state, all before ``offset`` is here and nothing after it: ``receive_run`` may follow."""
        return self.state is ReceiveState.RECV and self.stop_code is None and self.data.continues_at(offset)

    def waits_before(self, offset: int) -> bool:
        """In the Recv state, its end unknown, with something missing before ``offset``."""
        is_receiving = self.state is ReceiveState.RECV and self.stop_code is None and self.final_size is None
        return is_receiving and offset > self.data.end

    def receive_run(self, chunks: list[bytes], stop: int, frame_type: int) -> None:
        """The data of several STREAM frames, each beginning where the one before ended, the last one at ``stop``."""
        growth = stop - self.window.received
        if growth > 0:
            self._use_credit(growth, frame_type)
        self.data.extend(chunks, stop)

    def _use_credit(self, growth: int, frame_type: int) -> None:
        """§4.1: bytes beyond the largest offset so far count for the stream and for the connection."""
        self.window.receive(growth, frame_type)
        window = self._connection_window
        window.receive(growth, frame_type)
        if 2 * (window.received - window.consumed) > window.size:
            self._make_room()

    def _check_gaps(self, frame_type: int) -> bool:
        """Nothing became readable. Losses make few gaps; fragments that never meet cost more than their bytes."""
        if self.data.gaps > MAX_GAPS:
            reason = f"the data of stream {self.stream_id} lies in more than {MAX_GAPS} pieces"
            raise TransportError(TransportErrorCode.INTERNAL_ERROR, reason, frame_type)
        return False

    def _check_final_size(self, stop: int, fin: bool, frame_type: int) -> None:
        """RFC 9000 §4.5: a final size never changes, and nothing lies beyond it."""
        final_size = self.final_size
        if final_size is None:
            if fin and stop < self.window.received:
                reason = f"stream {self.stream_id} ends at {stop}, but {self.window.received} bytes were sent"
                raise TransportError(TransportErrorCode.FINAL_SIZE_ERROR, reason, frame_type)
        elif stop > final_size or (fin and stop != final_size):
            reason = f"stream {self.stream_id} ends at {final_size}, but offset {stop} was sent"
            raise TransportError(TransportErrorCode.FINAL_SIZE_ERROR, reason, frame_type)

    def receive_reset(
        self, code: int, final_size: int, reliable_size: int = 0, frame_type: int = frame.RESET_STREAM
    ) -> bool:
        """RESET_STREAM (§19.4), RESET_STREAM_AT (its draft, §5). True when the application can see a change.

        Data from ``reliable_size`` on is discarded if nobody has read it, and credit returned when the reset shows. The
        draft calls the receiving part complete once it has the data below that; here it stays in Size Known till then.
        """
        self._check_final_size(final_size, True, frame_type)
        self._check_reset_code(code, frame_type)
        growth = final_size - self.window.received
        if growth > 0:
            self.window.receive(growth, frame_type)
            self._connection_window.receive(growth, frame_type)
        self.final_size = final_size
        if self.state >= ReceiveState.DATA_READ:
            return False
        if self.state is ReceiveState.DATA_RECVD and self.stop_code is None:
            return False  # §3.2: all data is here, the reset comes too late to matter
        if reliable_size and self.stop_code is None:
            if self.reliable_size is None or reliable_size < self.reliable_size:  # §5.2: it may only shrink
                self.reliable_size = reliable_size
                self.data.truncate(reliable_size)
            self.state = ReceiveState.SIZE_KNOWN
            self._advance()
        else:
            self._show_reset()
        return True

    def _check_reset_code(self, code: int, frame_type: int) -> None:
        """RESET_STREAM_AT (its draft, §5.2): resets of one stream agree on the code, of whichever kind they are."""
        known = self._reset_code
        if known is not None and code != known and (frame_type != frame.RESET_STREAM or self.reliable_size is not None):
            reason = f"stream {self.stream_id} was reset with code {known:#x}, then with {code:#x}"
            raise TransportError(TransportErrorCode.STREAM_STATE_ERROR, reason, frame_type)
        self._reset_code = code

    def _show_reset(self) -> None:
        self.state = ReceiveState.RESET_RECVD
        self.reset_code = self._reset_code
        self._discard()

    def _advance(self) -> None:
        if self.state is ReceiveState.SIZE_KNOWN:
            if self.reliable_size is not None and self.stop_code is None:
                if self.data.end >= self.reliable_size and not self.data.readable:
                    self._show_reset()
                return
            if self.data.end == self.final_size:
                self.state = ReceiveState.DATA_RECVD
        if self.state is ReceiveState.DATA_RECVD and not self.data.readable:
            self.state = ReceiveState.DATA_READ
        if self.stop_code is not None and self.final_size is not None and self.state < ReceiveState.DATA_READ:
            self.state = ReceiveState.DATA_READ  # everything up to the final size was discarded

    # -- for the application -------------------------------------------------------------------------------------

    def read(self, limit: int = -1) -> bytes:
        """Up to ``limit`` bytes (all with -1), or b"" when none are there now. Grants credit for them."""
        if self.reset_code is not None:
            raise StreamReset(
                f"the peer reset stream {self.stream_id} with code {self.reset_code:#x}",
                stream_id=self.stream_id,
                code=self.reset_code,
            )
        data = self.data.read(limit)
        if data:
            self._consume(len(data))
        if self.final_size is not None and not self.data.readable:
            self._advance()
        return data

    def stop_sending(self, code: int) -> None:
        """Read no more: ask the peer to stop (§3.5), discard what it sends until it does, return the credit."""
        if self.stop_code is not None or self.state >= ReceiveState.DATA_READ:
            return
        self.stop_code = code
        if self.state is ReceiveState.RECV:
            self._stop_sending = SentValue(self._write_stop_sending)
            self._outbox.push(self._stop_sending)
        self._discard()
        self._advance()

    def _write_stop_sending(self) -> bytes | None:
        if self.reset_code is not None or self.final_size is not None or self.stop_code is None:
            return None
        return frame.write_stop_sending(self.stream_id, self.stop_code)

    # -- credit --------------------------------------------------------------------------------------------------

    def _consume(self, amount: int) -> None:
        if self.final_size is not None or self.stop_code is not None:
            self.window.consumed += amount  # the peer needs no more credit here
        elif self.window.consume(amount):
            if self._max_stream_data is None:
                self._max_stream_data = SentValue(self._write_max_stream_data)
            self._outbox.push(self._max_stream_data)
        if self._connection_window.consume(amount) and self._outbox.max_data is not None:
            self._outbox.push(self._outbox.max_data)

    def _make_room(self) -> None:
        """Streams that nobody reads hold half of the connection's window: double it, as far as memory is allowed,
        so that they do not block the others. Each of them is held back by its own window."""
        window = self._connection_window
        if window.grow(min(window.size, window.max_size - window.size)) and self._outbox.max_data is not None:
            self._outbox.push(self._outbox.max_data)

    def _discard(self) -> None:
        """Everything received so far counts as read, whether it was or not."""
        self.data.clear()
        rest = self.window.received - self.window.consumed
        if rest:
            self._consume(rest)

    def _write_max_stream_data(self) -> bytes | None:
        # §3.2: only in the Recv state; a size that is known needs no credit.
        if self.state is not ReceiveState.RECV or self.stop_code is not None:
            return None
        before = self.window.size
        limit = self.window.raise_limit(self._outbox.now, self._outbox.smoothed_rtt)
        if self.window.size > before:
            # The connection's window stays at least twice the largest stream window.
            self._connection_window.grow(min(2 * self.window.size, self._connection_window.max_size)
                                         - self._connection_window.size)  # fmt: skip
        return frame.write_limit(frame.MAX_STREAM_DATA, self.stream_id, limit)

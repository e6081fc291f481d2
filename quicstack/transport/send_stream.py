"""The sending part of a stream (RFC 9000 §3.1): bytes are home here until the peer has acknowledged them."""

from __future__ import annotations

from quicstack.errors import StreamError, StreamStopped
from quicstack.transport.flow_control import SendWindow
from quicstack.transport.outbox import Outbox, SentValue
from quicstack.transport.send_buffer import SendBuffer
from quicstack.transport.stream_states import SendState
from quicstack.wire import frame
from quicstack.wire.varint import VARINT_TAGS, encode_varint, varint_size

__all__ = ["SendStream"]


class SendStream:
    """Buffer, limit and end of one stream. ``limit`` is the peer's MAX_STREAM_DATA, ``buffer_limit`` our own bound."""

    __slots__ = (
        "_blocked", "_blocked_at", "_outbox", "_reset_acked", "_reset_sent", "abandoned", "buffer", "buffer_limit",
        "fin", "fin_acked", "fin_lost", "fin_sent", "held_reset", "limit", "reliable_size", "reset_code", "state",
        "stop_code", "stream_id", "was_full",
    )  # fmt: skip

    def __init__(self, stream_id: int, limit: int, buffer_limit: int, outbox: Outbox) -> None:
        self.stream_id = stream_id
        self.state = SendState.READY
        self.buffer = SendBuffer()
        self.limit = limit
        self.buffer_limit = buffer_limit
        self.fin = False
        self.fin_sent = False
        self.fin_lost = False
        self.fin_acked = False
        self.reset_code: int | None = None
        """Application error code of our own reset."""
        self.reliable_size = 0
        """Of our RESET_STREAM_AT: bytes below it are sent until they are acknowledged."""
        self.abandoned = False
        """RESET_STREAM is on its way, and no data is."""
        self.held_reset: tuple[int, int] | None = None
        """Offset that the peer must have acknowledged, and code, of a reset that waits for it."""
        self.stop_code: int | None = None
        """Application error code of the peer's STOP_SENDING."""
        self.was_full = False
        """A write was cut short; the application wants to know when there is room."""
        self._outbox = outbox
        self._reset_sent = False  # a frame has told the peer code and final size: they stand
        self._reset_acked = False  # RESET_STREAM_AT with the present reliable size
        self._blocked: SentValue | None = None
        self._blocked_at = -1

    # -- for the application -------------------------------------------------------------------------------------

    @property
    def writable(self) -> int:
        """Bytes that ``write`` would accept now."""
        if self.fin or self.reset_code is not None or self.held_reset is not None:
            return 0
        return max(0, self.buffer_limit - self.buffer.buffered)

    def write(self, data: bytes, fin: bool = False) -> int:
        """Take as much of ``data`` as there is room for; ``fin`` counts only if that is all of it."""
        if self.stop_code is not None:
            raise StreamStopped(
                f"the peer stopped stream {self.stream_id} with code {self.stop_code:#x}",
                stream_id=self.stream_id,
                code=self.stop_code,
            )
        if self.fin or self.reset_code is not None or self.held_reset is not None:
            raise StreamError(f"the sending side of stream {self.stream_id} is over", stream_id=self.stream_id)
        room = self.buffer_limit - self.buffer.buffered
        if len(data) >= room:
            self.was_full = True
            if len(data) > room:
                data = data[: max(0, room)]
                fin = False
        self.buffer.write(data)
        self.fin = fin
        return len(data)

    def reset(self, code: int, reliable_size: int = 0) -> bool:
        """Abandon the stream (§3.1). False when that changes nothing: it is over, or was reset like this before.

        The first ``reliable_size`` bytes reach the peer all the same, by RESET_STREAM_AT. If the peer does not know
        that, the reset waits for them, since RESET_STREAM would let a peer that has not read them yet forget them.
        """
        if self.state >= SendState.DATA_RECVD:
            return False
        reliable_size = min(reliable_size, self.buffer.end)
        if self.reset_code is not None and reliable_size >= self.reliable_size:
            return False  # RESET_STREAM_AT, its draft §5.2: the reliable size only shrinks
        if not self._reset_sent:
            self.reset_code = None
        if reliable_size and self._outbox.reset_stream_at:
            self._keep(code, reliable_size)
        elif self.buffer.acked_to < reliable_size:
            self.held_reset = (reliable_size, code)
            self.buffer.truncate(reliable_size)
            self.fin = self.fin_sent
        else:
            self.held_reset = None
            self.state = SendState.RESET_SENT
            self.abandoned = True
            self.reliable_size = 0
            if self.reset_code is None:
                self.reset_code = code
            self.buffer.clear()
            self._outbox.push(SentValue(self._write_reset, self._on_reset_acked, self.stream_id))
        return True

    def _keep(self, code: int, reliable_size: int) -> None:
        """RESET_STREAM_AT (its draft, §5): nothing beyond the reliable size is sent, or sent again."""
        if self.reset_code is None:
            self.reset_code = code
        self.held_reset = None
        self.reliable_size = reliable_size
        self._reset_acked = False
        self.fin = self.fin_lost = False
        buffer = self.buffer
        buffer.truncate(reliable_size)
        buffer.lost.subtract(reliable_size, buffer.end)
        self._push_reset_at()

    def _push_reset_at(self) -> None:
        """Its draft, §4: the frame counts as data up to the final size, so it goes when all of that had credit."""
        if self.buffer.next == self.buffer.end:
            size = self.reliable_size
            write, on_acked = (lambda: self._write_reset_at(size)), (lambda: self._on_reset_at_acked(size))
            self._outbox.push(SentValue(write, on_acked, self.stream_id))

    def start_over(self, limit: int) -> None:
        """0-RTT was rejected (RFC 9001 §4.6.2): what was sent is to be sent anew, under another limit."""
        self.limit = limit
        self._blocked_at = -1
        if self.abandoned:
            self.buffer = SendBuffer()  # nothing came before the reset: its final size is 0
            return
        self.buffer.rewind()
        self.fin_sent = self.fin_lost = False
        self.state = SendState.READY

    def refuse(self) -> None:
        """The stream is over before the peer knew of it."""
        self.state = SendState.RESET_RECVD
        self.abandoned = True
        self.reset_code = self.reset_code or 0
        self.buffer.clear()

    # -- sending -------------------------------------------------------------------------------------------------

    def has_work(self, window: SendWindow) -> bool:
        """A STREAM frame could be written now, given credit for ``window``."""
        buffer = self.buffer
        if self.abandoned:
            return False
        if buffer.lost.starts or self.fin_lost:
            return True
        if buffer.next < buffer.end:
            return buffer.next < self.limit and window.used < window.limit
        return self.fin and not self.fin_sent

    @property
    def has_new_data(self) -> bool:
        """Bytes that were never sent: what credit is needed for."""
        return self.buffer.next < self.buffer.end

    def next_frame(self, capacity: int, window: SendWindow) -> tuple[bytes, tuple[int, int, bool]] | None:  # hot path
        """A STREAM frame of at most ``capacity`` bytes, and (start, stop, fin) of what it carries. Lost bytes first."""
        buffer = self.buffer
        if self.abandoned:
            return None
        if buffer.lost.starts:
            start, available = buffer.lost.starts[0], buffer.lost.stops[0]
            is_new = False
        else:
            start = buffer.next
            available = min(buffer.end, self.limit, start + window.limit - window.used)
            is_new = True
        # §19.8: without a length the data runs to the end of the packet, which suits a frame that fills it.
        room = capacity - 1 - varint_size(self.stream_id) - (varint_size(start) if start else 0)
        length = available - start
        if length >= room:
            if room <= 0:
                return None
            length = room
            explicit = None
        else:
            room -= varint_size(length)
            if room < 0:
                return None
            explicit = length = min(length, room)
        stop = start + length
        fin = self.fin and stop == buffer.end and (is_new or buffer.next == stop)
        if not length and not (fin and (not self.fin_sent or self.fin_lost)):
            return None
        header = frame.stream_header(self.stream_id, start, explicit, fin)
        data = buffer.get(start, stop)
        if is_new:
            buffer.next = stop
            window.used += length
            if self.reset_code is not None:
                self._push_reset_at()
        else:
            buffer.lost.subtract(start, stop)
        if fin:
            self.fin_sent = True
            self.fin_lost = False
            self.state = SendState.DATA_SENT
        elif self.state is SendState.READY:
            self.state = SendState.SEND
        return header + data, (start, stop, fin)

    def full_frames(
        self, capacity: int, count: int, window: SendWindow
    ) -> tuple[list[bytes], range]:  # hot path: benchmarks/engine.py
        """Up to ``count`` frames of new data that fill a packet of ``capacity`` bytes each, and where each starts.

        The common case of a bulk transfer, a train at a time. Both ends of the stream are left to :meth:`next_frame`,
        and so is the frame whose offset takes more bytes than that of the first.
        """
        buffer = self.buffer
        first = buffer.next
        if self.reset_code is not None or buffer.lost.starts or not first:
            return [], range(0)
        head = bytes((frame.STREAM | frame.STREAM_OFF,)) + encode_varint(self.stream_id)
        width = varint_size(first)
        tag = VARINT_TAGS[width]
        step = capacity - len(head) - width
        end = min(buffer.end, self.limit, first + window.limit - window.used, 1 << (8 * width - 2))
        count = min(count, (end - 1 - first) // step)
        if count <= 0:
            return [], range(0)
        end = first + count * step
        data, at = buffer.span(first, end)
        window.used += end - first
        buffer.next = end
        starts = range(first, end, step)
        at -= first
        frames = [
            head + (start | tag).to_bytes(width, "big") + data[start + at : start + at + step] for start in starts
        ]
        return frames, starts

    def note_blocked(self) -> None:
        """§4.1: data is waiting for the peer's MAX_STREAM_DATA; say so once for each limit."""
        if self.buffer.next >= self.limit and self._blocked_at != self.limit and self.buffer.next < self.buffer.end:
            self._blocked_at = self.limit
            if self._blocked is None:
                self._blocked = SentValue(self._write_blocked)
            self._outbox.push(self._blocked)

    def _write_blocked(self) -> bytes | None:
        if self.abandoned or self.buffer.next < self.limit or self.buffer.next == self.buffer.end:
            return None
        return frame.write_limit(frame.STREAM_DATA_BLOCKED, self.stream_id, self.limit)

    def _write_reset(self) -> bytes | None:
        if self.state is not SendState.RESET_SENT or self.reset_code is None:
            return None
        self._reset_sent = True
        return frame.write_reset_stream(self.stream_id, self.reset_code, self.buffer.next)

    def _write_reset_at(self, reliable_size: int) -> bytes | None:
        if self.state >= SendState.DATA_RECVD or reliable_size != self.reliable_size or self.reset_code is None:
            return None  # over, or another frame says less
        self._reset_sent = True
        self.state = SendState.DATA_SENT
        return frame.write_reset_stream_at(self.stream_id, self.reset_code, self.buffer.next, reliable_size)

    # -- from the peer -------------------------------------------------------------------------------------------

    def on_acked(self, start: int, stop: int, fin: bool) -> bool:  # hot path
        """These bytes arrived. True when the application can see a change."""
        if self.abandoned or self.state is SendState.DATA_RECVD:
            return False
        buffer = self.buffer
        buffer.on_acked(start, stop)
        if fin:
            self.fin_acked = True
            self.fin_lost = False
        if self.fin_acked and buffer.acked_to == buffer.end:
            self.state = SendState.DATA_RECVD
            return True
        if self.reset_code is not None:
            return self._settle_reset_at()
        if self.held_reset is not None:
            keep, code = self.held_reset
            return self.reset(code, keep) and self.reset_code is not None
        if self.was_full and 2 * buffer.buffered <= self.buffer_limit:
            self.was_full = False
            return True
        return False

    def on_lost(self, start: int, stop: int, fin: bool) -> bool:
        """These bytes did not arrive. True when there is something to send again."""
        if self.abandoned or self.state is SendState.DATA_RECVD:
            return False
        if self.reset_code is not None:
            stop, fin = min(stop, self.reliable_size), False
        self.buffer.on_lost(start, stop)
        if fin and not self.fin_acked:
            self.fin_lost = True
        return bool(self.buffer.lost.starts) or self.fin_lost

    def _settle_reset_at(self) -> bool:
        """RESET_STREAM_AT (its draft, §5.3): the frame and the data below its reliable size are acknowledged."""
        if self._reset_acked and self.buffer.acked_to >= self.reliable_size:
            self.state = SendState.DATA_RECVD
            self.buffer.clear()
            return True
        return False

    def _on_reset_at_acked(self, reliable_size: int) -> None:
        if reliable_size == self.reliable_size and self.state is SendState.DATA_SENT:
            self._reset_acked = True
            self._settle_reset_at()

    def receive_stop_sending(self, code: int) -> bool:
        """STOP_SENDING (§3.5): answered by RESET_STREAM with the same code, unless all was acknowledged."""
        if self.stop_code is not None or self.state >= SendState.DATA_RECVD:
            return False
        self.stop_code = code
        self.reset(code)
        return True

    def _on_reset_acked(self) -> None:
        self.state = SendState.RESET_RECVD

"""Bytes on their way to the peer: kept from ``write`` until acknowledged, in one place (RFC 9000 §2.2, §13.3)."""

from __future__ import annotations

from quicstack.wire.ranges import RangeSet

__all__ = ["SendBuffer"]

_TRIM = 1 << 16


class SendBuffer:
    """Below offset ``acked_to`` all is acknowledged; ``next`` is the first byte never sent, ``end`` the last + 1."""

    __slots__ = ("_acked", "_base", "_data", "acked_to", "end", "lost", "next")

    def __init__(self) -> None:
        self._data = bytearray()
        self._base = 0  # offset of the first byte of _data
        self.acked_to = 0
        self.next = 0
        self.end = 0
        self.lost = RangeSet()
        """Sent, declared lost and not yet sent again."""
        self._acked = RangeSet()  # beyond acked_to

    def write(self, data: bytes) -> None:
        self._data += data
        self.end += len(data)

    @property
    def buffered(self) -> int:
        """Bytes written and not yet acknowledged in sequence."""
        return self.end - self.acked_to

    @property
    def has_data(self) -> bool:
        """Something is waiting: lost bytes, or bytes never sent."""
        return self.next < self.end or bool(self.lost.starts)

    def get(self, start: int, stop: int) -> bytearray:  # hot path
        base = self._base
        return self._data[start - base : stop - base]

    def take(self, start: int, stop: int) -> bytes:  # hot path
        """The same as bytes, with one copy."""
        base = self._base
        with memoryview(self._data) as view:
            return bytes(view[start - base : stop - base])

    def mark_sent(self, start: int, stop: int) -> None:  # hot path
        if start == self.next:
            self.next = stop
        else:
            self.lost.subtract(start, stop)

    def on_acked(self, start: int, stop: int) -> None:  # hot path
        """The peer has these bytes."""
        if self.lost.starts:
            self.lost.subtract(start, stop)
        if start > self.acked_to:
            self._acked.add(start, stop)
            return
        if stop <= self.acked_to:
            return
        acked = self._acked
        while acked.starts and acked.starts[0] <= stop:
            stop = max(stop, acked.pop_first()[1])
        self.acked_to = stop
        if stop - self._base >= _TRIM or stop == self.end:
            del self._data[: stop - self._base]
            self._base = stop

    def on_lost(self, start: int, stop: int) -> None:
        """A packet with these bytes is lost: what nobody acknowledged since goes out again."""
        for gap_start, gap_stop in self._acked.missing(max(start, self.acked_to), stop):
            self.lost.add(gap_start, gap_stop)

    def rewind(self) -> None:
        """Nothing was acknowledged, or will be: all that was sent is new again."""
        self.next = self.acked_to
        self.lost = RangeSet()

    def truncate(self, keep: int) -> None:
        """Forget what was never sent beyond offset ``keep``."""
        end = max(keep, self.next)
        if end < self.end:
            del self._data[end - self._base :]
            self.end = end

    def clear(self) -> None:
        """Forget all bytes: they will not be sent (again)."""
        self._data = bytearray()
        self._base = self.acked_to = self.end = self.next
        self.lost = RangeSet()
        self._acked = RangeSet()

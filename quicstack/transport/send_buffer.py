"""Bytes on their way to the peer: kept from ``write`` until acknowledged, in one place (RFC 9000 §2.2, §13.3).

They stay as they were written, in pieces, and are copied once, into the packet that carries them. An array that grows
is copied whenever it is full: at 2 MiB that was eight copies of every byte. A piece is held until its last byte is
acknowledged, so up to twice as much is held as is buffered at most.
"""

from __future__ import annotations

from bisect import bisect_right

from quicstack.wire.ranges import RangeSet

__all__ = ["SendBuffer"]

_SMALL = 4096
"""Pieces that are smaller together become one, so that there are not too many."""


class SendBuffer:
    """Below offset ``acked_to`` all is acknowledged; ``next`` is the first byte never sent, ``end`` the last + 1."""

    __slots__ = ("_acked", "_pieces", "_starts", "acked_to", "end", "lost", "next")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._starts: list[int] = []  # their offsets in the stream
        self.acked_to = 0
        self.next = 0
        self.end = 0
        self.lost = RangeSet()
        """Sent, declared lost and not yet sent again."""
        self._acked = RangeSet()  # beyond acked_to

    def write(self, data: bytes) -> None:
        """Keep ``data``; what can change is copied."""
        size = len(data)
        if not size:
            return
        pieces = self._pieces
        if pieces and len(pieces[-1]) + size <= _SMALL:
            pieces[-1] += data
        else:
            pieces.append(data if type(data) is bytes else bytes(data))
            self._starts.append(self.end)
        self.end += size

    @property
    def buffered(self) -> int:
        """Bytes written and not yet acknowledged in sequence."""
        return self.end - self.acked_to

    @property
    def has_data(self) -> bool:
        """Something is waiting: lost bytes, or bytes never sent."""
        return self.next < self.end or bool(self.lost.starts)

    def get(self, start: int, stop: int) -> bytes:  # hot path
        """These bytes of the stream."""
        if len(self._pieces) == 1:  # a small message
            data, at = self._pieces[0], start - self._starts[0]
        elif start == stop:
            return b""
        else:
            data, at = self.span(start, stop)
        return data[at : at + stop - start]

    def span(self, start: int, stop: int) -> tuple[bytes, int]:  # hot path
        """What holds these bytes, of which there are some, and at which place: no copy if one piece has them all."""
        starts, pieces = self._starts, self._pieces
        index = bisect_right(starts, start) - 1
        at, piece = start - starts[index], pieces[index]
        missing = stop - start - (len(piece) - at)
        if missing <= 0:
            return piece, at
        parts = [piece[at:]]
        while missing > 0:
            index += 1
            parts.append(pieces[index][:missing])
            missing -= len(parts[-1])
        return b"".join(parts), 0

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
        pieces, starts = self._pieces, self._starts
        if stop == self.end:
            pieces.clear()
            starts.clear()
        elif stop - starts[0] >= len(pieces[0]):
            count = bisect_right(starts, stop) - 1
            del pieces[:count], starts[:count]

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
            kept = self.get(self.acked_to, end)
            self._pieces, self._starts = ([kept], [self.acked_to]) if kept else ([], [])
            self.end = end

    def clear(self) -> None:
        """Forget all bytes: they will not be sent (again)."""
        self._pieces, self._starts = [], []
        self.acked_to = self.end = self.next
        self.lost = RangeSet()
        self._acked = RangeSet()

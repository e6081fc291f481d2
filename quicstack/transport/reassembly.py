"""Bytes that arrive in any order become a sequence (RFC 9000 §2.2): streams and CRYPTO data alike."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from quicstack.wire.ranges import RangeSet

__all__ = ["Reassembly"]

MAX_OFFSET = 1 << 62
_SMALL, _JOINED = 64, 1024
"""Chunks below the first size are joined to chunks below the second; behind a gap, two that are smaller together."""


_STARTS: list[int] = []
_PIECES: list[bytes] = []
_NOWHERE = RangeSet()
"""What lies behind gaps in all streams without gaps. Nothing is ever put in here."""


class Reassembly:
    """Contiguous bytes wait in ``chunks`` to be read; the rest lies in ``pieces`` behind gaps, as it came.

    Memory is bounded by the span that flow control admits and by the gaps that whoever calls admits: pieces that touch
    have 1024 bytes together. Bytes received first win over later ones at the same offset.
    """

    __slots__ = ("_chunks", "_head", "_pieces", "_ranges", "_starts", "end", "readable")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []  # an empty deque takes ten times as much memory
        self._head = 0  # bytes of the first chunk that were read already
        self.end = 0
        """Offset up to which everything has been received."""
        self.readable = 0
        self._starts, self._pieces = _STARTS, _PIECES  # sorted by their offsets, disjoint
        self._ranges = _NOWHERE  # what the pieces cover

    @property
    def gaps(self) -> int:
        """Disjoint ranges waiting behind a gap."""
        return len(self._ranges)

    def add(self, offset: int, data: bytes) -> bool:  # hot path
        """Store ``data``. True when there is more to read than before."""
        end = self.end
        stop = offset + len(data)
        if offset == end and (not self._pieces or stop <= self._starts[0]):
            if not data:
                return False
            self._append(data)
            self.readable += len(data)
            self.end = stop
            if self._pieces:
                self._advance()
            return True
        if stop <= end:
            return False
        if offset < end:
            data = data[end - offset :]
            offset = end
        self._keep(offset, data, stop)
        return self._advance()

    def continues_at(self, offset: int) -> bool:
        """``offset`` is where the next byte belongs, and nothing waits behind a gap: ``extend`` may follow."""
        return offset == self.end and not self._pieces

    def extend(self, chunks: list[bytes], stop: int) -> None:
        """Store chunks that follow each other, from ``end`` to ``stop``."""
        size = stop - self.end
        if size < _SMALL * len(chunks):
            self._append(b"".join(chunks))
        else:
            self._chunks.extend(chunks)
        self.readable += size
        self.end = stop

    def _append(self, data: bytes) -> None:
        """Small chunks are joined: an object for each byte would cost thirty times the bytes."""
        chunks = self._chunks
        if len(data) < _SMALL and chunks and len(chunks[-1]) < _JOINED:
            chunks[-1] += data
        else:
            chunks.append(data)

    def _keep(self, offset: int, data: bytes, stop: int) -> None:
        """Keep what is new of ``data``, which ends at ``stop``, among the pieces."""
        if self._ranges is _NOWHERE:
            self._starts, self._pieces, self._ranges = [], [], RangeSet()
        for start, end in self._ranges.missing(offset, stop):
            self._insert(start, data[start - offset : end - offset])
        self._ranges.add(offset, stop)

    def _insert(self, start: int, piece: bytes) -> None:
        """One more piece, joined with those that it touches if both are small."""
        starts, pieces = self._starts, self._pieces
        index = bisect_right(starts, start)
        if len(piece) < _JOINED:
            before = index - 1
            if index and starts[before] + len(pieces[before]) == start and len(pieces[before]) + len(piece) < _JOINED:
                index, start = before, starts.pop(before)
                piece = pieces.pop(before) + piece
            is_touched = index < len(starts) and start + len(piece) == starts[index]
            if is_touched and len(piece) + len(pieces[index]) < _JOINED:
                del starts[index]
                piece += pieces.pop(index)
        starts.insert(index, start)
        pieces.insert(index, piece)

    def _advance(self) -> bool:
        """Whether the first gap is closed. What it held back can be read then."""
        ranges = self._ranges
        if not ranges.starts or ranges.starts[0] > self.end:
            return False
        _, stop = ranges.pop_first()
        count = bisect_left(self._starts, stop)
        for piece in self._pieces[:count]:
            self._append(piece)
        del self._starts[:count], self._pieces[:count]
        self.readable += stop - self.end
        self.end = stop
        return True

    def truncate(self, offset: int) -> None:
        """Forget what lies from ``offset`` on, as far as it was not read."""
        excess = min(self.end - offset, self.readable)
        if excess > 0:
            kept = self.peek(self.readable - excess)
            self._chunks = [kept] if kept else []
            self._head = 0
            self.readable -= excess
            self.end -= excess
            self._forget_pieces()
        elif self._pieces:
            self._ranges.subtract(max(offset, self.end), MAX_OFFSET)
            starts, pieces = self._starts, self._pieces
            count = bisect_left(starts, offset)
            del starts[count:], pieces[count:]
            if pieces:
                pieces[-1] = pieces[-1][: offset - starts[-1]]

    def read(self, limit: int = -1) -> bytes:
        """Take up to ``limit`` contiguous bytes (all with -1)."""
        chunks = self._chunks
        if limit < 0 or limit >= self.readable:
            if not chunks:
                return b""
            if self._head:
                chunks[0] = chunks[0][self._head :]
                self._head = 0
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self.readable = 0
            return data
        head = self._head
        data = chunks[0][head : head + limit]
        if head + limit < len(chunks[0]):  # a small piece of what came at once
            self._head = head + limit
            self.readable -= limit
            return data
        data = self.peek(limit)
        self.readable -= limit
        used = 0
        while limit:
            rest = len(chunks[used]) - self._head
            if rest > limit:
                self._head += limit
                break
            limit -= rest
            used += 1
            self._head = 0
        del chunks[:used]
        return data

    def peek(self, limit: int = -1) -> bytes:
        """The same bytes, left in place."""
        if limit < 0 or limit > self.readable:
            limit = self.readable
        head = self._head
        if len(self._chunks) == 1:
            return self._chunks[0][head : head + limit]
        parts = []
        for chunk in self._chunks:
            if limit <= 0:
                break
            part = chunk[head : head + limit] if head or len(chunk) > limit else chunk
            parts.append(part)
            limit -= len(part)
            head = 0
        return b"".join(parts)

    def clear(self) -> None:
        """Forget all bytes; ``end`` stays."""
        self._chunks.clear()
        self._head = 0
        self.readable = 0
        self._forget_pieces()

    def _forget_pieces(self) -> None:
        self._starts, self._pieces, self._ranges = _STARTS, _PIECES, _NOWHERE

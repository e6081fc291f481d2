"""Datagrams waiting to be sent or read (RFC 9221 §5): bounded both ways, because nobody is told when one is lost."""

from __future__ import annotations

from collections import deque

__all__ = ["DatagramQueue"]


class DatagramQueue:
    """First in, first out, with a bound on the bytes held. Counts what it had to refuse."""

    __slots__ = ("_items", "_limit", "dropped", "size")

    OVERHEAD = 64
    """What an entry costs beside its bytes, so that empty datagrams are bounded too."""

    def __init__(self, limit: int) -> None:
        self._items: deque[bytes] | tuple[()] = ()  # an empty deque takes 700 bytes of every connection
        self._limit = limit
        self.size = 0
        """Bytes held, each entry with its overhead: 0 only when there are none."""
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, data: bytes, *, drop_oldest: bool = False) -> bool:
        """Append. When full: False, or with ``drop_oldest`` the oldest make room (a reader wants the newest)."""
        cost = len(data) + self.OVERHEAD
        if self.size + cost > self._limit:
            if not drop_oldest:
                self.dropped += 1
                return False
            while self._items and self.size + cost > self._limit:
                self.pop()
                self.dropped += 1
        if not self._items:
            self._items = deque()
        self._items.append(data)
        self.size += cost
        return True

    def peek(self) -> bytes | None:
        return self._items[0] if self._items else None

    def pop(self) -> bytes:
        if not self._items:
            raise IndexError("the queue is empty")
        data = self._items.popleft()
        self.size -= len(data) + self.OVERHEAD
        return data

    def clear(self) -> None:
        self._items = ()
        self.size = 0

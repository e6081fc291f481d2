"""Which stream sends next: the order in which streams that have something to send are served (RFC 9000 §2.3).

A scheduler hands out turns; a turn is one STREAM frame, so at most a packet. It does no I/O and knows no time.
Priorities have the words of RFC 9218 §4: urgency 0 (first) to 7 (last), and incremental or not. A stream of which
nobody said anything is incremental with urgency 3: streams share the connection evenly until somebody asks for more.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from quicstack.transport.stream import Stream

__all__ = [
    "DEFAULT_URGENCY",
    "MAX_URGENCY",
    "FirstComeFirstServed",
    "RoundRobin",
    "StreamScheduler",
    "UrgencyScheduler",
]

DEFAULT_URGENCY = 3
MAX_URGENCY = 7


class StreamScheduler(Protocol):
    """Streams that have something to send, each at most once, and whose turn it is. Write your own.

    ``urgency`` and ``incremental`` of a stream change only while it is not in here.
    """

    def push(self, stream: Stream) -> None:
        """The stream has something to send, and is not in here."""

    def peek(self) -> Stream | None:
        """Whose turn it is; None when nobody waits. The same one until something changes."""

    def served(self, size: int) -> None:
        """The stream that ``peek`` returned has written a frame of so many bytes, and may have more."""

    def remove(self, stream: Stream) -> None:
        """The stream, which is in here, has nothing to send any more, or is about to get another priority."""

    def clear(self) -> None:
        """Nothing is sent any more."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Stream]:
        """Every stream that waits, in any order."""


class RoundRobin:
    """One frame each in turn, whatever their priorities."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        self._ring: deque[Stream] = deque()

    def push(self, stream: Stream) -> None:
        self._ring.append(stream)

    def peek(self) -> Stream | None:
        return self._ring[0] if self._ring else None

    def served(self, size: int) -> None:
        self._ring.rotate(-1)

    def remove(self, stream: Stream) -> None:
        self._ring.remove(stream)

    def clear(self) -> None:
        self._ring.clear()

    def __len__(self) -> int:
        return len(self._ring)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._ring)


class FirstComeFirstServed(RoundRobin):
    """Whoever had something to send first sends all it has, or may send, before the next one, whatever their
    priorities. A stream that never runs dry keeps the others waiting: for applications that write messages."""

    __slots__ = ()

    def served(self, size: int) -> None:
        pass


def _id(stream: Stream) -> int:
    return stream.id


class _Level:
    """Streams of one urgency. The one whose turn it is stands at the left of ``ring``.

    Of those that are not incremental only one is in the ring, the one with the lowest id; the others are ``later``. So
    it shares with the incremental ones as if it were one of them, and nobody starves.
    """

    __slots__ = ("head", "later", "ring")

    def __init__(self) -> None:
        self.ring: deque[Stream] = deque()
        self.head: Stream | None = None
        self.later: list[Stream] = []

    def push_in_order(self, stream: Stream) -> None:
        head = self.head
        if head is None:
            self.ring.append(stream)
        elif stream.id < head.id:
            self.ring[self.ring.index(head)] = stream
            self.later.insert(0, head)
        else:
            insort(self.later, stream, key=_id)
            return
        self.head = stream

    def remove(self, stream: Stream) -> None:
        if stream is not self.head:
            (self.ring if stream.incremental else self.later).remove(stream)
        elif self.later:
            self.head = self.later.pop(0)
            self.ring[self.ring.index(stream)] = self.head
        else:
            self.head = None
            self.ring.remove(stream)


_NOBODY: deque[Stream] = deque()
"""The ring of all schedulers that had no stream yet: an empty deque takes 700 bytes of every connection."""


class UrgencyScheduler:
    """The default: the lowest urgency first. Streams of one urgency take turns, one frame each, if they are
    incremental; those that are not come one after another in the order of their ids (RFC 9218 §10)."""

    __slots__ = ("_count", "_first", "_levels", "_ring")

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._first = DEFAULT_URGENCY
        self._ring = _NOBODY  # of the most urgent ones that wait
        self._count = 0

    def push(self, stream: Stream) -> None:
        urgency = stream.urgency
        level = self._levels.get(urgency)
        if level is None:
            level = self._levels[urgency] = _Level()
        if stream.incremental:
            level.ring.append(stream)
        else:
            level.push_in_order(stream)
        if urgency < self._first or not self._count:
            self._first, self._ring = urgency, level.ring
        self._count += 1

    def peek(self) -> Stream | None:  # hot path
        return self._ring[0] if self._ring else None

    def served(self, size: int) -> None:  # hot path
        self._ring.rotate(-1)

    def remove(self, stream: Stream) -> None:
        self._levels[stream.urgency].remove(stream)
        self._count -= 1
        if self._count and not self._ring:
            self._first = min(urgency for urgency, level in self._levels.items() if level.ring)
            self._ring = self._levels[self._first].ring

    def clear(self) -> None:
        for level in self._levels.values():
            level.ring.clear()
            level.later.clear()
            level.head = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Stream]:
        return chain.from_iterable(chain(level.ring, level.later) for level in self._levels.values())

"""When each connection of an endpoint wants to be called."""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

__all__ = ["Deadlines"]


class _HasDeadline(Protocol):
    def next_timeout(self) -> float | None: ...


Who = TypeVar("Who", bound=_HasDeadline)


class Deadlines(Generic[Who]):
    """A heap in which nothing is ever moved back: a deadline that has become later is found out when its time comes.

    Whoever was touched is asked only when somebody wants to know the earliest deadline, once for many touches: asking
    takes as long as sealing a packet, and there were 2.6 touches for each packet of a request with its answer.
    """

    __slots__ = ("_heap", "_known", "_sequence", "_touched")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Who]] = []
        """When, a number that orders equal times, and who. Only what ``_known`` names counts."""
        self._known: dict[Who, tuple[float, int, Who]] = {}
        self._touched: dict[Who, None] = {}
        self._sequence = 0

    def touch(self, who: Who) -> None:
        """Its deadline may be another one."""
        self._touched[who] = None

    def discard(self, who: Who) -> None:
        self._known.pop(who, None)
        self._touched.pop(who, None)

    def settle(self) -> list[Who]:
        """Ask all that were touched; returns those that have no deadline any more."""
        touched = self._touched
        if not touched:
            return []
        self._touched = {}
        gone: list[Who] = []
        for who in touched:
            deadline = who.next_timeout()
            if deadline is None:
                gone.append(who)
                continue
            known = self._known.get(who)
            if known is None or deadline < known[0]:
                self._sequence += 1
                self._known[who] = entry = (deadline, self._sequence, who)
                if len(self._heap) > 2 * len(self._known) + 64:
                    self._heap = list(self._known.values())  # without what was moved since
                    heapq.heapify(self._heap)
                else:
                    heapq.heappush(self._heap, entry)
        return gone

    def earliest(self) -> float | None:
        heap = self._heap
        while heap:
            if self._known.get(heap[0][2]) is heap[0]:
                return heap[0][0]
            heapq.heappop(heap)  # was moved, or is gone
        return None

    def take_due(self, now: float) -> list[Who]:
        """Those whose time has come, each once; they are to be touched again."""
        heap = self._heap
        due: list[Who] = []
        while heap and heap[0][0] <= now:
            entry = heapq.heappop(heap)
            if self._known.get(entry[2]) is entry:
                del self._known[entry[2]]
                due.append(entry[2])
        return due

"""Virtual time: a heap of things to do, and a clock that leaps from each to the next.

Nothing waits. A run costs what its events cost, so six weeks of silence take no longer than a millisecond of it. Events
of the same instant run in the order they were scheduled, which keeps every run with the same seed the same.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["Clock", "Timer"]


class Clock:
    """``now`` in virtual seconds, and the events to come."""

    __slots__ = ("_events", "_sequence", "now")

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, time: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Call ``callback(*arguments)`` at ``time``, or as the last thing of this instant if that has passed."""
        self._sequence += 1
        heappush(self._events, (time if time > self.now else self.now, self._sequence, callback, arguments))

    def after(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> None:
        """Call ``callback(*arguments)`` so many seconds from now."""
        self.at(self.now + seconds, callback, *arguments)

    def next_time(self) -> float | None:
        """When the next event is due; None when nothing will ever happen again."""
        return self._events[0][0] if self._events else None

    def step(self) -> None:
        """Leap to the next event and run it."""
        self.now, _, callback, arguments = heappop(self._events)
        callback(*arguments)

    def __len__(self) -> int:
        return len(self._events)


class Timer:
    """One deadline that moves often, as an endpoint's does with every packet.

    The heap is not searched when the deadline moves: an entry that comes due too early puts itself off. Entries of one
    timer come due in the reverse of the order they were made, so a stack of their times is all there is to know.
    """

    __slots__ = ("_armed", "_callback", "_clock", "deadline")

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self.deadline: float | None = None
        self._clock = clock
        self._callback = callback
        self._armed: list[float] = []

    def set(self, deadline: float | None) -> None:
        """Fire at ``deadline`` and not at any time set before; None: do not fire."""
        self.deadline = deadline
        if deadline is not None and (not self._armed or deadline < self._armed[-1]):
            self._armed.append(deadline)
            self._clock.at(deadline, self._due)

    def _due(self) -> None:
        self._armed.pop()
        if self.deadline is not None and self.deadline <= self._clock.now:
            self.deadline = None
            self._callback()
        else:
            self.set(self.deadline)

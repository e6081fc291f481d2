"""A set of integers kept as sorted, disjoint, half-open ranges: received packet numbers, bytes received, bytes acked.

The common case in all three is that the next range continues the last one; it costs two comparisons.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["RangeSet"]


_NONE: list[int] = []
"""What every empty set shares: two lists would cost each of them 112 bytes, and most sets of a connection are empty."""


class RangeSet:
    """``starts[i] .. stops[i]-1`` are the members; ``stops[i] < starts[i+1]`` always holds."""

    __slots__ = ("starts", "stops")

    def __init__(self) -> None:
        self.starts = self.stops = _NONE

    def add(self, start: int, stop: int) -> None:
        """Add every integer from ``start`` up to, not including, ``stop``."""
        if start >= stop:
            return
        starts, stops = self.starts, self.stops
        if not stops:
            self.starts, self.stops = [start], [stop]
            return
        if start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            return
        if start >= starts[-1]:
            if stop > stops[-1]:
                stops[-1] = stop
            return
        first = bisect_left(stops, start)  # first range that touches or follows
        last = bisect_right(starts, stop)  # one past the last range that touches
        if first < last:
            start = min(start, starts[first])
            stop = max(stop, stops[last - 1])
        starts[first:last] = [start]
        stops[first:last] = [stop]

    def subtract(self, start: int, stop: int) -> None:
        """Remove every integer from ``start`` up to, not including, ``stop``."""
        if start >= stop:
            return
        starts, stops = self.starts, self.stops
        first = bisect_right(stops, start)
        last = bisect_left(starts, stop)
        if first >= last:
            return
        keep_starts, keep_stops = [], []
        if starts[first] < start:
            keep_starts.append(starts[first])
            keep_stops.append(start)
        if stops[last - 1] > stop:
            keep_starts.append(stop)
            keep_stops.append(stops[last - 1])
        starts[first:last] = keep_starts
        stops[first:last] = keep_stops

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of ``start..stop`` that are not members, in order."""
        gaps = []
        index = bisect_right(self.stops, start)
        while start < stop:
            if index == len(self.starts) or self.starts[index] >= stop:
                gaps.append((start, stop))
                break
            if self.starts[index] > start:
                gaps.append((start, self.starts[index]))
            start = self.stops[index]
            index += 1
        return gaps

    def pop_first(self) -> tuple[int, int]:
        """Remove and return the lowest range."""
        return self.starts.pop(0), self.stops.pop(0)

    def __contains__(self, value: int) -> bool:
        index = bisect_right(self.starts, value) - 1
        return index >= 0 and value < self.stops[index]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.stops, strict=True)

    def __len__(self) -> int:
        return len(self.starts)

    def __repr__(self) -> str:
        return "RangeSet(" + ", ".join(f"{a}..{b - 1}" for a, b in self) + ")"

"""Has everything been lost for too long? (RFC 9002 §7.6)

Persistent congestion is a fact about time, not about one space: two ack-eliciting packets, sent further apart than the
persistent congestion duration, are lost, and nothing sent between them, in any space, was acknowledged. What has to be
remembered for that is small. The send times of acknowledged packets are kept as intervals; two that are closer than the
duration are one interval, because no persistent congestion fits between them. On a working path that is one interval.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from quicstack.recovery.sent_packet import SentPacket

__all__ = ["PersistentCongestion", "kPersistentCongestionThreshold"]

kPersistentCongestionThreshold = 3
"""RFC 9002 §7.6.1: the duration in probe timeouts."""

MAX_INTERVALS = 8
"""How many silences of the path are remembered; older ones can no longer be persistent congestion news."""


class PersistentCongestion:
    """Intervals of send times known to have got through, and the lost stretches found between them so far."""

    __slots__ = ("_ends", "_lost", "_starts")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new path, or persistent congestion was declared: what was lost until now is used up."""
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._lost: list[tuple[float, float]] = []

    def on_packets_acked(self, packets: Sequence[SentPacket], duration: float) -> None:
        """``packets`` in the order they were sent."""
        first, last = packets[0].time_sent, packets[-1].time_sent
        if last - first <= duration:
            self._add(first, last, duration)
        else:
            for packet in packets:
                self._add(packet.time_sent, packet.time_sent, duration)

    def _add(self, first: float, last: float, duration: float) -> None:
        starts, ends = self._starts, self._ends
        if starts and starts[-1] <= first <= ends[-1] + duration:
            if last > ends[-1]:
                ends[-1] = last
            return
        low = bisect_left(ends, first - duration)
        high = bisect_right(starts, last + duration)
        if low < high:
            first, last = min(first, starts[low]), max(last, ends[high - 1])
        starts[low:high] = [first]
        ends[low:high] = [last]
        if len(starts) > MAX_INTERVALS:
            del starts[0], ends[0]

    def on_packets_lost(self, packets: Sequence[SentPacket], duration: float, since: float) -> bool:
        """Whether these losses complete a stretch that is long enough. Only packets sent after ``since`` count.

        ``since`` is the time of the first RTT sample: before it, the timeout was a guess (RFC 9002 §7.6.2).
        """
        stretches: dict[int, tuple[float, float]] = {}
        times = [p.time_sent for p in packets if p.ack_eliciting and not p.is_mtu_probe and p.time_sent > since]
        for first, last in [*self._lost, *((time, time) for time in times)]:
            gap = bisect_right(self._ends, first)
            if gap == bisect_right(self._ends, last) and (gap == len(self._starts) or self._starts[gap] >= last):
                known = stretches.get(gap, (first, last))
                stretches[gap] = (min(known[0], first), max(known[1], last))
        self._lost = list(stretches.values())[-MAX_INTERVALS:]
        return any(last - first > duration for first, last in self._lost)

"""The link between two endpoints, without sockets: when does a datagram come out, and in what state?

The runner's network: 10 Mbit/s, 15 ms each way, 25 packets in the queue, and then one of its scenarios. A fault strikes
at the far end of the link, after a datagram has taken its time on it, as the runner's simulator has it.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["MTU", "Faults", "Link"]

MTU: Final = 1500
UDP_HEADER: Final = 8


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong. Rates are probabilities for each datagram, the same both ways."""

    drop: float = 0.0
    corrupt: float = 0.0
    burst: int = 0
    """So many datagrams in a row are struck at most; 0 is any number."""
    drops_to_server: frozenset[int] = frozenset()
    """Datagrams of the client that are lost, counted from 1."""
    on: float = 0.0
    off: float = 0.0
    """``on`` seconds of service, then ``off`` seconds in which nothing passes, and so on."""
    first_rebind: float = 0.0
    rebind_every: float = 0.0
    """The NAT forgets its mappings, at first so many seconds after the first datagram."""
    rebinds_address: bool = False
    """A new mapping has another IP address too, not only another port."""

    def is_dark(self, since_start: float) -> bool:
        return self.off > 0 and since_start % (self.on + self.off) >= self.on


class Link:
    """One direction. Time is an argument, and so is chance."""

    def __init__(
        self,
        chance: random.Random,
        faults: Faults,
        *,
        rate: float = 10e6,
        queue: int = 25,
        delay: float = 0.015,
        drops: frozenset[int] = frozenset(),
    ) -> None:
        self.faults = faults
        self.rate = rate
        self.queue = queue
        self.delay = delay
        self.drops = drops
        self.count = 0
        self._chance = chance
        self._free_at = 0.0
        self._waiting: deque[float] = deque()
        self._in_a_row = 0

    def enter(self, now: float, size: int) -> float | None:
        """When a datagram whose IP packet has ``size`` bytes comes out; None if the queue is full or it is too big."""
        if size > MTU:
            return None
        while self._waiting and self._waiting[0] <= now:
            self._waiting.popleft()
        if len(self._waiting) >= self.queue:
            return None
        start = max(now, self._free_at)
        if start > now:
            self._waiting.append(start)
        self._free_at = start + size * 8 / self.rate
        return self._free_at + self.delay

    def leave(self, since_start: float, data: bytes) -> bytes | None:
        """What arrives at the far end, None if nothing does."""
        self.count += 1
        if self.count in self.drops or self.faults.is_dark(since_start):
            return None
        rate = self.faults.drop or self.faults.corrupt
        may_strike = not self.faults.burst or self._in_a_row < self.faults.burst
        if not may_strike or self._chance.random() >= rate:
            self._in_a_row = 0
            return data
        self._in_a_row += 1
        return None if self.faults.drop else self._corrupted(data)

    def _corrupted(self, data: bytes) -> bytes:
        """One byte becomes another one; the UDP checksum is made anew, so that only QUIC can notice."""
        where = self._chance.randrange(len(data))
        return data[:where] + bytes([data[where] ^ self._chance.randrange(1, 256)]) + data[where + 1 :]

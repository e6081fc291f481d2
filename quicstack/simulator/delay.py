"""Time: propagation delay, jitter, and datagrams that overtake each other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from quicstack.simulator.datagram import Datagram
from quicstack.simulator.node import Node

__all__ = ["Delay", "Jitter", "Reorder"]


class Delay(Node):
    """Propagation: every datagram arrives so many seconds later, in each direction (the RTT grows by twice that)."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def receive(self, datagram: Datagram) -> None:
        self.clock.after(self.seconds, self.forward, datagram)


class Jitter(Node):
    """Random extra delay: uniform from 0 to ``maximum``, or what ``distribution(random)`` draws (seconds).

    With ``keep_order`` a datagram never overtakes the one before it, as in a queue; without, jitter reorders.
    """

    def __init__(
        self,
        maximum: float = 0.0,
        *,
        keep_order: bool = True,
        distribution: Callable[[Random], float] | None = None,
    ) -> None:
        super().__init__()
        self.keep_order = keep_order
        self.distribution = distribution or (lambda random: random.uniform(0.0, maximum))
        self._last = 0.0

    def receive(self, datagram: Datagram) -> None:
        time = self.clock.now + max(0.0, self.distribution(self.random))
        if self.keep_order:
            time = self._last = max(time, self._last)
        self.clock.at(time, self.forward, datagram)


class Reorder(Node):
    """With probability ``rate`` a datagram is held back ``by`` seconds, so that those behind it arrive first."""

    def __init__(self, rate: float, *, by: float = 0.01) -> None:
        super().__init__()
        self.rate = rate
        self.by = by

    def receive(self, datagram: Datagram) -> None:
        if self.random.random() < self.rate:
            self.clock.after(self.by, self.forward, datagram)
        else:
            self.forward(datagram)

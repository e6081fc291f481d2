"""The network of the soak: homes behind a NAT, each on a line with faults of its own, and one server for all."""

from __future__ import annotations

from random import Random

from quicstack.simulator import Corrupt, Delay, Duplicate, Host, Loss, Nat, Node, Reorder
from quicstack.simulator.datagram import Datagram

__all__ = ["OUTAGES_A_DAY", "REBINDINGS_A_DAY", "Outages", "home_line"]

REBINDINGS_A_DAY = 8
OUTAGES_A_DAY = 12
DAY = 86_400.0


class Outages(Node):
    """A line that is dead now and then: pairs of begin and end, sorted."""

    def __init__(self, spans: list[tuple[float, float]]) -> None:
        super().__init__()
        self.spans = spans

    def start(self) -> None:
        self._at = 0

    def receive(self, datagram: Datagram) -> None:
        now = self.clock.now
        while self._at < len(self.spans) and self.spans[self._at][1] <= now:
            self._at += 1
        if self._at < len(self.spans) and self.spans[self._at][0] <= now:
            self.drop(datagram)
        else:
            self.forward(datagram)


def moments(random: Random, a_day: float, until: float) -> list[float]:
    """Times of a Poisson process."""
    times, now = [], 0.0
    while (now := now + random.expovariate(a_day / DAY)) < until:
        times.append(now)
    return times


def home_line(host: Host, number: int, seconds: float, random: Random, hurry: float) -> list[Host | Node]:
    """What stands between a home and the trunk. With ``hurry`` a day's faults happen in that part of a day."""
    addresses = [f"203.0.{number}.1", f"203.0.{number}.2"][: 1 + number % 2]
    begins = moments(random, OUTAGES_A_DAY / hurry, seconds)
    spans: list[tuple[float, float]] = []
    for begin in begins:
        end = begin + (random.uniform(0.5, 60.0) if random.random() < 0.9 else random.uniform(60.0, 900.0))
        if not spans or begin > spans[-1][1]:
            spans.append((begin, end))
    return [
        host,
        Nat(addresses, rebind_at=moments(random, REBINDINGS_A_DAY / hurry, seconds)),
        Outages(spans),
        Loss(random.choice((0.0, 0.005, 0.02, 0.05))),
        Reorder(0.02, by=0.005),
        Duplicate(0.01, after=0.003),
        Corrupt(0.005),
        Delay(random.uniform(0.003, 0.12)),
    ]

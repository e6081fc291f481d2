"""Datagrams that do not arrive: at random, in bursts, by number, by size, or for a while."""

from __future__ import annotations

from collections.abc import Iterable

from quicstack.simulator.datagram import IP_UDP_HEADER, Datagram
from quicstack.simulator.node import Node

__all__ = ["BlackHole", "BurstLoss", "Loss", "LossAt", "LossEvery", "MtuLimit"]


class Loss(Node):
    """Independent (Bernoulli) loss with probability ``rate``."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def receive(self, datagram: Datagram) -> None:
        if self.random.random() < self.rate:
            self.drop(datagram)
        else:
            self.forward(datagram)


class BurstLoss(Node):
    """Gilbert-Elliott loss: a good and a bad state, changed before each datagram.

    ``p`` is the probability of going from good to bad, ``r`` of going back. ``bad_loss`` and ``good_loss`` are the loss
    rates inside the states (1 - h and 1 - k in the notation of netem). With the defaults the loss rate is p / (p + r)
    and the mean burst 1 / r datagrams long.
    """

    def __init__(self, p: float, r: float, *, bad_loss: float = 1.0, good_loss: float = 0.0) -> None:
        super().__init__()
        self.p = p
        self.r = r
        self.bad_loss = bad_loss
        self.good_loss = good_loss
        self._bad = False

    def receive(self, datagram: Datagram) -> None:
        draw = self.random.random
        if draw() < (self.r if self._bad else self.p):
            self._bad = not self._bad
        if draw() < (self.bad_loss if self._bad else self.good_loss):
            self.drop(datagram)
        else:
            self.forward(datagram)


class LossEvery(Node):
    """Periodic loss: the ``n``-th, 2n-th, 3n-th ... datagram; the first is number ``first`` if that is given."""

    def __init__(self, n: int, *, first: int | None = None) -> None:
        super().__init__()
        self.n = n
        self._left = n if first is None else first

    def receive(self, datagram: Datagram) -> None:
        self._left -= 1
        if self._left:
            self.forward(datagram)
        else:
            self._left = self.n
            self.drop(datagram)


class LossAt(Node):
    """Loss by list: the datagrams with these numbers, counted from 0 in each direction."""

    def __init__(self, numbers: Iterable[int]) -> None:
        super().__init__()
        self.numbers = frozenset(numbers)
        self._number = -1

    def receive(self, datagram: Datagram) -> None:
        self._number += 1
        if self._number in self.numbers:
            self.drop(datagram)
        else:
            self.forward(datagram)


class MtuLimit(Node):
    """A link that cannot carry IP packets above ``mtu`` bytes and says nothing about it: an ICMP black hole."""

    def __init__(self, mtu: int) -> None:
        super().__init__()
        self.mtu = mtu

    def receive(self, datagram: Datagram) -> None:
        if len(datagram.data) + IP_UDP_HEADER > self.mtu:
            self.drop(datagram)
        else:
            self.forward(datagram)


class BlackHole(Node):
    """Nothing gets through from ``start`` on, for ``duration`` seconds. Several outages are several black holes."""

    def __init__(self, start: float, duration: float = float("inf")) -> None:
        super().__init__()
        self.begins = start
        self.ends = start + duration

    def receive(self, datagram: Datagram) -> None:
        if self.begins <= self.clock.now < self.ends:
            self.drop(datagram)
        else:
            self.forward(datagram)

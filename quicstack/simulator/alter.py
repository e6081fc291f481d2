"""Datagrams that arrive twice or changed: duplication, bit errors, ECN marks, and anything else a function can do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from quicstack.simulator.datagram import Datagram, Direction
from quicstack.simulator.node import Node

__all__ = ["Corrupt", "Duplicate", "EcnBleach", "EcnMark", "Rewrite"]


class Duplicate(Node):
    """With probability ``rate`` a datagram arrives twice, the second time ``after`` seconds later."""

    def __init__(self, rate: float, *, after: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.after = after

    def receive(self, datagram: Datagram) -> None:
        self.forward(datagram)
        if self.random.random() < self.rate:
            self.clock.after(self.after, self.forward, datagram)


class Corrupt(Node):
    """With probability ``rate`` a datagram has ``bits`` of its bits flipped (and a UDP checksum that still fits)."""

    def __init__(self, rate: float, *, bits: int = 1) -> None:
        super().__init__()
        self.rate = rate
        self.bits = bits

    def receive(self, datagram: Datagram) -> None:
        if datagram.data and self.random.random() < self.rate:
            data = bytearray(datagram.data)
            for _ in range(self.bits):
                bit = self.random.randrange(8 * len(data))
                data[bit >> 3] ^= 1 << (bit & 7)
            datagram = datagram._replace(data=bytes(data))
        self.forward(datagram)


class EcnMark(Node):
    """A router that marks: a datagram that is ECN-capable leaves as CE with probability ``rate``."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def receive(self, datagram: Datagram) -> None:
        if datagram.ecn and self.random.random() < self.rate:
            datagram = datagram._replace(ecn=3)
        self.forward(datagram)


class EcnBleach(Node):
    """A router that clears the ECN field, or writes ``codepoint`` into it (RFC 9000 §13.4.2 has to notice)."""

    def __init__(self, codepoint: int = 0) -> None:
        super().__init__()
        self.codepoint = codepoint

    def receive(self, datagram: Datagram) -> None:
        self.forward(datagram._replace(ecn=self.codepoint) if datagram.ecn else datagram)


class Rewrite(Node):
    """Someone on the path: each datagram becomes what ``function(datagram, direction, now)`` returns, in that order."""

    def __init__(self, function: Callable[[Datagram, Direction, float], Iterable[Datagram]]) -> None:
        super().__init__()
        self.function = function

    def receive(self, datagram: Datagram) -> None:
        for changed in self.function(datagram, self.direction, self.clock.now):
            self.forward(changed)

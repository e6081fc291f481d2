"""A tap on the wire: what passed, when and which way."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from quicstack.simulator.datagram import Datagram, Direction
from quicstack.simulator.node import Node

__all__ = ["Capture", "Passage"]


class Passage(NamedTuple):
    """One datagram seen by a :class:`Capture`."""

    time: float
    direction: Direction
    datagram: Datagram


class Capture(Node):
    """Remembers every datagram that passes this point of the list, in both directions, in the order of time."""

    def __init__(self) -> None:
        super().__init__()
        self.passages: list[Passage] = []

    def receive(self, datagram: Datagram) -> None:
        self.passages.append(Passage(self.clock.now, self.direction, datagram))
        self.forward(datagram)

    def count(self, direction: Direction) -> int:
        """Datagrams that went this way."""
        return sum(passage.direction is direction for passage in self.passages)

    def size(self, direction: Direction) -> int:
        """Bytes of UDP payload that went this way."""
        return sum(len(passage.datagram.data) for passage in self.passages if passage.direction is direction)

    def digest(self) -> str:
        """SHA-256 over times, directions, addresses, ECN marks and bytes: equal if and only if the runs were."""
        running = hashlib.sha256()
        for time, direction, datagram in self.passages:
            head = f"{time!r} {direction.value} {datagram.source} {datagram.destination} {datagram.ecn} "
            running.update(head.encode() + len(datagram.data).to_bytes(4) + datagram.data)
        return running.hexdigest()

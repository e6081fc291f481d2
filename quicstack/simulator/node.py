"""Nodes: what stands between the hosts, and how to write a new one.

A node is written for one direction; the network makes a copy of it for each. So a node is one class with one method::

    class Loss(Node):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.rate = rate

        def receive(self, datagram: Datagram) -> None:
            if self.random.random() < self.rate:
                self.drop(datagram)
            else:
                self.forward(datagram)

``receive`` may forward at once, later (``self.clock.after(seconds, self.forward, datagram)``), twice, changed or not at
all. State of one direction is made in ``start``; what ``__init__`` makes is shared by both directions, because the
copies are shallow: that is how a NAT knows on the way back what it did on the way out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random

from quicstack.errors import ConfigurationError
from quicstack.simulator.clock import Clock
from quicstack.simulator.datagram import Datagram, Direction

__all__ = ["Asymmetric", "Node"]

Receiver = Callable[[Datagram], None]


class Node:
    """Base of everything a datagram meets on its way. The base itself is a straight wire.

    The node in the user's list is the pattern; ``lanes[direction]`` are the working copies, with ``forwarded`` and
    ``dropped`` counted in each.
    """

    clock: Clock
    random: Random
    direction: Direction
    _next: Receiver

    def __init__(self) -> None:
        self.lanes: dict[Direction, Node] = {}
        self.forwarded = 0
        self.dropped = 0

    def attach(self, direction: Direction, clock: Clock, random: Random, forward: Receiver) -> Receiver:
        """Make the copy that works in ``direction`` and hands its datagrams to ``forward``; return its entrance."""
        if direction in self.lanes:
            raise ConfigurationError("a node belongs to one place in one network: make a second one")
        lane = copy.copy(self)
        self.lanes[direction] = lane
        lane.clock, lane.random, lane.direction, lane._next = clock, random, direction, forward
        lane.start()
        return lane.receive

    def start(self) -> None:
        """Make the state of one direction. ``clock``, ``random`` and ``direction`` are known by now."""

    def receive(self, datagram: Datagram) -> None:
        """A datagram arrives."""
        self.forward(datagram)

    def forward(self, datagram: Datagram) -> None:
        """Hand a datagram to the next node now."""
        self.forwarded += 1
        self._next(datagram)

    def drop(self, datagram: Datagram) -> None:
        """Let a datagram disappear."""
        self.dropped += 1


class Asymmetric(Node):
    """Different nodes for the two ways: ``Asymmetric(forward=Loss(0.1))``, ``Asymmetric(Queue(64), Queue(8))``."""

    def __init__(self, forward: Node | None = None, backward: Node | None = None) -> None:
        super().__init__()
        self._nodes = {Direction.FORWARD: forward or Node(), Direction.BACKWARD: backward or Node()}

    def attach(self, direction: Direction, clock: Clock, random: Random, forward: Receiver) -> Receiver:
        node = self._nodes[direction]
        entrance = node.attach(direction, clock, random, forward)
        self.lanes[direction] = node.lanes[direction]
        return entrance

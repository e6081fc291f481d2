"""The wiring: from a list of nodes to who hands a datagram to whom.

``[client, Delay(0.05), Queue(64), server]`` is read from left to right, and its inner nodes are met in that order going
forward, in the opposite order going back. An end may be a list of hosts that share the rest of the network, and each of
those may be a *branch*, a list that has nodes of its own and is read in the same direction::

    [[alice, [bob, Delay(0.1)]], Queue(64, rate=10e6), [server, [Loss(0.01), distant_server]]]

Where hosts share an end, a switch sends datagrams on by IP address. It knows its hosts, and learns the addresses that a
NAT on a branch puts in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from quicstack.errors import ConfigurationError
from quicstack.simulator.clock import Clock
from quicstack.simulator.datagram import Datagram, Direction
from quicstack.simulator.datagram_host import DatagramHost
from quicstack.simulator.node import Node

__all__ = ["Branch", "End", "Network", "Nodes"]

Branch: TypeAlias = Sequence[DatagramHost | Node]
End: TypeAlias = DatagramHost | Sequence[DatagramHost | Branch]
Nodes: TypeAlias = Sequence[End | Node]

_Receiver = Callable[[Datagram], None]


class Network:
    """Hosts and nodes wired up. Every one has its own random source, drawn from the seed and its place in the list."""

    def __init__(self, nodes: Nodes, clock: Clock, seed: int | str, wall_time: Callable[[], float]) -> None:
        if len(nodes) < 2:
            raise ConfigurationError("a network is a list with a host, or a list of hosts, at both ends")
        self.hosts: list[DatagramHost] = []
        self._clock = clock
        self._seed = seed
        self._wall_time = wall_time
        trunk = [_node(node) for node in nodes[1:-1]]
        left, right = _Switch(), _Switch()
        left.uplink = self._chain(trunk, Direction.FORWARD, right.receive, "trunk")
        right.uplink = self._chain(trunk, Direction.BACKWARD, left.receive, "trunk")
        for side, switch, end in ((0, left, nodes[0]), (1, right, nodes[-1])):
            for number, branch in enumerate(_branches(end)):
                self._add_branch(side, number, branch, switch)

    def _add_branch(self, side: int, number: int, branch: Branch, switch: _Switch) -> None:
        """Connect the host of a branch, and the nodes it has for itself, to the switch of its side."""
        host = branch[-side]  # a branch is read left to right: the host is first on the left, last on the right
        if not isinstance(host, DatagramHost):
            raise ConfigurationError(f"the outer end of a network has to be a host, not {host!r}")
        place = f"{'right' if side else 'left'} {number}"
        if not hasattr(host, "address"):
            host.address = (f"10.0.{side}.{number + 1}", 443 if side else 50000)
        nodes = [_node(node) for node in (branch[:-1] if side else branch[1:])]
        away, home = (Direction.BACKWARD, Direction.FORWARD) if side else (Direction.FORWARD, Direction.BACKWARD)
        down = self._chain(nodes, home, self._delivery(host), place)
        up = self._chain(nodes, away, switch.port(down), place)
        for address in (str(host.address[0]), *host.other_hosts):
            if address in switch.table:
                raise ConfigurationError(f"two hosts on one side have the address {address}")
            switch.table[address] = down
        host.attach(self._clock, self._random(f"{place} host"), self._wall_time, up)
        self.hosts.append(host)

    def _chain(self, nodes: list[Node], direction: Direction, last: _Receiver, place: str) -> _Receiver:
        """Attach nodes one behind the other, ending in ``last``; return the entrance to the first."""
        numbered = list(enumerate(nodes))
        for number, node in reversed(numbered) if direction is Direction.FORWARD else numbered:
            random = self._random(f"{place} node {number} {direction.value}")
            last = node.attach(direction, self._clock, random, last)
        return last

    def _delivery(self, host: DatagramHost) -> _Receiver:
        """Arrival is an event of its own: two hosts with nothing between them do not call each other."""
        clock = self._clock

        def deliver(datagram: Datagram) -> None:
            clock.at(clock.now, host.receive, datagram)

        return deliver

    def _random(self, place: str) -> Random:
        return Random(f"{self._seed}: {place}")


class _Switch:
    """One end of the trunk: sends datagrams to the branch their destination is on."""

    uplink: _Receiver

    def __init__(self) -> None:
        self.table: dict[str, _Receiver] = {}

    def receive(self, datagram: Datagram) -> None:
        """From the trunk: a destination that nobody has is nobody's datagram."""
        branch = self.table.get(datagram.destination[0])
        if branch is not None:
            branch(datagram)

    def port(self, down: _Receiver) -> _Receiver:
        """The entrance for what comes from the branch that ``down`` leads to."""

        def receive(datagram: Datagram) -> None:
            self.table.setdefault(datagram.source[0], down)
            self.table.get(datagram.destination[0], self.uplink)(datagram)

        return receive


def _branches(end: End | Node) -> list[Branch]:
    if isinstance(end, Node):
        raise ConfigurationError(f"the outer end of a network has to be a host, not {end!r}")
    if isinstance(end, DatagramHost):
        return [[end]]
    return [[entry] if isinstance(entry, DatagramHost) else entry for entry in end]


def _node(node: object) -> Node:
    if not isinstance(node, Node):
        raise ConfigurationError(f"between the ends of a network there are nodes, not {node!r}")
    return node

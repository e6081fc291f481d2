"""A host that sends and receives datagrams: the end of a network, and the base of all other hosts."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from quicstack.simulator.clock import Clock
from quicstack.simulator.datagram import Datagram
from quicstack.train import Address, Path

__all__ = ["DatagramHost"]


class DatagramHost:
    """Something with an address on the network: a scripted peer, an attacker, a source of cross traffic.

    What arrives goes to ``on_datagram(host, datagram)``, or, without that, into ``received``. ``address`` is given by
    the network unless it is given here; ``other_hosts`` are further IP addresses that datagrams for this host may bear.
    A subclass changes ``start`` and ``receive``.
    """

    address: Address
    clock: Clock
    random: Random
    _network: Callable[[Datagram], None]

    def __init__(
        self,
        on_datagram: Callable[[DatagramHost, Datagram], None] | None = None,
        *,
        address: Address | None = None,
        other_hosts: tuple[str, ...] = (),
    ) -> None:
        if address is not None:
            self.address = address
        self.other_hosts = other_hosts
        self.received: list[Datagram] = []
        self._on_datagram = on_datagram

    def attach(
        self, clock: Clock, random: Random, wall_time: Callable[[], float], network: Callable[[Datagram], None]
    ) -> None:
        """The network takes the host in: ``network`` carries datagrams away, ``wall_time`` is the virtual date."""
        self.clock, self.random, self._network = clock, random, network

    def start(self) -> None:
        """Virtual time begins."""

    def wake(self) -> None:
        """A run begins or goes on: the program may have done something to the host since the last one."""

    def receive(self, datagram: Datagram) -> None:
        """A datagram arrives."""
        if self._on_datagram is None:
            self.received.append(datagram)
        else:
            self._on_datagram(self, datagram)

    def send(self, data: bytes, destination: Address, *, source: Address | None = None, ecn: int = 0) -> None:
        """Send a datagram, as another ``source`` if given: nothing here prevents spoofing."""
        self._network(Datagram(data, source or self.address, destination, ecn))

    def path_to(self, other: DatagramHost) -> Path:
        """The path from here to another host, as an endpoint's ``connect`` wants it."""
        return Path(remote=other.address, local=self.address)

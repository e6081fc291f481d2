"""One node on a bench: feed it datagrams at given times, see what comes out and when."""

from __future__ import annotations

import pytest

from quicstack.simulator import Datagram, DatagramHost, Node, Simulation

LEFT, RIGHT = ("192.0.2.1", 1), ("192.0.2.2", 2)


class Bench:
    """``[left, *nodes, right]``; ``out`` gets (time, datagram) of everything that arrives on the right."""

    def __init__(self, *nodes: Node, seed: int = 0) -> None:
        self.out: list[tuple[float, Datagram]] = []
        self.left = DatagramHost(address=LEFT)
        self.right = DatagramHost(self.arrive, address=RIGHT)
        self.simulation = Simulation([self.left, *nodes, self.right], seed=seed)

    def arrive(self, host: DatagramHost, datagram: Datagram) -> None:
        self.out.append((host.clock.now, datagram))

    def send(self, *payloads: bytes, at: float = 0.0, ecn: int = 0) -> Bench:
        for data in payloads:
            self.simulation.clock.at(at, self.left._network, Datagram(data, LEFT, RIGHT, ecn))
        return self

    def send_numbered(self, count: int, *, every: float = 0.0) -> Bench:
        """Datagrams of four bytes, counted from 0."""
        for number in range(count):
            self.send(number.to_bytes(4), at=number * every)
        return self

    def run(self) -> list[bytes]:
        self.simulation.run()
        return [datagram.data for _, datagram in self.out]

    def run_numbered(self) -> list[int]:
        return [int.from_bytes(data) for data in self.run()]

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.out]


@pytest.fixture
def bench() -> type[Bench]:
    return Bench

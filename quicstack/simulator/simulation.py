"""A run: hosts, a network between them, a seed, and virtual time."""

from __future__ import annotations

from collections.abc import Callable

from quicstack.errors import QuicstackError
from quicstack.simulator.clock import Clock
from quicstack.simulator.datagram_host import DatagramHost
from quicstack.simulator.network import Network, Nodes

__all__ = ["VIRTUAL_EPOCH", "LimitReached", "Simulation"]

VIRTUAL_EPOCH = 1_767_225_600.0
"""The date on which virtual time begins: 2026-01-01, 00:00 UTC, in Unix seconds."""


class LimitReached(QuicstackError, TimeoutError):
    """What a run waited for did not happen in time, or cannot happen any more."""


class Simulation:
    """``nodes`` is the network, as :mod:`quicstack.simulator.network` reads it. Same seed: same bytes on the wire.

    ::

        simulation = Simulation([client, Delay(0.05), Loss(0.01), Queue(64, rate=10e6), server], seed=7)
        simulation.run(until=lambda: application.done)
        print(simulation.now)
    """

    def __init__(self, nodes: Nodes, *, seed: int | str = 0, epoch: float = VIRTUAL_EPOCH) -> None:
        self.clock = Clock()
        self.network = Network(nodes, self.clock, seed, lambda: epoch + self.clock.now)
        for host in self.hosts:
            self.clock.at(0.0, host.start)

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.clock.now

    @property
    def hosts(self) -> list[DatagramHost]:
        """All hosts, those on the left first."""
        return self.network.hosts

    def run(self, until: Callable[[], bool] | float | None = None, *, limit: float = 3600.0) -> float:
        """Let time pass, and return the time reached.

        ``until`` is a time; or a condition, looked at after every event; or None, for as long as anything happens at
        all. A condition that does not come true within ``limit`` virtual seconds raises :class:`LimitReached`. After a
        run the program may act on the hosts, and run again.
        """
        clock = self.clock
        for host in self.hosts:
            clock.at(clock.now, host.wake)
        if callable(until):
            self._run_until(until, clock.now + limit)
            return clock.now
        end = float("inf") if until is None else float(until)
        while (due := clock.next_time()) is not None and due <= end:
            clock.step()
        if until is not None:
            clock.now = max(clock.now, end)
        return clock.now

    def _run_until(self, condition: Callable[[], bool], deadline: float) -> None:
        clock = self.clock
        while not condition():
            due = clock.next_time()
            if due is None:
                raise LimitReached(f"at {clock.now:.6f} s nothing is left to happen, and the condition is not met")
            if due > deadline:
                clock.now = deadline
                raise LimitReached(f"the condition is not met after {deadline:.3f} s")
            clock.step()

"""Running: until a time, until something is true, until nothing happens any more."""

from __future__ import annotations

import pytest

from quicstack.simulator import VIRTUAL_EPOCH, DatagramHost, Delay, LimitReached, Simulation


class Metronome(DatagramHost):
    """Counts seconds; knows when it was started and woken, and what date it is."""

    beats = 0

    def attach(self, clock, random, wall_time, network) -> None:
        super().attach(clock, random, wall_time, network)
        self.wall_time = wall_time
        self.log: list[str] = []

    def start(self) -> None:
        self.log.append("start")
        self.clock.after(1.0, self.beat)

    def wake(self) -> None:
        self.log.append("wake")

    def beat(self) -> None:
        self.beats += 1
        self.clock.after(1.0, self.beat)


def test_until_a_time() -> None:
    metronome = Metronome()
    simulation = Simulation([metronome, DatagramHost()])
    assert simulation.run(until=3.5) == 3.5 == simulation.now
    assert metronome.beats == 3
    simulation.run(until=4)
    assert metronome.beats == 4
    assert metronome.log == ["start", "wake", "wake"]


def test_until_a_condition() -> None:
    metronome = Metronome()
    simulation = Simulation([metronome, DatagramHost()])
    assert simulation.run(until=lambda: metronome.beats == 86_400, limit=1e6) == 86_400.0
    assert metronome.wall_time() == VIRTUAL_EPOCH + 86_400.0


def test_a_condition_has_a_limit() -> None:
    simulation = Simulation([Metronome(), DatagramHost()])
    with pytest.raises(LimitReached, match="not met"):
        simulation.run(until=lambda: False, limit=10.0)
    assert simulation.now == 10.0


def test_a_condition_that_cannot_come_true() -> None:
    simulation = Simulation([DatagramHost(), DatagramHost()])
    with pytest.raises(LimitReached, match="nothing is left"):
        simulation.run(until=lambda: False)


def test_until_nothing_happens() -> None:
    left, right = DatagramHost(), DatagramHost()
    simulation = Simulation([left, Delay(3_000_000.0), right])
    left.send(b"slow", right.address)
    assert simulation.run() == 3_000_000.0


def test_six_weeks_of_nothing() -> None:
    simulation = Simulation([DatagramHost(), DatagramHost()])
    assert simulation.run(until=42 * 86_400) == 42 * 86_400

"""The bottleneck: serialisation time, limits, and disciplines from outside."""

from __future__ import annotations

from random import Random

import pytest

from quicstack.simulator import Datagram, DatagramHost, Direction, DropTail, Queue, QueueContext, Simulation


def test_a_datagram_takes_its_time_on_the_link(bench) -> None:
    network = bench(Queue(rate=8000, overhead=0)).send(bytes(1000), bytes(500)).send(bytes(100), at=5.0)
    network.run()
    assert network.times == pytest.approx([1.0, 1.5, 5.1])


def test_the_link_carries_headers_too(bench) -> None:
    network = bench(Queue(rate=8000)).send(bytes(972))
    network.run()
    assert network.times == pytest.approx([1.0])


def test_tail_drop_by_packets_does_not_count_the_one_on_the_link(bench) -> None:
    queue = Queue(3)
    assert bench(queue).send_numbered(10).run_numbered() == [0, 1, 2, 3]
    assert queue.lanes[Direction.FORWARD].dropped == 6


def test_tail_drop_by_bytes(bench) -> None:
    first, big, small = bytes(1000), bytes(900), bytes(100)
    arrived = bench(Queue(limit_bytes=1000, overhead=0)).send(first, big, big, small, small).run()
    assert arrived == [first, big, small]


def test_the_two_directions_queue_apart() -> None:
    left, right = DatagramHost(), DatagramHost()
    simulation = Simulation([left, Queue(1, rate=8000, overhead=0), right])
    left.send(bytes(1000), right.address)
    right.send(bytes(1000), left.address)
    assert simulation.run() == 1.0
    assert (len(left.received), len(right.received)) == (1, 1)


def test_the_rate_can_change_under_way(bench) -> None:
    queue = Queue(rate=8000, overhead=0)
    network = bench(queue).send(bytes(1000), bytes(1000))
    network.simulation.run(until=0.5)
    queue.lanes[Direction.FORWARD].rate = 800
    network.run()
    assert network.times == pytest.approx([1.0, 11.0])


@pytest.mark.slow
@pytest.mark.parametrize(("load", "expected"), [(0.5, 0.5), (0.8, 2.0)])
def test_waiting_time_is_that_of_queueing_theory(bench, load: float, expected: float) -> None:
    """M/D/1: Poisson arrivals wait load / (2 (1 - load)) service times on average (Pollaczek-Khinchine)."""
    service = 8 * 1250 / 10e6
    network = bench(Queue(rate=10e6, overhead=0), seed=1)
    random, sent, time = network.left.random, [], 0.0
    for _ in range(40_000):
        time += random.expovariate(load / service)
        sent.append(time)
        network.send(bytes(1250), at=time)
    network.run()
    waits = [arrived - at - service for at, arrived in zip(sent, network.times, strict=True)]
    assert sum(waits) / len(waits) / service == pytest.approx(expected, rel=0.1)


class LastInFirstOutMarking:
    """A discipline of the user's own: newest first, the oldest dropped when full, CE on what waited a second."""

    def __init__(self, context: QueueContext) -> None:
        self.context = context
        self.waiting: list[tuple[Datagram, int, float]] = []
        self.bytes = 0

    @property
    def packets(self) -> int:
        return len(self.waiting)

    def enqueue(self, datagram: Datagram, size: int, now: float) -> None:
        self.waiting.append((datagram, size, now))
        self.bytes += size
        if self.context.limit is not None and self.packets > self.context.limit:
            oldest, size, _ = self.waiting.pop(0)
            self.bytes -= size
            self.context.drop(oldest)

    def dequeue(self, now: float) -> tuple[Datagram, int] | None:
        if not self.waiting:
            return None
        datagram, size, since = self.waiting.pop()
        self.bytes -= size
        return (datagram._replace(ecn=3) if now - since >= 1.0 else datagram), size


def test_a_discipline_from_outside(bench) -> None:
    queue = Queue(3, rate=8 * 28, discipline=LastInFirstOutMarking)
    network = bench(queue).send(b"", b"", b"", b"", b"")
    network.send(b"x", at=0.5)
    network.run()
    assert [datagram.data for _, datagram in network.out] == [b"", b"x", b"", b""]
    assert [datagram.ecn for _, datagram in network.out] == [0, 0, 3, 3]
    assert queue.lanes[Direction.FORWARD].dropped == 2


def test_drop_tail_says_what_waits() -> None:
    queue = DropTail(QueueContext(2, None, 1e6, Random(0), lambda datagram: None))
    for size in (10, 20, 30):
        queue.enqueue(Datagram(bytes(size), ("a", 1), ("b", 2)), size, 0.0)
    assert (queue.packets, queue.bytes) == (2, 30)
    assert queue.dequeue(1.0) == (Datagram(bytes(10), ("a", 1), ("b", 2)), 10)
    assert (queue.packets, queue.bytes) == (1, 20)

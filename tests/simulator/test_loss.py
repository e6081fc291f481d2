"""Loss: at random, in bursts, by number, by size, for a while."""

from __future__ import annotations

from itertools import groupby

import pytest

from quicstack.simulator import IP_UDP_HEADER, BlackHole, BurstLoss, Direction, Loss, LossAt, LossEvery, MtuLimit


def losses(bench, node, count: int) -> list[bool]:
    """For each of so many datagrams, whether it was lost."""
    arrived = set(bench(node, seed=1).send_numbered(count).run_numbered())
    return [number not in arrived for number in range(count)]


def mean_burst(lost: list[bool]) -> float:
    bursts = [len(list(run)) for was_lost, run in groupby(lost) if was_lost]
    return sum(bursts) / len(bursts)


def test_bernoulli_statistics(bench) -> None:
    lost = losses(bench, Loss(0.01), 50_000)
    assert sum(lost) / len(lost) == pytest.approx(0.01, rel=0.07)
    assert mean_burst(lost) == pytest.approx(1.01, rel=0.03)


@pytest.mark.slow
def test_gilbert_elliott_statistics(bench) -> None:
    """p / (p + r) of the datagrams are lost, in bursts of 1 / r (the parameters of tc-netem)."""
    lost = losses(bench, BurstLoss(0.01, 0.1), 50_000)
    assert sum(lost) / len(lost) == pytest.approx(0.0909, rel=0.07)
    assert mean_burst(lost) == pytest.approx(10, rel=0.07)


@pytest.mark.slow
def test_gilbert_elliott_loss_inside_the_states(bench) -> None:
    lost = losses(bench, BurstLoss(0.1, 0.1, bad_loss=0.5, good_loss=0.1), 50_000)
    assert sum(lost) / len(lost) == pytest.approx(0.3, rel=0.07)


def test_bursts_are_counted_in_each_direction_by_itself(bench) -> None:
    node = BurstLoss(1.0, 0.0)
    bench(node).send_numbered(10).run()
    assert node.lanes[Direction.FORWARD].dropped == 10
    assert node.lanes[Direction.BACKWARD].dropped == 0


def test_every_nth(bench) -> None:
    assert [n for n, lost in enumerate(losses(bench, LossEvery(4), 12)) if lost] == [3, 7, 11]
    assert [n for n, lost in enumerate(losses(bench, LossEvery(4, first=1), 12)) if lost] == [0, 4, 8]


def test_by_list(bench) -> None:
    assert [n for n, lost in enumerate(losses(bench, LossAt([0, 5, 6]), 9)) if lost] == [0, 5, 6]


def test_mtu_counts_headers(bench) -> None:
    fits, too_big = bytes(1500 - IP_UDP_HEADER), bytes(1501 - IP_UDP_HEADER)
    assert bench(MtuLimit(1500)).send(fits, too_big).run() == [fits]


def test_black_hole_has_a_begin_and_an_end(bench) -> None:
    assert bench(BlackHole(3.0, 2.0)).send_numbered(8, every=1.0).run_numbered() == [0, 1, 2, 5, 6, 7]
    assert bench(BlackHole(3.0)).send_numbered(8, every=1.0).run_numbered() == [0, 1, 2]

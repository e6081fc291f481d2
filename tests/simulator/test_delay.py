"""Delay, jitter, reordering."""

from __future__ import annotations

from itertools import pairwise

import pytest

from quicstack.simulator import Delay, Jitter, Reorder


def test_delay_is_the_same_for_all_and_keeps_order(bench) -> None:
    network = bench(Delay(0.05)).send(b"a", b"b").send(b"c", at=1.0)
    assert network.run() == [b"a", b"b", b"c"]
    assert network.times == [0.05, 0.05, 1.05]


@pytest.mark.parametrize("keep_order", [True, False])
def test_jitter(bench, keep_order: bool) -> None:
    network = bench(Jitter(0.1, keep_order=keep_order), seed=4).send_numbered(1000, every=0.01)
    arrived = network.run_numbered()
    assert sorted(arrived) == list(range(1000))
    assert (arrived == sorted(arrived)) is keep_order
    late = [time - number * 0.01 for time, number in zip(network.times, arrived, strict=True)]
    assert min(late) >= 0
    assert max(late) < 0.1 + 1e-9
    if not keep_order:
        assert sum(late) / 1000 == pytest.approx(0.05, rel=0.05)


def test_jitter_of_any_distribution(bench) -> None:
    network = bench(Jitter(distribution=lambda random: random.expovariate(10.0))).send_numbered(5000, every=10.0)
    arrived = network.run_numbered()
    late = [time - number * 10.0 for time, number in zip(network.times, arrived, strict=True)]
    assert sum(late) / 5000 == pytest.approx(0.1, rel=0.05)


def test_reordering_holds_some_back(bench) -> None:
    network = bench(Reorder(0.1, by=0.025)).send_numbered(2000, every=0.01)
    arrived = network.run_numbered()
    assert sorted(arrived) == list(range(2000))
    displaced = sum(later < earlier for earlier, later in pairwise(arrived))
    assert 150 < displaced < 250

"""The link of the relay: rate, queue, size, and each fault, with time and chance as arguments."""

from __future__ import annotations

import random

import pytest

from interop.link import MTU, Faults, Link

FULL = 1250  # bytes that take a millisecond at 10 Mbit/s


def link(faults: Faults | None = None, **settings: float) -> Link:
    return Link(random.Random(1), faults or Faults(), **settings)  # type: ignore[arg-type]


def test_a_datagram_takes_its_time_and_waits_for_those_before_it() -> None:
    one = link(rate=10e6, delay=0.015)
    assert one.enter(0.0, FULL) == pytest.approx(0.016)
    assert one.enter(0.0, FULL) == pytest.approx(0.017)
    assert one.enter(1.0, FULL) == pytest.approx(1.016)


def test_a_full_queue_drops_and_drains() -> None:
    one = link(rate=10e6, queue=25)
    assert sum(one.enter(0.0, FULL) is not None for _ in range(40)) == 26  # one is on the wire
    assert one.enter(0.0015, FULL) is not None
    assert one.enter(0.0015, FULL) is None


def test_what_is_larger_than_the_mtu_does_not_fit() -> None:
    assert link().enter(0.0, MTU) is not None
    assert link().enter(0.0, MTU + 1) is None


def test_loss_comes_at_its_rate_and_never_more_than_a_burst() -> None:
    one = link(Faults(drop=0.3, burst=3))
    fates = [one.leave(0.0, b"x") is None for _ in range(5000)]
    assert 0.25 < sum(fates) / len(fates) < 0.31
    runs = "".join(".x"[lost] for lost in fates).split(".")
    assert max(map(len, runs)) == 3


def test_corruption_changes_one_byte() -> None:
    one = link(Faults(corrupt=1.0))
    for _ in range(200):
        arrived = one.leave(0.0, bytes(50))
        assert arrived is not None and len(arrived) == 50 and sum(byte != 0 for byte in arrived) == 1


def test_a_black_hole_opens_and_closes() -> None:
    one = link(Faults(on=5.0, off=2.0))
    passes = [one.leave(second, b"x") is not None for second in (0.0, 4.9, 5.0, 6.9, 7.0, 11.9, 12.0)]
    assert passes == [True, True, False, False, True, True, False]


def test_named_datagrams_are_dropped() -> None:
    one = link(drops=frozenset({2, 3}))  # type: ignore[arg-type]
    assert [one.leave(0.0, b"x") for _ in range(4)] == [b"x", None, None, b"x"]

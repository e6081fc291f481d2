"""RFC 9002 §7.6, first its own example."""

from __future__ import annotations

from typing import Any

import pytest

from quicstack.recovery import Cubic, NewReno, Space
from quicstack.recovery.persistent_congestion import MAX_INTERVALS, PersistentCongestion
from quicstack.recovery.sent_packet import SentPacket


def blackout(script: Any, **options: Any) -> Any:
    """A path with an RTT of 0.2 s whose probe timeout comes to two seconds by its max_ack_delay."""
    s = script(now=0.0, **options)
    s.advance(-1.0)
    s.sample(0.2)  # packet 0; smoothed_rtt 0.2, rttvar 0.1
    s.recovery.max_ack_delay = 2.0 - (0.2 + 4 * 0.1)
    s.now = 0.0
    return s


@pytest.mark.conformance("R19")
@pytest.mark.parametrize("controller", [NewReno, Cubic])
def test_example_of_section_7_6_3(script: Any, controller: Any) -> None:
    s = blackout(script, controller=controller)
    s.send()  # 1 at t=0
    s.now = 0.2  # the RFC says 1.2, which would change the timeout of two seconds that it assumes
    s.ack(1)
    s.now = 1.0
    s.send()  # 2
    for s.now in (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0):
        s.send()  # 3 ... 9
    s.now = 12.2
    s.ack(9)
    s.expect_lost(2, 3, 4, 5, 6, 7, 8)
    assert s.persistent_congestion
    s.expect_var("congestion_window", 2400)
    s.expect_var("min_rtt", s.recovery.rtt.latest_rtt)


@pytest.mark.conformance("R19")
def test_an_acknowledged_packet_in_between_prevents_it(script: Any) -> None:
    s = blackout(script)
    for s.now in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0):
        s.send()
    s.now = 12.2
    s.ack(8, 4)
    s.expect_lost(1, 2, 3, 5, 6, 7)
    assert not s.persistent_congestion


@pytest.mark.conformance("R19")
def test_an_acknowledged_packet_of_another_space_prevents_it(script: Any) -> None:
    s = blackout(script)
    for s.now in (1.0, 2.0, 3.0):
        s.send()
    s.now = 4.0
    s.send(space=Space.HANDSHAKE)
    for s.now in (5.0, 6.0, 8.0, 12.0):
        s.send()
    s.now = 12.1
    s.ack(0, space=Space.HANDSHAKE)
    s.now = 12.2
    s.ack(7)
    s.expect_lost(1, 2, 3, 4, 5, 6)
    assert not s.persistent_congestion


def test_losses_of_two_spaces_add_up(script: Any) -> None:
    s = blackout(script)
    for s.now in (1.0, 2.0):
        s.send(space=Space.HANDSHAKE)
    for s.now in (4.0, 8.0):
        s.send()
    s.now = 12.0
    s.send(space=Space.HANDSHAKE)
    s.send()
    s.now = 12.2
    s.ack(2, space=Space.HANDSHAKE)
    s.expect_lost(0, 1)
    assert not s.persistent_congestion
    s.ack(3)
    s.expect_lost(1, 2)
    assert s.persistent_congestion


@pytest.mark.conformance("R19")
def test_too_short_a_time(script: Any) -> None:
    s = blackout(script)
    for s.now in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 12.0):
        s.send()
    s.now = 12.2
    s.ack(7)
    s.expect_lost(1, 2, 3, 4, 5, 6)
    assert not s.persistent_congestion


@pytest.mark.conformance("R19")
def test_the_ends_must_be_ack_eliciting(script: Any) -> None:
    s = blackout(script)
    s.now = 1.0
    s.send(ack_eliciting=False)
    for s.now in (3.0, 6.0):
        s.send()
    s.now = 8.0
    s.send(ack_eliciting=False)
    s.now = 12.0
    s.send()
    s.now = 12.2
    s.ack(5)
    s.expect_lost(1, 2, 3, 4)
    assert not s.persistent_congestion


@pytest.mark.conformance("R19")
def test_packets_sent_before_the_first_sample_do_not_count(script: Any) -> None:
    s = script(now=0.0)
    for s.now in (0.0, 2.0, 4.0, 6.0, 8.0):
        s.send()
    s.now = 8.1
    s.ack(4)
    s.expect_lost(0, 1, 2, 3)
    assert not s.persistent_congestion


def test_slow_start_follows(script: Any) -> None:
    s = blackout(script)
    for s.now in (1.0, 2.0, 4.0, 8.0, 12.0):
        s.send()
    s.now = 12.2
    s.ack(5)
    assert s.persistent_congestion
    s.send(2)
    s.advance(0.2)
    s.ack((6, 7))
    s.expect_var("congestion_window", 4800)


def packets(*times: float) -> list[SentPacket]:
    return [SentPacket(number, time, 1200, True, True) for number, time in enumerate(times)]


def test_a_working_path_is_one_interval() -> None:
    known = PersistentCongestion()
    for at in range(1000):
        known.on_packets_acked(packets(at, at + 0.5), duration=3.0)
    assert not known.on_packets_lost(packets(10.0, 990.0), duration=3.0, since=-1.0)


def test_memory_is_bounded() -> None:
    known = PersistentCongestion()
    for at in range(1000):
        known.on_packets_acked(packets(at * 100.0), duration=3.0)
    assert len(known._starts) == len(known._ends) == MAX_INTERVALS
    known.on_packets_lost(packets(*(at * 100.0 + 50 for at in range(1000))), duration=3.0, since=-1.0)
    assert len(known._lost) <= MAX_INTERVALS


def test_one_ack_with_two_far_apart_packets_does_not_hide_the_silence() -> None:
    known = PersistentCongestion()
    known.on_packets_acked(packets(0.0, 20.0), duration=3.0)
    assert known.on_packets_lost(packets(1.0, 10.0, 19.0), duration=3.0, since=-1.0)


def test_late_news_of_delivery_splits_the_silence() -> None:
    known = PersistentCongestion()
    known.on_packets_acked(packets(0.0), duration=3.0)
    known.on_packets_acked(packets(10.0), duration=3.0)
    assert not known.on_packets_lost(packets(1.0, 3.0), duration=3.0, since=-1.0)
    known.on_packets_acked(packets(5.0), duration=3.0)
    assert not known.on_packets_lost(packets(6.0, 8.0), duration=3.0, since=-1.0)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_deliveries_join_whatever_their_order(order: tuple[int, ...]) -> None:
    """Three stretches, each within the duration of the next, are one; so nothing lost between them is a silence."""
    stretches = [(10.0, 11.0), (13.0, 15.0), (17.5, 18.0)]
    known = PersistentCongestion()
    for index in order:
        known.on_packets_acked(packets(*stretches[index]), duration=3.0)
    assert (known._starts, known._ends) == ([10.0], [18.0])
    known.on_packets_acked(packets(12.0), duration=3.0)
    assert (known._starts, known._ends) == ([10.0], [18.0])
    assert not known.on_packets_lost(packets(9.0, 19.0), duration=3.0, since=-1.0)
    assert known.on_packets_lost(packets(19.0, 22.5), duration=3.0, since=-1.0)


def test_deliveries_further_apart_do_not_join() -> None:
    known = PersistentCongestion()
    for times in ((10.0,), (13.5,), (20.0, 22.0), (13.0,)):
        known.on_packets_acked(packets(*times), duration=3.0)
    assert (known._starts, known._ends) == ([10.0, 20.0], [13.5, 22.0])
    assert known.on_packets_lost(packets(14.0, 17.5), duration=3.0, since=-1.0)


def test_a_silence_of_exactly_the_duration_is_too_short() -> None:
    known = PersistentCongestion()
    assert not known.on_packets_lost(packets(1.0, 4.0), duration=3.0, since=-1.0)
    assert known.on_packets_lost(packets(4.25), duration=3.0, since=-1.0)


def test_the_latest_silences_are_remembered() -> None:
    known = PersistentCongestion()
    for at in range(20):
        known.on_packets_acked(packets(at * 100.0, at * 100.0 + 1), duration=3.0)
    first = 100.0 * (20 - MAX_INTERVALS)
    assert (known._starts[0], known._ends[0]) == (first, first + 1)
    assert known._starts[-1] == 1900.0

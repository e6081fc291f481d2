"""What is sent, and what recovery answers besides: trains, timeouts, paths that are left and come back, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from quicstack.recovery import NewReno, Recovery, SentPacket, Space
from quicstack.recovery.congestion.window import Window
from quicstack.recovery.ecn import ECT0, EcnValidation

INITIAL, HANDSHAKE, APPLICATION = Space


class Told(NewReno):
    """A controller that writes down what it is told."""

    def __init__(self, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size)
        self.sent: list[tuple[int, int, float]] = []
        self.events: list[tuple[float, float, int, bool]] = []
        self.discarded: list[int] = []

    def on_packets_sent(self, packets: Sequence[SentPacket], bytes_in_flight: int, now: float) -> None:
        self.sent += [(packet.packet_number, bytes_in_flight, now) for packet in packets]

    def on_congestion_event(self, now: float, sent_time: float, bytes_in_flight: int, *, is_ecn: bool) -> None:
        self.events.append((now, sent_time, bytes_in_flight, is_ecn))
        super().on_congestion_event(now, sent_time, bytes_in_flight, is_ecn=is_ecn)

    def on_packets_discarded(self, size: int) -> None:
        self.discarded.append(size)


def train(s: Any, count: int, *, size: int = 1200, ecn: int = 0) -> list[SentPacket]:
    """Send packets at once."""
    first = s.next_number[APPLICATION]
    s.next_number[APPLICATION] += count
    packets = [SentPacket(first + n, s.now, size, True, True, (), ecn) for n in range(count)]
    s.recovery.on_train_sent(APPLICATION, packets, s.now)
    return packets


# -- trains --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ecn", [0, ECT0])
def test_trains_behind_each_other_are_their_packets(script: Any, ecn: int) -> None:
    """Of whatever length, behind packets that are in flight already."""
    together, single = script(controller=Told, pacing=True), script(controller=Told, pacing=True)
    for s in (together, single):
        s.send(2, size=500)
        s.advance(0.01)
        for count in (3, 1, 2):
            if s is together:
                train(s, count, ecn=ecn)
            else:
                s.send(count, ecn=ecn)
            s.advance(0.01)
        s.expect_var("bytes_in_flight", 2 * 500 + 6 * 1200)
        s.expect_timer(0.999 + 0.025 - 0.01)
    assert together.recovery.send_allowance(together.now) == single.recovery.send_allowance(single.now) > 0
    assert together.recovery.pacer.tokens == single.recovery.pacer.tokens
    assert [number for number, *_ in together.recovery.congestion_controller.sent] == list(range(8))
    assert together.recovery.congestion_controller.sent[2:5] == [
        (2, 4600, 1000.01),
        (3, 4600, 1000.01),
        (4, 4600, 1000.01),
    ]
    for s in (together, single):
        assert s.recovery.ecn._marked == (6 if ecn else 0)
        for number in range(8):
            s.expect_var("bytes_in_flight", (7200 + 500 * (2 - number)) if number < 2 else 1200 * (8 - number))
            assert s.recovery.loss_detection_timer is not None
            s.ack(number, ecn=(max(0, number - 1), 0, 0) if ecn else None)
        s.expect_timer(None)


def test_a_train_uses_up_the_packet_that_may_go_at_once(script: Any) -> None:
    """RFC 9002 §7.3.2."""
    s = script()
    s.sample(0.1)
    s.send(10)
    s.advance(0.1)
    s.ack(4)
    assert s.recovery.send_allowance(s.now) == 1200
    train(s, 1)
    assert s.recovery.send_allowance(s.now) == 0


# -- what controllers are told -------------------------------------------------------------------------------------


def test_losses_and_marks_are_told_apart(script: Any) -> None:
    s = script(controller=Told)
    s.sample(0.1)
    s.send(10, ecn=ECT0)
    sent_at = s.now
    s.advance(0.1)
    s.ack((1, 5), ecn=(4, 0, 1))
    assert s.recovery.congestion_controller.events == [(s.now, sent_at, 5 * 1200, True)]
    s.advance(0.1)
    s.send(4)
    later = s.now
    s.advance(0.1)
    s.ack(14, (6, 10), ecn=(9, 0, 1))
    s.expect_lost(11)
    assert s.recovery.congestion_controller.events[1:] == [(s.now, later, 2 * 1200, False)]


def test_discarded_bytes_are_told_once(script: Any) -> None:
    s = script(controller=Told, confirmed=False)
    s.send(2, space=INITIAL, size=700)
    s.send(space=INITIAL, size=40, ack_eliciting=False, in_flight=False)
    s.recovery.discard_space(INITIAL)
    s.recovery.discard_space(HANDSHAKE)
    assert s.recovery.congestion_controller.discarded == [1400]
    assert s.recovery.discard_space(INITIAL) == []
    s.expect_var("bytes_in_flight", 0)


# -- timeouts ------------------------------------------------------------------------------------------------------


def test_what_a_timeout_answers(script: Any) -> None:
    """Nothing, before its time; what is lost and where; or whom to probe."""
    s = script(confirmed=False)
    s.sample(0.1, HANDSHAKE)
    assert s.recovery.on_loss_detection_timeout(s.now) == ([], None, False, 0)
    s.send(2, space=HANDSHAKE)
    s.advance(0.1)
    s.ack(2, space=HANDSHAKE)
    assert s.recovery.on_loss_detection_timeout(s.now) == ([], None, False, 0)
    s.timeout()
    assert [packet.packet_number for packet in s.timeout_result.lost] == [1]
    assert s.timeout_result[1:] == (None, False, HANDSHAKE)
    s.recovery.peer_completed_address_validation = False
    s.send(space=INITIAL)
    assert s.recovery.on_loss_detection_timeout(s.now) == ([], None, False, 0)
    s.timeout()
    assert s.timeout_result == ([], (INITIAL, 2), False, 0)


def test_losses_by_time_can_be_persistent_congestion(script: Any) -> None:
    """RFC 9002 §7.6: a timeout says so like an ACK does."""
    s = script()
    s.sample(0.1)
    s.advance(0.1)  # only packets sent after the first sample count
    s.send()
    s.advance(5.0)
    s.send()
    s.advance(0.001)
    s.send()
    s.advance(0.05)
    s.ack(3)
    s.expect_lost(1)
    s.timeout()
    assert [packet.packet_number for packet in s.timeout_result.lost] == [2]
    assert s.timeout_result.persistent_congestion
    s.expect_var("congestion_window", 2400)
    assert s.recovery.on_loss_detection_timeout(s.now) == ([], None, False, 0)


def test_of_two_spaces_with_the_same_deadline_the_first_is_probed(script: Any) -> None:
    s = script(confirmed=False)
    s.send(space=INITIAL)
    s.send(space=HANDSHAKE)
    s.timeout()
    s.expect_probes(INITIAL, 2)


# -- paths (RFC 9000 §9.4) -----------------------------------------------------------------------------------------


def test_a_path_that_is_left_is_remembered(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.recovery.congestion_controller.congestion_window = 50_000
    known = s.recovery.path()
    assert known.ecn is EcnValidation.TESTING
    s.recovery.reset_path(s.now)
    s.expect_var("smoothed_rtt", 0.333)
    s.expect_var("congestion_window", 12_000)
    s.sample(0.5)
    s.recovery.reset_path(s.now, known)
    s.expect_var("smoothed_rtt", 0.1)
    s.expect_var("congestion_window", 50_000)
    assert s.recovery.ecn.validation is EcnValidation.TESTING


@pytest.mark.parametrize("failed", [False, True])
def test_a_path_that_marks_do_not_survive_is_not_tested_again(script: Any, failed: bool) -> None:
    s = script()
    s.send(10, ecn=ECT0)
    s.ack((0, 9), ecn=None if failed else (10, 0, 0))
    known = s.recovery.path()
    s.recovery.reset_path(s.now)
    assert s.recovery.ecn.validation is EcnValidation.TESTING
    s.recovery.reset_path(s.now, known)
    assert s.recovery.ecn.validation is (EcnValidation.FAILED if failed else EcnValidation.TESTING)
    assert s.recovery.ecn.mark() == (0 if failed else ECT0)


def test_a_new_path_has_a_pacer_and_no_debts(script: Any) -> None:
    s = script(pacing=True, exact_timers=True)
    s.sample(0.1)
    s.send(9)
    s.advance(0.1)
    s.ack(4)
    assert s.recovery.congestion_controller.congestion_window == 6000
    s.recovery.reset_path(s.now)
    s.send(10)
    s.recovery.pacer.tokens = 1e9
    assert s.recovery.send_allowance(s.now) == 0  # not the packet that may leave at once after a reduction
    s.recovery.bytes_in_flight = 0
    s.recovery.rtt.update(0.1, 0.0, s.now)
    s.recovery._rate_is_stale = True
    s.recovery.pacer.tokens = 0.0
    s.advance(1.0)
    assert s.recovery.send_allowance(s.now) // 1200 == 1  # a simulator's timers: one packet at a time


def test_marks_of_the_path_before_are_no_congestion_here(script: Any) -> None:
    """What was sent at the moment of the move counts for the new path, what was sent before does not."""
    for moment, reduced in ((0.001, False), (0.0, True)):
        s = script()
        s.send(10, ecn=ECT0)
        s.advance(moment)
        s.recovery.reset_path(s.now)
        s.advance(0.1)
        s.ack((0, 9), ecn=(9, 0, 1))
        assert (s.recovery.congestion_controller.congestion_window < 12_000) == reduced


def test_mtu_discovery_raises_the_window(script: Any) -> None:
    """RFC 9002 §7.2: an initial window that nothing has happened to follows the size; the rate is reckoned anew."""
    s = script(pacing=True)
    before = s.recovery.send_allowance(s.now)
    s.recovery.set_max_datagram_size(1452)
    assert s.recovery.max_datagram_size == 1452
    s.expect_var("congestion_window", 14_520)
    assert s.recovery.send_allowance(s.now, probe=True) == 1452
    assert s.recovery.send_allowance(s.now) > before


def test_a_window_that_was_reduced_does_not_follow_the_size() -> None:
    window = Window(1200)
    window.ssthresh = window.congestion_window
    window.set_max_datagram_size(1452)
    assert window.congestion_window == 12_000
    window = Window(1200)
    window.congestion_window = 20_000
    window.set_max_datagram_size(1452)
    assert window.congestion_window == 20_000


# -- the pacer's time and the numbers ------------------------------------------------------------------------------


def test_who_waits_for_whom(script: Any) -> None:
    """None when it is not the pacer that holds the next packet back: it may go, or the window is full."""
    s = script(pacing=True)
    s.sample(0.1)
    assert s.recovery.next_send_time(s.now) is None
    while s.recovery.send_allowance(s.now):
        s.send()
    due = s.recovery.next_send_time(s.now)
    assert due is not None and due > s.now
    s.recovery.congestion_controller.congestion_window = s.recovery.bytes_in_flight + 1199
    assert s.recovery.next_send_time(s.now) is None
    s.recovery.congestion_controller.congestion_window = s.recovery.bytes_in_flight + 1200
    assert s.recovery.next_send_time(s.now) == due
    unpaced = script(pacing=False)
    unpaced.recovery.pacer.set_rate(1.0, 1200, None)
    unpaced.recovery.pacer.tokens = -1e6
    assert unpaced.recovery.next_send_time(unpaced.now) is None


def test_metrics_are_the_numbers_of_the_moment(script: Any) -> None:
    s = script(controller=NewReno)
    s.sample(0.1)
    s.sample(0.2)
    s.send()
    s.timeout()
    s.recovery.congestion_controller.ssthresh = 5000
    s.recovery.congestion_controller.congestion_window = 20_000
    metrics = s.recovery.metrics()
    assert metrics[:4] == (
        pytest.approx(0.1),
        pytest.approx(0.875 * 0.1 + 0.125 * 0.2),
        pytest.approx(0.2),
        pytest.approx(0.75 * 0.05 + 0.25 * 0.1),
    )
    assert metrics[4:8] == (1, 20_000, 1200, 5000)
    assert metrics.pacing_rate == pytest.approx(1.25 * 20_000 / metrics.smoothed_rtt)


def test_settings_reach_their_parts() -> None:
    made: list[int] = []

    def factory(size: int) -> NewReno:
        made.append(size)
        return NewReno(size)

    recovery = Recovery(
        congestion_controller_factory=factory, max_datagram_size=1300, is_client=False, initial_rtt=0.05, ecn=False
    )
    assert made == [1300] and recovery.max_datagram_size == 1300
    assert recovery.rtt.smoothed_rtt == 0.05
    assert recovery.ecn.mark() == 0
    assert recovery.peer_completed_address_validation
    recovery.rtt.update(0.7, 0.0, 1.0)
    recovery.reset_path(2.0)
    assert recovery.rtt.smoothed_rtt == 0.05 and made == [1300, 1300]

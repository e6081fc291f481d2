"""RFC 9002 §6 and §7 as scripts."""

from __future__ import annotations

from typing import Any

import pytest

from quicstack.recovery import Cubic, NewReno, SentPacket, Space

INITIAL, HANDSHAKE, APPLICATION = Space

# -- §6.1 acknowledgment-based detection


@pytest.mark.conformance("R04")
def test_packet_threshold(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(4)
    s.advance(0.1)
    s.ack(3)
    s.expect_lost()
    s.send()
    s.ack(4)
    s.expect_lost(1)


@pytest.mark.conformance("R04")
def test_packet_threshold_counts_numbers_not_packets(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(10)
    s.advance(0.1)
    s.ack((8, 10), 5)
    s.expect_acked(5, 8, 9, 10)
    s.expect_lost(1, 2, 3, 4, 6, 7)
    s.expect_var("bytes_in_flight", 0)


@pytest.mark.conformance("R05")
def test_time_threshold(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(2)
    s.advance(0.1)
    s.ack(2)
    s.expect_lost()
    s.expect_timer(0.1 * 9 / 8 - 0.1)
    s.timeout()
    assert s.timeout_result.probes is None
    s.expect_lost(1)
    s.expect_timer(None)


@pytest.mark.conformance("R05")
def test_time_threshold_uses_the_larger_of_smoothed_and_latest(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(2)
    s.advance(0.18)
    s.ack(2)
    s.expect_timer(0.18 * 9 / 8 - 0.18)


@pytest.mark.conformance("R05")
def test_time_threshold_is_at_least_the_granularity(script: Any) -> None:
    s = script()
    s.sample(0.0001)
    s.send(2)
    s.advance(0.0001)
    s.ack(2)
    s.expect_timer(0.001 - 0.0001)


def test_only_packets_sent_before_an_acked_one_are_lost(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(1)
    s.advance(1.0)
    s.send(1)
    s.ack(1)
    s.expect_lost()
    assert [packet.packet_number for packet in s.recovery.outstanding(APPLICATION)] == [2]


@pytest.mark.conformance("R01")
def test_spaces_are_separate(script: Any) -> None:
    s = script(confirmed=False)
    s.send(1, space=INITIAL)
    s.send(5, space=HANDSHAKE)
    s.advance(0.1)
    s.ack(4, space=HANDSHAKE)
    s.expect_lost(0, 1)
    assert len(list(s.recovery.outstanding(INITIAL))) == 1


def test_a_late_ack_of_a_lost_packet_changes_nothing(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(4)
    s.advance(0.1)
    s.ack(4)
    s.expect_lost(1)
    s.expect_acked(4)
    s.ack((1, 1))
    s.expect_acked()
    s.expect_var("bytes_in_flight", 2 * 1200)


def test_too_early_a_timeout_changes_nothing(script: Any) -> None:
    s = script()
    s.send()
    assert not any(s.recovery.on_loss_detection_timeout(s.now))
    s.expect_var("pto_count", 0)


# -- §6.2 probe timeout


@pytest.mark.conformance("R06", "R06a")
def test_pto_and_its_backoff(script: Any) -> None:
    s = script()
    s.sample(0.1)  # rttvar 0.05
    s.send()
    pto = 0.1 + 4 * 0.05 + 0.025
    s.expect_timer(pto)
    window = s.recovery.congestion_controller.congestion_window
    for backoff in (1, 2, 4):
        s.timeout()
        s.expect_probes(APPLICATION, 2)
        s.expect_var("congestion_window", window)  # §6.2: a PTO is no loss
        s.send()
        s.expect_timer(2 * backoff * pto)
    s.expect_var("pto_count", 3)
    s.ack(4)
    s.expect_var("pto_count", 0)


@pytest.mark.conformance("R06", "R08")
def test_pto_of_handshake_spaces_has_no_max_ack_delay(script: Any) -> None:
    s = script(confirmed=False)
    s.send(space=INITIAL)
    s.expect_timer(0.999)
    s.timeout()
    s.expect_probes(INITIAL, 2)
    assert s.recovery.pto_duration(INITIAL) == pytest.approx(0.999)
    assert s.recovery.pto_duration(APPLICATION) == pytest.approx(0.999 + 0.025)


def test_pto_is_the_earlier_of_the_handshake_spaces(script: Any) -> None:
    s = script(confirmed=False)
    s.send(space=HANDSHAKE)
    s.advance(0.3)
    s.send(space=INITIAL)
    s.expect_timer(0.999 - 0.3)
    s.timeout()
    s.expect_probes(HANDSHAKE, 2)


@pytest.mark.conformance("R07")
def test_no_application_pto_before_confirmation(script: Any) -> None:
    s = script(confirmed=False, is_client=False)
    s.send(space=APPLICATION)
    s.expect_timer(None)
    s.recovery.handshake_confirmed = True
    s.expect_timer(0.999 + 0.025)


@pytest.mark.conformance("R06a")
def test_no_pto_while_a_loss_time_is_set(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(2)
    s.advance(0.1)
    s.send(1)
    s.ack(2)
    s.expect_timer(0.0125)
    s.timeout()
    s.expect_lost(1)
    s.expect_var("pto_count", 0)


@pytest.mark.conformance("R09a")
def test_server_at_the_amplification_limit_has_no_timer(script: Any) -> None:
    s = script(confirmed=False, is_client=False)
    s.send(3, space=INITIAL)
    s.recovery.at_anti_amplification_limit = True
    s.expect_timer(None)
    s.advance(10)
    s.recovery.at_anti_amplification_limit = False  # a datagram came: an overdue PTO is due at once (§A.6)
    s.expect_timer(0.999 - 10)
    s.timeout()
    s.expect_probes(INITIAL, 2)


@pytest.mark.conformance("R09")
@pytest.mark.parametrize(("has_handshake_keys", "space"), [(False, INITIAL), (True, HANDSHAKE)])
def test_client_feeds_a_server_that_may_be_blocked(script: Any, has_handshake_keys: bool, space: Space) -> None:
    s = script(confirmed=False)
    s.sample(0.1, INITIAL)
    s.recovery.has_handshake_keys = has_handshake_keys
    s.expect_timer(0.3)
    s.timeout()
    s.expect_probes(space, 1)
    s.expect_timer(0.6)


@pytest.mark.conformance("R09")
def test_client_with_only_early_data_in_flight_still_has_a_timer(script: Any) -> None:
    s = script(confirmed=False)
    s.sample(0.1, INITIAL)
    s.send(space=APPLICATION)
    s.expect_timer(0.3)


def test_client_keeps_backing_off_on_initial_acks(script: Any) -> None:
    s = script(confirmed=False)
    s.send(space=INITIAL)
    s.timeout()
    s.send(space=INITIAL)
    s.ack(1, space=INITIAL)
    s.expect_var("pto_count", 1)
    s.send(space=HANDSHAKE)
    s.ack(0, space=HANDSHAKE)
    s.expect_var("pto_count", 0)
    s.expect_timer(None)


@pytest.mark.conformance("R11")
def test_probes_pass_the_window_and_count(script: Any) -> None:
    s = script()
    s.send(10)
    assert s.recovery.send_allowance(s.now) == 0
    assert s.recovery.send_allowance(s.now, probe=True) == 1200
    s.send()
    s.expect_var("bytes_in_flight", 11 * 1200)


def test_endless_timeouts_do_not_overflow(script: Any) -> None:
    s = script()
    s.send()
    for _ in range(2000):
        s.timeout()
    s.expect_var("pto_count", 2000)


# -- §6.3, §6.4


@pytest.mark.conformance("R13")
def test_discarding_a_space(script: Any) -> None:
    s = script(confirmed=False)
    s.send(2, space=INITIAL)
    s.timeout()
    s.send(1, space=HANDSHAKE)
    discarded = s.recovery.discard_space(INITIAL)
    assert [packet.packet_number for packet in discarded] == [0, 1]
    s.expect_var("bytes_in_flight", 1200)
    s.expect_var("pto_count", 0)
    assert not list(s.recovery.outstanding(INITIAL))
    s.expect_timer(0.999)
    s.timeout()
    s.expect_probes(HANDSHAKE, 2)
    s.ack(0, space=INITIAL)
    s.expect_acked()


def test_rejected_early_data_is_discarded(script: Any) -> None:
    s = script(confirmed=False)
    s.send(3, space=APPLICATION)
    assert len(s.recovery.discard_space(APPLICATION)) == 3
    s.expect_var("bytes_in_flight", 0)
    s.recovery.handshake_confirmed = True
    s.send(space=APPLICATION)
    s.expect_timer(0.999 + 0.025)


def test_retry_starts_over(script: Any) -> None:
    s = script(confirmed=False)
    s.send(1, space=INITIAL)
    s.timeout()
    s.send(1, space=INITIAL)
    s.send(2, space=APPLICATION)
    assert len(s.recovery.on_retry(s.now)) == 4
    s.expect_var("bytes_in_flight", 0)
    s.expect_var("pto_count", 0)
    s.expect_var("smoothed_rtt", 0.333)
    s.expect_timer(0.999)


@pytest.mark.conformance("R01")
def test_a_new_path_knows_nothing(script: Any) -> None:
    """RFC 9000 §9.4: packets of the old path are still settled, but count for neither window nor RTT."""
    s = script()
    s.sample(0.1)
    s.send(8)
    s.advance(0.05)
    s.recovery.reset_path(s.now)
    s.expect_var("bytes_in_flight", 0)
    assert s.recovery.rtt.first_rtt_sample is None
    window = s.recovery.congestion_controller.congestion_window
    s.advance(0.05)
    s.ack((5, 6))
    s.expect_acked(5, 6)
    s.expect_lost(1, 2, 3)
    s.expect_var("congestion_window", window)
    s.expect_var("bytes_in_flight", 0)
    assert s.recovery.rtt.first_rtt_sample is None
    s.send()
    s.advance(0.2)
    s.ack(9)
    s.expect_var("smoothed_rtt", 0.2)
    s.expect_var("bytes_in_flight", 0)


# -- §7 congestion control, as recovery asks for it


@pytest.mark.conformance("R15a")
def test_flight_never_exceeds_the_window(script: Any) -> None:
    s = script()
    sent = 0
    while s.recovery.send_allowance(s.now) >= 1200:
        s.send()
        sent += 1
    assert sent == 10
    s.send(size=40, ack_eliciting=False, in_flight=False)
    s.expect_var("bytes_in_flight", 12_000)


@pytest.mark.conformance("R15a", "R16")
def test_one_reduction_for_a_round_trip_and_one_packet_at_once(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.expect_var("congestion_window", 12_000)
    s.send(10)
    s.advance(0.1)
    s.ack(4)
    s.expect_lost(1)
    s.expect_var("congestion_window", 6_000)
    s.expect_var("bytes_in_flight", 8 * 1200)
    assert s.recovery.send_allowance(s.now) == 1200  # §7.3.2
    s.send()
    assert s.recovery.send_allowance(s.now) == 0
    s.ack((6, 9))
    s.expect_lost(2, 3, 5)
    s.expect_var("congestion_window", 6_000)
    s.advance(0.1)
    s.ack((10, 11))  # 11 was sent in the recovery period: it ends
    s.expect_lost()
    s.expect_var("congestion_window", 6_000 + 1200 * 1200 // 6_000)


@pytest.mark.conformance("R16")
def test_a_loss_after_the_recovery_period_reduces_again(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(10)
    s.advance(0.1)
    s.ack(4)
    s.ack((5, 10), (2, 3))
    s.expect_lost(1)
    s.advance(0.01)
    s.send(5)
    s.advance(0.1)
    s.ack(14)
    s.expect_lost(11)
    s.expect_var("congestion_window", 3_000)


@pytest.mark.conformance("R22")
def test_a_lost_mtu_probe_is_no_congestion(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(1, size=1452, is_mtu_probe=True)
    s.send(3)
    s.advance(0.1)
    window = s.recovery.congestion_controller.congestion_window
    s.recovery.app_limited = True
    s.ack(4)
    s.expect_lost(1)
    s.expect_var("congestion_window", window)


@pytest.mark.conformance("R21")
def test_app_limited_does_not_grow(script: Any) -> None:
    s = script()
    s.recovery.app_limited = True
    for _ in range(50):
        s.send(9)
        s.advance(0.1)
        s.ack((0, s.next_number[APPLICATION] - 1))
    s.expect_var("congestion_window", 12_000)
    s.recovery.app_limited = False
    s.send(4)  # the pacer was empty once, but this does not need a larger window
    s.advance(0.1)
    s.ack((0, s.next_number[APPLICATION] - 1))
    s.expect_var("congestion_window", 12_000)
    s.recovery.app_limited = True
    s.send(10)  # the whole window, even if nothing more was to be sent
    s.advance(0.1)
    s.ack((0, s.next_number[APPLICATION] - 1))
    s.expect_var("congestion_window", 24_000)


@pytest.mark.conformance("R14")
def test_congestion_experienced(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.send(10, ecn=2)
    s.advance(0.1)
    s.ack((1, 5), ecn=(4, 0, 1))
    s.expect_lost()
    s.expect_var("congestion_window", 6_000)
    s.ack((6, 10), ecn=(8, 0, 2))
    s.expect_var("congestion_window", 6_000)  # still the same round


def test_unknown_losses_do_not_disturb_metrics(script: Any) -> None:
    s = script(controller=Cubic)
    s.sample(0.1)
    metrics = s.recovery.metrics()
    assert metrics.smoothed_rtt == pytest.approx(0.1)
    assert metrics.bytes_in_flight == 0
    assert metrics.pacing_rate == pytest.approx(2 * 12_000 / 0.1)


def test_what_is_newly_acked(script: Any) -> None:
    """Each packet once; those of ACK frames only come last."""
    s = script()
    s.send(3)
    s.send(1, ack_eliciting=False, in_flight=False)

    def ack(*ranges: tuple[int, int]) -> list[int]:
        result = s.recovery.on_ack_received(APPLICATION, list(ranges), 0.0, s.now)
        return [packet.packet_number for packet in result.acked]

    assert ack((1, 1)) == [1]
    assert ack((1, 1)) == []
    assert ack((3, 3)) == [3]
    assert ack((2, 3), (0, 0)) == [2]  # 0 counts as lost by then


def test_padding_is_in_flight_but_arms_no_timer(script: Any) -> None:
    """A datagram padded around an ACK counts against the window and asks for no acknowledgment (RFC 9002 §2)."""
    s = script(confirmed=False, is_client=False)
    s.send(ack_eliciting=False, space=INITIAL)
    s.expect_var("bytes_in_flight", 1200)
    s.expect_timer(None)


@pytest.mark.parametrize("controller", [NewReno, Cubic])
def test_nothing_is_forgotten(script: Any, controller: Any) -> None:
    """Every packet comes back exactly once, and the counts return to zero."""
    s = script(controller=controller)
    s.sample(0.05)
    for round_ in range(40):
        numbers = s.send(7)
        s.advance(0.05)
        survivors = [number for number in numbers if (number * 7 + round_) % 5]
        s.ack(*reversed(survivors))
        if s.recovery.loss_detection_timer is not None:
            s.timeout()
    numbers = s.send(4)
    s.advance(0.05)
    s.ack(*reversed(numbers))
    assert sorted(s.acked + s.lost) == list(range(1, s.next_number[APPLICATION]))
    s.expect_var("bytes_in_flight", 0)
    s.expect_timer(None)


def test_a_train_is_its_packets(script: Any) -> None:
    one_by_one, at_once = script(), script()
    for s in (one_by_one, at_once):
        packets = [SentPacket(number, s.now, 1002, True, True, (), 2) for number in range(5)]
        if s is at_once:
            s.recovery.on_train_sent(APPLICATION, packets, s.now)
        else:
            for packet in packets:
                s.recovery.on_packet_sent(APPLICATION, packet, s.now)
        s.expect_var("bytes_in_flight", 5010)
        s.expect_timer(0.999 + 0.025)
        s.advance(0.1)
        s.ack((0, 4), ecn=(5, 0, 0))
        s.expect_acked(0, 1, 2, 3, 4)
        s.expect_var("bytes_in_flight", 0)
        s.expect_timer(None)
    assert one_by_one.recovery.metrics() == at_once.recovery.metrics()
    assert one_by_one.recovery.ecn.validation is at_once.recovery.ecn.validation

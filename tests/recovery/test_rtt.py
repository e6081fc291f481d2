"""RFC 9002 §5, with numbers worked out by hand from its formulas."""

from __future__ import annotations

from typing import Any

import pytest

from quicstack.recovery import Space
from quicstack.recovery.rtt import RttEstimator, kInitialRtt


@pytest.mark.conformance("R08")
def test_before_any_sample() -> None:
    rtt = RttEstimator()
    assert (rtt.smoothed_rtt, rtt.rttvar) == (kInitialRtt, kInitialRtt / 2)
    assert (rtt.latest_rtt, rtt.min_rtt, rtt.first_rtt_sample) == (0.0, 0.0, None)
    assert rtt.pto == pytest.approx(0.999)  # §6.2.2: handshakes start with a PTO of one second


def test_first_sample_replaces_the_guess() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.05, now=0.0)
    assert (rtt.latest_rtt, rtt.min_rtt, rtt.smoothed_rtt, rtt.rttvar) == (0.1, 0.1, 0.1, 0.05)
    assert rtt.first_rtt_sample == 0.0


def test_second_sample_without_delay() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.2, 0.0, now=2.0)
    assert rtt.smoothed_rtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)
    assert rtt.rttvar == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)
    assert rtt.pto == pytest.approx(rtt.smoothed_rtt + 4 * rtt.rttvar)
    assert rtt.min_rtt == 0.1
    assert rtt.first_rtt_sample == 1.0


@pytest.mark.conformance("R03")
def test_ack_delay_is_subtracted() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.15, 0.03, now=2.0)  # adjusted 0.12
    assert rtt.smoothed_rtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.12)
    assert rtt.rttvar == pytest.approx(0.75 * 0.05 + 0.25 * 0.02)


def test_ack_delay_down_to_min_rtt_is_subtracted() -> None:
    rtt = RttEstimator()
    rtt.update(0.125, 0.0, now=1.0)
    rtt.update(0.25, 0.125, now=2.0)
    assert rtt.smoothed_rtt == 0.125


@pytest.mark.conformance("R03")
def test_ack_delay_that_would_undercut_min_rtt_is_ignored() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.11, 0.02, now=2.0)
    assert rtt.smoothed_rtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.11)


def test_ack_delay_is_capped_once_confirmed() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.3, 0.15, 2.0, max_ack_delay=0.025)
    assert rtt.smoothed_rtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.275)


@pytest.mark.conformance("R03")
def test_min_rtt_takes_the_raw_sample() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.08, 0.05, now=2.0)
    assert rtt.min_rtt == 0.08
    assert rtt.smoothed_rtt == pytest.approx(0.875 * 0.1 + 0.125 * 0.08)


def test_pto_has_a_floor_for_the_variance() -> None:
    rtt = RttEstimator()
    for now in range(200):
        rtt.update(0.01, 0.0, now=float(now))
    assert rtt.pto == pytest.approx(0.011, abs=1e-6)


def test_min_rtt_refresh_and_reset() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now=1.0)
    rtt.update(0.4, 0.0, now=2.0)
    rtt.refresh_min_rtt()
    assert rtt.min_rtt == 0.4
    rtt.reset(0.05)
    assert (rtt.smoothed_rtt, rtt.rttvar, rtt.first_rtt_sample) == (0.05, 0.025, None)


# -- which ACKs give a sample (§5.1), seen from recovery


@pytest.mark.conformance("R02")
def test_no_sample_without_the_largest_newly_acked(script: Any) -> None:
    s = script()
    s.send(2)
    s.advance(0.1)
    s.ack(1)
    s.expect_var("latest_rtt", 0.1)
    s.advance(0.2)
    s.ack((0, 1))
    s.expect_acked(1, 0)
    s.expect_var("latest_rtt", 0.1)


@pytest.mark.conformance("R02")
def test_no_sample_without_an_ack_eliciting_packet(script: Any) -> None:
    s = script()
    s.send(ack_eliciting=False)
    s.advance(0.1)
    s.ack(0)
    s.expect_acked(0)
    assert s.recovery.rtt.first_rtt_sample is None


@pytest.mark.conformance("R02")
def test_a_repeated_ack_gives_no_sample(script: Any) -> None:
    s = script()
    s.sample(0.1)
    s.advance(5)
    s.ack(0)
    s.expect_acked()
    s.expect_var("latest_rtt", 0.1)


def test_delay_of_initial_packets_is_ignored(script: Any) -> None:
    s = script(confirmed=False)
    s.sample(0.1, Space.INITIAL)
    s.send(space=Space.INITIAL)
    s.advance(0.2)
    s.ack(1, space=Space.INITIAL, delay=0.1)
    s.expect_var("smoothed_rtt", 0.875 * 0.1 + 0.125 * 0.2)


@pytest.mark.conformance("R03")
@pytest.mark.parametrize(("confirmed", "adjusted"), [(False, 0.2), (True, 0.275)])
def test_max_ack_delay_counts_from_confirmation_on(script: Any, confirmed: bool, adjusted: float) -> None:
    s = script(confirmed=confirmed)
    s.sample(0.1)
    s.send()
    s.advance(0.3)
    s.ack(1, delay=0.1)
    s.expect_var("smoothed_rtt", 0.875 * 0.1 + 0.125 * adjusted)

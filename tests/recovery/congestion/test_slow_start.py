"""Classic slow start has one rule; HyStart++ is RFC 9406 §4.2 with its constants."""

from __future__ import annotations

import pytest

from quicstack.recovery import AckEvent, Cubic, RttEstimator, SentPacket
from quicstack.recovery.congestion.slow_start import ClassicSlowStart, HyStartPlusPlus


def test_every_byte_counts_and_nothing_ends_it() -> None:
    slow_start = ClassicSlowStart()
    assert slow_start.increase(5000, AckEvent(0.0, [], 5000, 0, 0, True, RttEstimator())) == 5000
    slow_start.on_congestion_event()
    assert not slow_start.is_over


# -- HyStart++ (RFC 9406)


class Rounds:
    """Rounds of ACKs with a given RTT each, for one slow start; ``grown`` is what the last round added, in bytes."""

    def __init__(self) -> None:
        self.slow_start = HyStartPlusPlus()
        self.now = 10.0
        self.grown = 0

    def round(self, *rtts: float, acks: int = 20) -> Rounds:
        """One round; the samples take turns."""
        sent, self.grown = self.now, 0
        self.now += rtts[0]
        for i in range(acks):
            rtt = RttEstimator()
            rtt.update(rtts[i % len(rtts)], 0.0, self.now)
            self.now += 1e-5
            packet = SentPacket(i, sent, 1200, True, True)
            self.grown += self.slow_start.increase(1200, AckEvent(self.now, [packet], 1200, 0, 0, True, rtt))
        return self


def test_a_constant_round_trip_is_classic_slow_start() -> None:
    rounds = Rounds()
    for _ in range(10):
        assert rounds.round(0.1).grown == 20 * 1200
    assert not rounds.slow_start.in_css and not rounds.slow_start.is_over


@pytest.mark.parametrize(
    ("before", "after", "in_css"),
    [
        (0.1, 0.1 + 0.0124, False),  # an eighth of 100 ms
        (0.1, 0.1 + 0.0126, True),
        (0.01, 0.01 + 0.0039, False),  # at least 4 ms
        (0.01, 0.01 + 0.0041, True),
        (0.4, 0.4 + 0.0159, False),  # at most 16 ms
        (0.4, 0.4 + 0.0161, True),
    ],
)
def test_threshold(before: float, after: float, in_css: bool) -> None:
    rounds = Rounds().round(before).round(after)
    assert rounds.slow_start.in_css is in_css


def test_the_smallest_of_a_round_counts() -> None:
    assert not Rounds().round(0.1).round(0.15, 0.15, 0.1).slow_start.in_css


def test_seven_samples_prove_nothing() -> None:
    assert not Rounds().round(0.1).round(0.2, acks=7).slow_start.in_css
    assert Rounds().round(0.1).round(0.2, acks=8).slow_start.in_css


def test_conservative_slow_start_grows_by_a_quarter_for_five_rounds() -> None:
    rounds = Rounds().round(0.1).round(0.12)
    assert rounds.grown == 7 * 1200 + 13 * 300  # it began with the eighth sample
    assert rounds.slow_start.pacing_gain == 1.25
    for _ in range(4):
        assert rounds.round(0.12).grown == 20 * 300
        assert not rounds.slow_start.is_over
    rounds.round(0.12)
    assert rounds.slow_start.is_over


def test_noise_returns_to_slow_start() -> None:
    rounds = Rounds().round(0.1).round(0.12).round(0.1)
    assert not rounds.slow_start.in_css
    assert rounds.slow_start.pacing_gain == 2.0
    assert rounds.round(0.1).grown == 20 * 1200


def test_later_slow_starts_are_classic() -> None:
    rounds = Rounds().round(0.1)
    rounds.slow_start.on_congestion_event()
    assert rounds.round(0.2).grown == 20 * 1200
    assert not rounds.slow_start.in_css


def test_the_window_enters_congestion_avoidance_without_loss() -> None:
    cubic = Cubic(1200)
    now = 1.0
    for rtt_seconds in (0.1, *[0.12] * 7):
        sent, now = now, now + rtt_seconds
        for number in range(10):
            rtt = RttEstimator()
            rtt.update(rtt_seconds, 0.0, now)
            now += 1e-5
            packet = SentPacket(number, sent, 1200, True, True)
            cubic.on_ack(AckEvent(now, [packet], 1200, 0, 0, True, rtt))
    assert not cubic.in_slow_start
    assert cubic.ssthresh == cubic.cwnd_prior == cubic.W_max

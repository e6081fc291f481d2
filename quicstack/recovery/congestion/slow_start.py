"""How the window grows before the path has ever said stop (RFC 9002 §7.3.1, RFC 9406).

Classic slow start doubles the window every round until packets are lost, by then about a whole window of them.
HyStart++ watches the round-trip time: when it rises a queue is filling, so the window grows more slowly for a few
rounds (Conservative Slow Start) and, unless the rise turns out to be noise, congestion avoidance begins without loss.
"""

from __future__ import annotations

from math import inf
from typing import Protocol

from quicstack.recovery.congestion.controller import AckEvent

__all__ = ["ClassicSlowStart", "HyStartPlusPlus", "SlowStart"]

SLOW_START_GAIN = 2.0
"""N of RFC 9002 §7.7: the window doubles in a round, so a smaller gain would be the bottleneck."""

CSS_GAIN = 1.25

# RFC 9406 §4.3
MIN_RTT_THRESH = 0.004
MAX_RTT_THRESH = 0.016
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5


class SlowStart(Protocol):
    """A way to open the window; ``is_over`` when it wants to leave slow start without a loss."""

    is_over: bool
    pacing_gain: float

    def increase(self, acked_bytes: int, ack: AckEvent) -> int:
        """Bytes by which the window grows for ``acked_bytes`` acknowledged."""

    def on_congestion_event(self) -> None:
        """Slow start ended by loss or CE."""


class ClassicSlowStart:
    """Every acknowledged byte opens the window by one: it doubles in a round trip."""

    is_over = False
    pacing_gain = SLOW_START_GAIN

    def increase(self, acked_bytes: int, ack: AckEvent) -> int:
        return acked_bytes

    def on_congestion_event(self) -> None:
        """Keeps no state."""


class HyStartPlusPlus:
    """RFC 9406 §4.2, for a sender that paces (L is infinite). Only the first slow start is watched (§4.3)."""

    def __init__(self) -> None:
        self.is_over = False
        self.pacing_gain = SLOW_START_GAIN
        self._is_first = True
        self._round_ends = -inf
        self._last_round_min_rtt = inf
        self._current_round_min_rtt = inf
        self._rtt_sample_count = 0
        self._css_baseline_min_rtt = inf
        self._css_rounds = 0

    @property
    def in_css(self) -> bool:
        """In Conservative Slow Start."""
        return self._css_baseline_min_rtt < inf

    def increase(self, acked_bytes: int, ack: AckEvent) -> int:
        if not self._is_first:
            return acked_bytes
        if ack.packets[-1].time_sent >= self._round_ends:
            self._next_round(ack.now)
        self._current_round_min_rtt = min(self._current_round_min_rtt, ack.rtt.latest_rtt)
        self._rtt_sample_count += 1
        if self._rtt_sample_count >= N_RTT_SAMPLE:
            self._judge()
        return acked_bytes // CSS_GROWTH_DIVISOR if self.in_css else acked_bytes

    def _next_round(self, now: float) -> None:
        """A packet sent after the last round began is acknowledged: what is in flight now makes the next round."""
        self._round_ends = now
        self._last_round_min_rtt = self._current_round_min_rtt
        self._current_round_min_rtt = inf
        self._rtt_sample_count = 0
        if self.in_css:
            self._css_rounds += 1
            self.is_over = self._css_rounds >= CSS_ROUNDS

    def _judge(self) -> None:
        current, last = self._current_round_min_rtt, self._last_round_min_rtt
        if self.in_css:
            if current < self._css_baseline_min_rtt:  # the rise was noise
                self._css_baseline_min_rtt = inf
                self.pacing_gain = SLOW_START_GAIN
            return
        if last < inf and current >= last + max(MIN_RTT_THRESH, min(last / MIN_RTT_DIVISOR, MAX_RTT_THRESH)):
            self._css_baseline_min_rtt = current
            self._css_rounds = 0
            self.pacing_gain = CSS_GAIN

    def on_congestion_event(self) -> None:
        self._is_first = False
        self.pacing_gain = SLOW_START_GAIN

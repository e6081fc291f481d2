"""Classic slow start has one rule."""

from __future__ import annotations

from quicstack.recovery import AckEvent, RttEstimator
from quicstack.recovery.congestion.slow_start import ClassicSlowStart


def test_every_byte_counts_and_nothing_ends_it() -> None:
    slow_start = ClassicSlowStart()
    assert slow_start.increase(5000, AckEvent(0.0, [], 5000, 0, 0, True, RttEstimator())) == 5000
    slow_start.on_congestion_event()
    assert not slow_start.is_over

"""What RFC 9002 §7.2, §7.3 and §7.6 fix for every window."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from quicstack.recovery import AckEvent, Cubic, NewReno, RttEstimator, SentPacket
from quicstack.recovery.congestion.window import Window, initial_window

BOTH = pytest.mark.parametrize("controller", [NewReno, Cubic])


def ack(window: Window, now: float, *sent: float, limited: bool = True) -> None:
    packets = [SentPacket(number, time, 1200, True, True) for number, time in enumerate(sent)]
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now)
    window.on_ack(AckEvent(now, packets, 1200 * len(packets), 0, 0, limited, rtt))


@pytest.mark.conformance("R15")
@pytest.mark.parametrize(("mds", "expected"), [(1200, 12_000), (1472, 14_720), (1500, 14_720), (9000, 18_000)])
def test_initial_window(mds: int, expected: int) -> None:
    assert initial_window(mds) == expected


@BOTH
def test_slow_start_counts_bytes(controller: type[Window]) -> None:
    window = controller(1200)
    ack(window, 0.1, 0.0, 0.0, 0.0)
    assert window.congestion_window == 12_000 + 3 * 1200


@pytest.mark.parametrize(("controller", "factor"), [(NewReno, 0.5), (Cubic, 0.7)])
def test_decrease(controller: type[Window], factor: float) -> None:
    window = controller(1200)
    window.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
    assert window.congestion_window == window.ssthresh == 12_000 * factor


@pytest.mark.conformance("R14", "R16")
@BOTH
def test_one_decrease_for_a_round(controller: type[Window]) -> None:
    window = controller(1200)
    window.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
    once = window.congestion_window
    window.on_congestion_event(1.05, 0.99, 0, is_ecn=True)
    assert window.congestion_window == once
    window.on_congestion_event(1.15, 1.01, 0, is_ecn=True)
    assert window.congestion_window < once


@BOTH
def test_no_growth_in_recovery(controller: type[Window]) -> None:
    window = controller(1200)
    window.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
    once = window.congestion_window
    ack(window, 1.05, 0.9, 0.99)
    assert window.congestion_window == once
    for _ in range(10):
        ack(window, 1.1, 0.99, 1.0)  # only the second was sent in the recovery period
    assert once < window.congestion_window < once + 10 * 1200


@BOTH
def test_never_below_two_packets(controller: type[Window]) -> None:
    window = controller(1200)
    for now in range(20):
        window.on_congestion_event(float(now), now - 0.1, 0, is_ecn=False)
    assert window.congestion_window == 2400


@BOTH
def test_persistent_congestion_returns_to_slow_start(controller: type[Window]) -> None:
    window = controller(1200)
    window.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
    window.on_persistent_congestion(1.0)
    assert window.congestion_window == 2400
    assert window.in_slow_start
    ack(window, 1.1, 0.95)
    assert window.congestion_window == 3600


@pytest.mark.conformance("R21")
@BOTH
def test_unused_window_does_not_grow(controller: type[Window]) -> None:
    window = controller(1200)
    ack(window, 0.1, 0.0, limited=False)
    assert window.congestion_window == 12_000


@BOTH
def test_datagram_size_changes(controller: type[Window]) -> None:
    window = controller(1200)
    window.set_max_datagram_size(1400)
    assert window.congestion_window == 14_000
    for now in range(20):
        window.on_congestion_event(float(now), now - 0.1, 0, is_ecn=False)
    window.set_max_datagram_size(1452)
    assert window.congestion_window == 2904


@BOTH
def test_pacing_rate(controller: type[Window]) -> None:
    window = controller(1200)
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, 0.0)
    assert window.pacing_rate(rtt) == pytest.approx(2 * 12_000 / 0.1)
    window.ssthresh = 12_000
    assert window.pacing_rate(rtt) == pytest.approx(1.25 * 12_000 / 0.1)


@BOTH
def test_slow_start_doubles_every_round(constant_rtt_path: Any, controller: type[Window]) -> None:
    """Nobody loses anything: 10, 20, 40 ... packets."""
    path = constant_rtt_path(controller, 0.2, ack_every=10)
    path.run(rounds=10)
    assert path.at_rounds == pytest.approx([10 * 2**round_ for round_ in range(10)], abs=1)
    assert path.recovery.congestion_controller.ssthresh == inf

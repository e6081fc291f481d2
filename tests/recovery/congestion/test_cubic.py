"""CUBIC against RFC 9438: its tables of average windows, and the curve after a loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quicstack.recovery import AckEvent, Cubic, NewReno, RttEstimator, SentPacket
from quicstack.recovery.congestion.cubic import alpha_cubic, beta_cubic

ROWS = json.loads((Path(__file__).parents[2] / "vectors" / "rfc9438_avg_window.json").read_text())["rows"]


def average_window(constant_rtt_path: Any, rtt: float, p: float, C: float, starts_at: float) -> float:
    """Every 1/p-th packet is lost. Fast convergence is on, so cycles differ and it takes several."""
    period = round(1 / p)
    path = constant_rtt_path(
        lambda mds: Cubic(mds, C=C),
        rtt,
        drop=lambda number, now: number % period == period - 1,
        ack_every=10,
        starts_at=starts_at,
    )
    path.run(packets=(40 if p >= 1e-4 else 10) * period)
    return float(path.average_window())


def rows() -> list[Any]:
    """Every row of the tables down to one loss in 100,000; a row with less loss would run for minutes."""
    return [
        pytest.param(
            row["rtt_s"],
            row["loss_rate"],
            float(C),
            window,
            id=f"{row['rtt_s']}-{row['loss_rate']}-C{C}",
            marks=[pytest.mark.slow] if row["loss_rate"] < 1e-3 else [],
        )
        for row in ROWS
        for C, window in row["cubic"].items()
        if row["loss_rate"] >= (1e-5 if C == "0.4" else 1e-4)
    ]


@pytest.mark.parametrize(("rtt", "p", "C", "window"), rows())
def test_average_window(constant_rtt_path: Any, rtt: float, p: float, C: float, window: float) -> None:
    """RFC 9438 Tables 1 and 2. They come from a fluid model: with C = 4 a round without growth weighs more."""
    average = average_window(constant_rtt_path, rtt, p, C, window)
    assert average == pytest.approx(window, rel=0.15 if C == 4 else 0.1)


def curve(losses_at: list[int], rounds: int, offered: int | None = None) -> list[float]:
    """The window in packets at rounds of 200 ms. A packet is lost once the window reaches each size in turn."""
    cubic = Cubic(1200)
    rtt = RttEstimator()
    windows: list[float] = []
    losses = list(losses_at)
    for round_ in range(rounds):
        sent, now = round_ * 0.2, (round_ + 1) * 0.2
        rtt.update(0.2, 0.0, now)
        window = cubic.congestion_window
        windows.append(window / 1200)
        if losses and window >= losses[0]:
            del losses[0]
            cubic.on_congestion_event(sent, sent, window, is_ecn=False)
            continue
        limited = offered is None or window // 1200 <= offered
        for _ in range(min(window // 1200, offered or window)):
            packet = SentPacket(0, sent, 1200, True, True)
            cubic.on_ack(AckEvent(now, [packet], 1200, 0, 0, limited, rtt))
    return windows


def assert_rounds(windows: list[float], published: dict[int, int], tolerance: float) -> None:
    for round_, window in published.items():
        assert windows[round_] == pytest.approx(window, rel=tolerance), f"round {round_}"


def test_curve_after_one_loss() -> None:
    """Against the published run of another implementation: 2560 packets at the loss, K = 12.43 s."""
    published = {9: 1792, 10: 1815, 12: 1878, 20: 2116, 30: 2327, 40: 2457, 50: 2526, 60: 2554, 71: 2559}
    published |= {80: 2561, 100: 2632, 120: 2920, 134: 3333}
    assert_rounds(curve([3_000_000], 135), published, 0.015)


def test_curve_with_fast_convergence() -> None:
    """The same with a second loss at 2291 packets, which is below W_max: the next plateau is at 1947."""
    published = {29: 1604, 30: 1617, 40: 1784, 50: 1884, 60: 1931, 71: 1947, 80: 1948, 100: 1986, 119: 2183}
    assert_rounds(curve([3_000_000, 2_750_000], 120), published, 0.015)


def test_an_application_that_offers_less_than_the_window_freezes_it() -> None:
    windows = curve([750_000], 120, offered=833)
    assert_rounds(windows, {6: 640, 7: 448, 20: 578, 30: 624, 50: 640, 80: 758}, 0.02)
    assert 833 <= windows[91] <= 1.1 * 833
    assert windows[119] == pytest.approx(windows[91], rel=0.01)


def test_symbols() -> None:
    assert beta_cubic == 0.7
    assert alpha_cubic == pytest.approx(9 / 17)
    cubic = Cubic(1200)
    cubic.congestion_window = 100 * 1200
    cubic.on_congestion_event(10.0, 9.9, 0, is_ecn=False)
    assert (cubic.W_max, cubic.cwnd_prior, cubic.congestion_window) == (120_000, 120_000, 84_000)
    acked(cubic, 10.2, 10.1)
    assert pytest.approx((30 / 0.4) ** (1 / 3)) == cubic.K
    assert cubic.W_cubic(0.0) == pytest.approx(84_000)
    assert cubic.W_cubic(cubic.K) == pytest.approx(120_000)


def acked(cubic: Cubic, now: float, sent: float, *, limited: bool = True) -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, now)
    cubic.on_ack(AckEvent(now, [SentPacket(0, sent, 1200, True, True)], 1200, 0, 0, limited, rtt))


def test_w_max_with_and_without_fast_convergence() -> None:
    for fast_convergence, W_max in ((True, 84_000 * 0.85), (False, 84_000)):
        cubic = Cubic(1200, fast_convergence=fast_convergence)
        cubic.congestion_window = 120_000
        cubic.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
        cubic.on_congestion_event(2.0, 1.9, 0, is_ecn=False)
        assert cubic.W_max == pytest.approx(W_max)


def test_target_is_bounded() -> None:
    """RFC 9438 §4.2: after a long epoch a round may still add no more than half a window."""
    cubic = Cubic(1200)
    cubic.congestion_window = 120_000
    cubic.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
    acked(cubic, 1.1, 1.05)
    before = cubic.congestion_window
    acked(cubic, 500.0, 499.9)
    assert cubic.congestion_window - before == pytest.approx(600, abs=2)


def test_idle_time_does_not_count() -> None:
    """RFC 9438 §5.8: two flows, one pauses for a minute; both continue from the same place."""
    flows = [Cubic(1200), Cubic(1200)]
    for cubic in flows:
        cubic.congestion_window = 120_000
        cubic.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
        for step in range(50):
            acked(cubic, 1.1 + step / 100, 1.05 + step / 100)
    acked(flows[1], 1.6, 1.55, limited=False)
    for step in range(50):
        acked(flows[0], 1.6 + step / 100, 1.55 + step / 100)
        acked(flows[1], 61.6 + step / 100, 61.55 + step / 100)
    assert flows[0].congestion_window == pytest.approx(flows[1].congestion_window, abs=2)


def test_after_persistent_congestion_the_curve_starts_from_its_own_window() -> None:
    cubic = Cubic(1200)
    cubic.congestion_window = 120_000
    cubic.on_congestion_event(1.0, 0.9, 0, is_ecn=False)
    cubic.on_persistent_congestion(1.0)
    assert cubic.congestion_window == 2400
    now = 1.1
    while cubic.in_slow_start:
        acked(cubic, now, now - 0.05)
        now += 0.001
    acked(cubic, now, now - 0.05)
    assert cubic.K == 0.0
    assert cubic.W_max == pytest.approx(84_000, abs=2400)


def test_leaving_slow_start_by_delay() -> None:
    cubic = Cubic(1200)
    cubic.on_slow_start_over()
    assert cubic.ssthresh == cubic.cwnd_prior == 12_000
    acked(cubic, 1.0, 0.9)
    assert (cubic.K, cubic.W_max) == (0.0, 12_000)


def test_never_slower_than_reno(constant_rtt_path: Any) -> None:
    averages = []
    for controller in (NewReno, Cubic):
        path = constant_rtt_path(controller, 0.02, drop=lambda number, now: number % 500 == 499)
        path.run(packets=20_000)
        averages.append(path.average_window())
    assert averages[1] >= 0.95 * averages[0]

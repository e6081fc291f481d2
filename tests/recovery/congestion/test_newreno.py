"""NewReno: RFC 9002 §7.3.3, and the response function of Reno (RFC 9438 Tables 1 and 2, column Reno)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from quicstack.recovery import AckEvent, NewReno, RttEstimator, SentPacket

ROWS = json.loads((Path(__file__).parents[2] / "vectors" / "rfc9438_avg_window.json").read_text())["rows"]


@pytest.mark.conformance("R17")
def test_one_packet_for_a_window_acknowledged() -> None:
    window = NewReno(1200)
    window.ssthresh = 0.0
    for round_ in range(1, 6):
        before = window.congestion_window
        packets = [SentPacket(number, 1.0, 1200, True, True) for number in range(before // 1200)]
        for packet in packets:
            window.on_ack(AckEvent(2.0, [packet], 1200, 0, 0, True, RttEstimator()))
        assert before < window.congestion_window <= before + 1200, round_


@pytest.mark.parametrize("p", [1e-2, 1e-3, 1e-4])
def test_average_window_with_periodic_loss(constant_rtt_path: Any, p: float) -> None:
    (expected,) = (row["reno"] for row in ROWS if row["rtt_s"] == 0.1 and row["loss_rate"] == p)
    period = round(1 / p)
    path = constant_rtt_path(
        NewReno,
        0.1,
        drop=lambda number, now: number % period == period - 1,
        ack_every=4 if p < 1e-3 else 1,
        starts_at=expected,
    )
    path.run(packets=max(20_000, 12 * period))
    assert path.average_window() == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("p", [1e-2, pytest.param(1e-3, marks=pytest.mark.slow)])
def test_average_window_with_random_loss(constant_rtt_path: Any, p: float) -> None:
    """Mathis et al. 1997: 1.31 / sqrt(p) for independent losses."""
    averages = []
    for seed in range(5):
        draw = random.Random(seed).random
        path = constant_rtt_path(NewReno, 0.1, drop=lambda number, now, draw=draw: draw() < p, starts_at=1.31 / p**0.5)
        path.run(packets=round(100 / p))
        averages.append(path.average_window())
    assert sum(averages) / 5 == pytest.approx(1.31 / p**0.5, rel=0.12)

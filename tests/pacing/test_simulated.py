"""Recovery and pacing on simulated networks: what a download gets out of a link, and what it does to it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from quicstack.recovery import Cubic, NewReno
from quicstack.recovery.congestion.slow_start import ClassicSlowStart, HyStartPlusPlus
from quicstack.recovery.congestion.window import Window
from quicstack.recovery.ecn import EcnValidation
from quicstack.simulator import Datagram, Delay, EcnBleach, LossAt, Node, Queue

pytestmark = pytest.mark.slow

BOTH = pytest.mark.parametrize("algorithm", [NewReno, Cubic])


def recording(algorithm: type[Window]) -> tuple[Any, list[tuple[float, float]]]:
    """A factory for controllers, and where they note (time, what was left of the window) at each reduction."""
    reductions: list[tuple[float, float]] = []

    class Recording(algorithm):  # type: ignore[misc, valid-type]
        def on_congestion_event(self, now: float, sent_time: float, bytes_in_flight: int, *, is_ecn: bool) -> None:
            before = self.congestion_window
            super().on_congestion_event(now, sent_time, bytes_in_flight, is_ecn=is_ecn)
            if self.congestion_window < before:
                reductions.append((now, self.congestion_window / before))

    return Recording, reductions


UNLIMITED = {
    "send_buffer": 8 << 20,
    "initial_max_data": 1 << 24,
    "initial_max_stream_data_bidi_local": 1 << 24,
    "initial_max_stream_data_bidi_remote": 1 << 24,
    "max_stream_window": 1 << 24,
    "max_connection_window": 1 << 25,
}
"""Nothing but the congestion window limits the sender."""


class MarkAt(Node):
    """A router that marks full datagrams by number as CE, if they are ECN-capable."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = numbers
        self._number = -1

    def receive(self, datagram: Datagram) -> None:
        self._number += len(datagram.data) > 1000
        if self._number in self.numbers and len(datagram.data) > 1000 and datagram.ecn:
            datagram = datagram._replace(ecn=3)
        self.forward(datagram)


@BOTH
def test_goodput_of_a_small_link(download: Any, algorithm: type[Window]) -> None:
    """10 Mbit/s, 15 ms each way, a queue of 25 packets: the network of the interoperability tests."""
    got = download(3_000_000, Delay(0.015), Queue(25, rate=10e6), congestion_controller=algorithm)
    assert 3_000_000 * 8 / got.seconds > 8.5e6


@BOTH
def test_every_decrease_is_by_the_factor_and_once_a_round(download: Any, algorithm: type[Window]) -> None:
    controller, reductions = recording(algorithm)
    download(4_000_000, Delay(0.025), Queue(104, rate=20e6), congestion_controller=controller)
    factor = {NewReno: 0.5, Cubic: 0.7}[algorithm]
    assert reductions
    assert [left for _, left in reductions] == pytest.approx([factor] * len(reductions), abs=0.01)
    times = [now for now, _ in reductions]
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(times))


@BOTH
def test_a_burst_of_losses_is_one_event(download: Any, algorithm: type[Window]) -> None:
    """20 packets in a row are lost once. One reduction, and one round trip and a half to repair them all."""
    controller, reductions = recording(algorithm)
    link = [(Delay(0.05), Queue(500, rate=20e6)) for _ in range(2)]
    clean = download(2_000_000, *link[0], congestion_controller=algorithm)
    hit = download(2_000_000, *link[1], LossAt(range(300, 320)), congestion_controller=controller)
    assert len(reductions) == 1
    assert hit.packets_lost == 20
    deficit = {NewReno: 4.0, Cubic: 2.0}[algorithm]  # the smaller window afterwards, in round trips
    assert hit.seconds - clean.seconds < (1.5 + deficit) * 0.1


@BOTH
def test_congestion_experienced_costs_window_but_no_packet(download: Any, algorithm: type[Window]) -> None:
    controller, reductions = recording(algorithm)
    got = download(1_000_000, Delay(0.02), MarkAt(200, 500), congestion_controller=controller)
    assert len(reductions) == 2
    assert got.packets_lost == 0
    assert validation(got) is EcnValidation.CAPABLE


def test_a_network_that_clears_the_marks(download: Any) -> None:
    got = download(200_000, Delay(0.02), EcnBleach())
    assert validation(got) is EcnValidation.FAILED
    assert got.packets_lost == 0


def validation(got: Any) -> EcnValidation:
    state = got.connection._state
    assert isinstance(state.recovery.ecn.validation, EcnValidation)
    return state.recovery.ecn.validation


@pytest.mark.slow
@pytest.mark.parametrize(("buffer", "most"), [(200, 0.75), (600, 0.3)])
def test_hystart_loses_less_at_the_end_of_slow_start(download: Any, buffer: int, most: float) -> None:
    """2000 packets of 1250 bytes a second, 100 ms: the first loss episode, with a queue of one and of three BDP."""
    lost = []
    for slow_start in (ClassicSlowStart, HyStartPlusPlus):
        got = download(
            4_000_000,
            Delay(0.05),
            Queue(buffer, rate=20e6),
            congestion_controller=lambda mds, kind=slow_start: Cubic(mds, kind()),
            **UNLIMITED,
        )
        lost.append(got.packets_lost)
    classic, hystart = lost
    print(f"buffer {buffer}: classic {classic}, HyStart++ {hystart}")
    assert classic == pytest.approx(1.3 * (200 + buffer), rel=0.3)
    assert hystart <= most * classic


@BOTH
def test_a_short_answer_takes_four_rounds(download: Any, algorithm: type[Window]) -> None:
    """100 kB over 1 Gbit/s and 100 ms: 10, 20, 40 and 17 packets; pacing costs less than a round trip."""
    got = download(100_000, Delay(0.05), Queue(1000, rate=1e9), congestion_controller=algorithm)
    assert 3.9 * 0.1 <= got.seconds <= 4.8 * 0.1 + 0.05

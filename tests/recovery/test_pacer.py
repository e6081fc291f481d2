"""RFC 9002 §7.7: how much leaves at once, and how fast on average."""

from __future__ import annotations

from typing import Any

import pytest

from quicstack.recovery import SentPacket, Space
from quicstack.recovery.pacer import Pacer

MDS = 1200


def drained(rate: float, *, exact_timers: bool = False) -> Pacer:
    pacer = Pacer(exact_timers=exact_timers)
    pacer.set_rate(rate, MDS, None)
    assert pacer.allowance(0.0)
    pacer.tokens = 0.0
    assert pacer.allowance(0.0) == 0
    return pacer


@pytest.mark.parametrize(("bits_per_second", "packets"), [(1e5, 2), (10e6, 2), (100e6, 10), (500e6, 52), (10e9, 53)])
def test_quantum(bits_per_second: float, packets: int) -> None:
    """What a sender gets after it ran dry: two packets, or a millisecond, or a full train."""
    pacer = drained(bits_per_second / 8)
    due = pacer.next_send_time(0.0)
    assert due is not None
    assert pacer.allowance(due - 1e-4) == 0 or due == 0.001
    assert pacer.allowance(due) // MDS >= packets
    if bits_per_second <= 500e6:
        assert pacer.allowance(due) // MDS == packets


@pytest.mark.conformance("R20")
@pytest.mark.parametrize(
    ("bits_per_second", "packets"), [(1e5, 4), (10e6, 5), (20e6, 8), (70e6, 8), (100e6, 20), (500e6, 104), (2e9, 416)]
)
def test_capacity(bits_per_second: float, packets: int) -> None:
    """The most that can leave at once, after however long a silence."""
    assert drained(bits_per_second / 8).allowance(60.0) // MDS == packets


@pytest.mark.conformance("R20")
def test_initial_window_before_the_first_sample() -> None:
    pacer = Pacer()
    pacer.set_rate(2 * 12_000 / 0.333, MDS, 12_000)
    assert pacer.allowance(5.0) // MDS == 10


@pytest.mark.parametrize(("bits_per_second", "packets"), [(10e6, 0), (60e6, 0), (100e6, 20)])
def test_a_train_that_left_late_is_not_followed_at_once(bits_per_second: float, packets: int) -> None:
    """Asked for at 0, sent by a process that was put aside for 5 ms: the next question comes right after it left."""
    pacer = drained(bits_per_second / 8)
    train = pacer.allowance(1.0)
    pacer.tokens -= train
    assert pacer.allowance(1.005) // MDS == packets
    if not packets:
        assert pacer.next_send_time(1.005) == pytest.approx(1.006)
        assert pacer.allowance(1.006) // MDS >= 2


def test_what_was_not_used_stays() -> None:
    pacer = drained(10e6 / 8)
    assert pacer.allowance(1.0) // MDS == 5
    pacer.tokens -= 100
    assert pacer.allowance(1.00001) // MDS == 5
    assert pacer.allowance(1.001) // MDS == 5


def test_never_waits_below_a_millisecond() -> None:
    pacer = drained(1e9)
    assert pacer.next_send_time(0.0) == 0.001


def test_exact_timers_send_one_packet_at_a_time() -> None:
    pacer = drained(1e6, exact_timers=True)
    assert pacer.next_send_time(0.0) == pytest.approx(0.0012)
    assert pacer.allowance(7.0) // MDS == 1


def send_for(script: Any, rtt: float, window: int, seconds: float, *, timer_late: float, **options: Any) -> Any:
    """Send as fast as the pacer allows, never limited by the window; returns bytes per second and train lengths."""
    s = script(pacing=True, **options)
    s.sample(rtt)
    controller = s.recovery.congestion_controller
    controller.ssthresh = controller.congestion_window = window
    s.recovery.pacer.tokens = 0.0
    s.recovery._rate_is_stale = True
    start, sent, trains = s.now, 0, []
    while s.now < start + seconds:
        s.recovery.bytes_in_flight = 0
        allowance = s.recovery.send_allowance(s.now)
        count = allowance // 1200
        if not count:
            due = s.recovery.next_send_time(s.now)
            assert due is not None and due > s.now
            s.now = due + timer_late
            continue
        assert s.recovery.next_send_time(s.now) is None
        for _ in range(count):
            number = s.next_number[Space.APPLICATION]
            s.next_number[Space.APPLICATION] += 1
            packet = SentPacket(number, s.now, 1200, True, True)
            s.recovery.on_packet_sent(Space.APPLICATION, packet, s.now)
        sent += count * 1200
        trains.append(count)
    return sent / (s.now - start), trains


@pytest.mark.parametrize("mbits", [10, 100, 500])
@pytest.mark.parametrize("timer_late", [0.0, 0.0003])
def test_average_rate(script: Any, mbits: int, timer_late: float) -> None:
    """A window for `mbits`, so a pacing rate 1.25 times that: kept up by timers that are somewhat late."""
    window = int(mbits * 1e6 / 8 * 0.1)
    rate, trains = send_for(script, 0.1, window, 2.0, timer_late=timer_late)
    assert rate == pytest.approx(1.25 * window / 0.1, rel=0.05)
    assert max(trains) <= max(10, 1.25 * mbits * 1e6 / 8 * 0.002 / 1200)


def test_perfect_spacing_with_exact_timers(script: Any) -> None:
    rate, trains = send_for(script, 0.1, 125_000, 2.0, timer_late=0.0, exact_timers=True)
    assert set(trains) == {1}
    assert rate == pytest.approx(1.25 * 1_250_000, rel=0.01)


def test_blocked_by_the_window_is_not_the_pacers_business(script: Any) -> None:
    s = script(pacing=True)
    s.send(10)
    assert s.recovery.send_allowance(s.now) == 0
    assert s.recovery.next_send_time(s.now) is None


def test_no_burst_after_silence(script: Any) -> None:
    s = script(pacing=True)
    s.sample(0.1)
    s.recovery.congestion_controller.congestion_window = 1_250_000
    s.advance(60)
    assert s.recovery.send_allowance(s.now) // 1200 <= 42  # two milliseconds of 25 MB/s


def test_without_pacing_the_window_decides(script: Any) -> None:
    s = script(pacing=False)
    s.sample(0.1)
    assert s.recovery.send_allowance(s.now) == 12_000


def test_a_train_has_an_upper_end(script: Any) -> None:
    s = script()
    s.recovery.congestion_controller.congestion_window = 10_000_000
    assert s.recovery.send_allowance(s.now) == 64_000


def test_probes_draw_from_the_bucket(script: Any) -> None:
    s = script(pacing=True)
    s.sample(0.1)
    before = s.recovery.send_allowance(s.now)
    s.send()
    assert s.recovery.send_allowance(s.now) <= max(before - 1200, 0)

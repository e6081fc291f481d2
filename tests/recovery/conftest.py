"""A small language for scripts of loss (``send``, ``advance``, ``ack``, ``expect_lost``), and a path for bulk runs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from quicstack.recovery import CongestionControllerFactory, NewReno, Recovery, SentPacket, Space, Timeout

APPLICATION = Space.APPLICATION


class LossScript:
    """One sender and its clock. ``send`` numbers packets; what was lost or acknowledged waits for ``expect_...``."""

    def __init__(
        self,
        *,
        controller: CongestionControllerFactory = NewReno,
        is_client: bool = True,
        confirmed: bool = True,
        pacing: bool = False,
        exact_timers: bool = False,
        now: float = 1000.0,
    ) -> None:
        self.now = now
        self.recovery = Recovery(
            congestion_controller_factory=controller,
            max_datagram_size=1200,
            is_client=is_client,
            pacing=pacing,
            exact_timers=exact_timers,
        )
        self.recovery.max_ack_delay = 0.025
        if confirmed:
            self.recovery.handshake_confirmed = True
            self.recovery.peer_completed_address_validation = True
        self.next_number = [0, 0, 0]
        self.acked: list[int] = []
        self.lost: list[int] = []
        self.persistent_congestion = False
        self.timeout_result: Timeout | None = None

    # -- what happens

    def send(
        self,
        count: int = 1,
        *,
        space: int = APPLICATION,
        size: int = 1200,
        ack_eliciting: bool = True,
        in_flight: bool = True,
        ecn: int = 0,
        is_mtu_probe: bool = False,
    ) -> list[int]:
        numbers = []
        for _ in range(count):
            number = self.next_number[space]
            self.next_number[space] += 1
            packet = SentPacket(number, self.now, size, ack_eliciting, in_flight, (), ecn, is_mtu_probe)
            self.recovery.on_packet_sent(space, packet, self.now)
            numbers.append(number)
        return numbers

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def ack(
        self,
        *ranges: int | tuple[int, int],
        space: int = APPLICATION,
        delay: float = 0.0,
        ecn: tuple[int, int, int] | None = None,
    ) -> None:
        """``ack(7, (1, 3))``: numbers and inclusive ranges, largest first."""
        pairs = [(r, r) if isinstance(r, int) else r for r in ranges]
        result = self.recovery.on_ack_received(space, pairs, delay, self.now, ecn)
        self.acked += [packet.packet_number for packet in result.acked]
        self.lost += [packet.packet_number for packet in result.lost]
        self.persistent_congestion |= result.persistent_congestion

    def timeout(self) -> None:
        """Wait for the loss detection timer and let it expire."""
        due = self.recovery.loss_detection_timer
        assert due is not None, "no timer is set"
        self.now = max(self.now, due)
        self.timeout_result = self.recovery.on_loss_detection_timeout(self.now)
        self.lost += [packet.packet_number for packet in self.timeout_result.lost]

    def sample(self, rtt: float, space: int = APPLICATION) -> None:
        """One packet there and back."""
        (number,) = self.send(space=space)
        self.advance(rtt)
        self.ack(number, space=space)
        self.expect_acked(number)

    # -- what must have happened

    def expect_lost(self, *numbers: int) -> None:
        assert self.lost == list(numbers)
        self.lost = []

    def expect_acked(self, *numbers: int) -> None:
        assert self.acked == list(numbers)
        self.acked = []

    def expect_var(self, name: str, value: Any) -> None:
        for where in (self.recovery, self.recovery.rtt, self.recovery.congestion_controller):
            if hasattr(where, name):
                assert getattr(where, name) == pytest.approx(value), name
                return
        raise AssertionError(f"no variable {name}")

    def expect_timer(self, seconds: float | None) -> None:
        """The loss detection timer expires so long from now."""
        due = self.recovery.loss_detection_timer
        assert (due if due is None else due - self.now) == (seconds if seconds is None else pytest.approx(seconds))

    def expect_probes(self, space: int, count: int) -> None:
        assert self.timeout_result is not None
        assert self.timeout_result.probes == (space, count)
        self.expect_lost()


@pytest.fixture
def script() -> Callable[..., LossScript]:
    return LossScript


class ConstantRttPath:
    """A bulk sender on a path with a constant RTT and no queue; the caller decides which packets are lost.

    Packets leave a microsecond apart (10 Gbit/s), so rounds are ordered as in a network.
    """

    def __init__(
        self,
        controller: CongestionControllerFactory,
        rtt: float,
        *,
        drop: Callable[[int, float], bool] = lambda number, now: False,
        ack_every: int = 1,
        offered_per_round: int | None = None,
        starts_at: float | None = None,
    ) -> None:
        self.recovery = Recovery(
            congestion_controller_factory=controller, max_datagram_size=1200, is_client=True, pacing=False
        )
        self.recovery.handshake_confirmed = True
        if starts_at is not None:  # without the slow start, whose overshoot takes long to forget
            window = self.recovery.congestion_controller
            window.congestion_window = int(starts_at * 1200)
            window.ssthresh = 0.0
        self.rtt = rtt
        self.drop = drop
        self.ack_every = ack_every
        self.offered_per_round = offered_per_round
        self.now = 0.0
        self.next_number = 0
        self.lost = 0
        self.windows: list[tuple[float, float]] = []
        self.at_rounds: list[float] = []

    @property
    def window(self) -> float:
        """In packets."""
        return self.recovery.congestion_controller.congestion_window / 1200

    def run(self, packets: int | None = None, rounds: int | None = None) -> None:
        """Until so many packets were sent or rounds went by. ``at_rounds`` gets the window of each."""
        flights: list[tuple[float, int]] = []  # time of the ACK, number
        at = 0
        free_at = 0.0
        offered_round, offered = -1, 0
        while (packets is None or self.next_number < packets) and (rounds is None or len(self.at_rounds) < rounds):
            # send what the window, and the application, allow now
            this_round = int(self.now / self.rtt + 1e-9)
            if this_round != offered_round:
                offered_round, offered = this_round, 0
            allowance = self.recovery.send_allowance(self.now)
            count = allowance // 1200
            self.recovery.app_limited = False
            if self.offered_per_round is not None and count > self.offered_per_round - offered:
                count = self.offered_per_round - offered
                self.recovery.app_limited = True
            offered += count
            for _ in range(count):
                number = self.next_number
                self.next_number += 1
                free_at = max(free_at, self.now) + 1e-6
                self.recovery.on_packet_sent(APPLICATION, SentPacket(number, self.now, 1200, True, True), self.now)
                if not self.drop(number, self.now):
                    flights.append((free_at + self.rtt, number))
            if count and allowance >= 60_000:
                continue  # one answer is at most one train
            # the next ACK; consecutive numbers form one range
            batch = flights[at : at + self.ack_every]
            assert batch, "the path is empty: nothing was ever acknowledged"
            at += len(batch)
            self.now = batch[-1][0]
            while self.now >= (len(self.at_rounds) + 1) * self.rtt:
                self.at_rounds.append(self.window)
            ranges: list[tuple[int, int]] = []
            for _, number in batch:
                if ranges and ranges[0][1] == number - 1:
                    ranges[0] = (ranges[0][0], number)
                else:
                    ranges.insert(0, (number, number))
            result = self.recovery.on_ack_received(APPLICATION, ranges, 0.0, self.now)
            self.lost += len(result.lost)
            self.windows.append((self.now, self.window))
            if at > 100_000:
                del flights[:at]
                at = 0

    def average_window(self) -> float:
        """In packets, over time, after a fifth of warm-up."""
        kept = self.windows[len(self.windows) // 5 :]
        area = sum(window * (until - since) for (since, window), (until, _) in pairwise(kept))
        return area / (kept[-1][0] - kept[0][0])


@pytest.fixture
def constant_rtt_path() -> Callable[..., ConstantRttPath]:
    return ConstantRttPath

"""The part of congestion control that RFC 9002 fixes for every window-based algorithm (§7.2, §7.3, §7.6, §B).

States, as in RFC 9002 Figure 1: slow start while the window is below ssthresh; a recovery period after a congestion
event, in which the window stands still, until a packet sent in that period is acknowledged; congestion avoidance
otherwise. An algorithm adds two formulas: how the window grows in congestion avoidance, and what is left of it after a
congestion event.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from quicstack.recovery.congestion.controller import AckEvent
from quicstack.recovery.congestion.slow_start import ClassicSlowStart, SlowStart
from quicstack.recovery.rtt import RttEstimator
from quicstack.recovery.sent_packet import SentPacket

__all__ = ["Window", "initial_window"]

MINIMUM_WINDOW_PACKETS = 2

PACING_GAIN = 1.25
"""N of RFC 9002 §7.7 outside of slow start: a little more than a window per round trip, so the window is the limit."""


def initial_window(max_datagram_size: int) -> int:
    """kInitialWindow (RFC 9002 §7.2): ten packets, at most 14,720 bytes or two packets."""
    return min(10 * max_datagram_size, max(14_720, 2 * max_datagram_size))


class Window:
    """A congestion window under the law of RFC 9002; subclasses add the two formulas."""

    def __init__(self, max_datagram_size: int, slow_start: SlowStart | None = None) -> None:
        self.max_datagram_size = max_datagram_size
        self.congestion_window = initial_window(max_datagram_size)
        self.ssthresh: float = inf
        self.congestion_recovery_start_time = -inf
        self.slow_start = slow_start or ClassicSlowStart()
        self._fraction = 0.0

    # -- the two formulas

    def avoidance_increase(self, acked_bytes: int, ack: AckEvent) -> float:
        """Bytes by which the window grows in congestion avoidance for ``acked_bytes`` acknowledged."""
        raise NotImplementedError

    def reduced_window(self, now: float) -> float:
        """The slow start threshold after a congestion event."""
        raise NotImplementedError

    # -- what recovery tells (RFC 9002 §B.4 - §B.9)

    @property
    def minimum_window(self) -> int:
        """kMinimumWindow (RFC 9002 §7.2)."""
        return MINIMUM_WINDOW_PACKETS * self.max_datagram_size

    @property
    def in_slow_start(self) -> bool:
        return self.congestion_window < self.ssthresh

    def in_congestion_recovery(self, sent_time: float) -> bool:
        """Whether a packet sent then was sent before the current recovery period began.

        RFC 9002 §B.5 writes "at or before". Here what leaves in answer to an ACK carries the time of that ACK, and the
        packet that may be sent at once (§7.3.2) belongs to the period that it opens.
        """
        return sent_time < self.congestion_recovery_start_time

    def on_packets_sent(self, packets: Sequence[SentPacket], bytes_in_flight: int, now: float) -> None:
        """A window needs no more than recovery's count of bytes in flight."""

    def on_ack(self, ack: AckEvent) -> None:
        if not ack.is_window_limited:
            self.on_underutilized(ack)
            return
        acked_bytes = ack.acked_bytes
        start = self.congestion_recovery_start_time
        if ack.packets[0].time_sent < start:
            acked_bytes = sum(p.size for p in ack.packets if p.in_flight and p.time_sent >= start)
            if not acked_bytes:
                return
        if self.congestion_window < self.ssthresh:
            self.congestion_window += self.slow_start.increase(acked_bytes, ack)
            if self.slow_start.is_over:
                self.on_slow_start_over()
            return
        grown = self._fraction + self.avoidance_increase(acked_bytes, ack)
        whole = int(grown)
        self._fraction = grown - whole
        self.congestion_window += whole

    def on_underutilized(self, ack: AckEvent) -> None:
        """RFC 9002 §7.8: the sender did not use the window, so it does not grow."""

    def on_slow_start_over(self) -> None:
        """Slow start ended by delay, not by loss (RFC 9406 §4.2)."""
        self.ssthresh = self.congestion_window
        self.slow_start.on_congestion_event()

    def on_congestion_event(self, now: float, sent_time: float, bytes_in_flight: int, *, is_ecn: bool) -> None:
        if self.in_congestion_recovery(sent_time):
            return
        self.congestion_recovery_start_time = now
        # in whole bytes, or the window would be a fraction below the threshold and in slow start
        self.ssthresh = int(self.reduced_window(now))
        self.congestion_window = max(self.ssthresh, self.minimum_window)
        self._fraction = 0.0
        self.slow_start.on_congestion_event()

    def on_persistent_congestion(self, now: float) -> None:
        self.congestion_window = self.minimum_window
        self.congestion_recovery_start_time = -inf
        self._fraction = 0.0

    def on_packets_discarded(self, size: int) -> None:
        """Says nothing about the path."""

    def set_max_datagram_size(self, max_datagram_size: int) -> None:
        """RFC 9002 §7.2: an untouched initial window follows the size; otherwise only the minimum does."""
        is_initial = self.congestion_window == initial_window(self.max_datagram_size)
        self.max_datagram_size = max_datagram_size
        if is_initial and self.ssthresh == inf:
            self.congestion_window = initial_window(max_datagram_size)
        else:
            self.congestion_window = max(self.congestion_window, self.minimum_window)

    def pacing_rate(self, rtt: RttEstimator) -> float:
        gain = self.slow_start.pacing_gain if self.in_slow_start else PACING_GAIN
        return gain * self.congestion_window / max(rtt.smoothed_rtt, 1e-6)

"""CUBIC (RFC 9438): the window follows a cubic function of the time since the last congestion event.

Symbols are the RFC's. Windows are bytes here and segments there, so C carries a factor of the segment size.
"""

from __future__ import annotations

from quicstack.recovery.congestion.controller import AckEvent
from quicstack.recovery.congestion.slow_start import HyStartPlusPlus, SlowStart
from quicstack.recovery.congestion.window import Window

__all__ = ["Cubic"]

beta_cubic = 0.7
"""RFC 9438 §4.6."""

alpha_cubic = 3 * (1 - beta_cubic) / (1 + beta_cubic)
"""RFC 9438 §4.3: makes the Reno-friendly estimate as fast as Reno in spite of its smaller decrease."""


class Cubic(Window):
    """The controller of RFC 9438 on top of the states of RFC 9002, with HyStart++ as §4.10 recommends."""

    def __init__(
        self,
        max_datagram_size: int,
        slow_start: SlowStart | None = None,
        *,
        C: float = 0.4,
        fast_convergence: bool = True,
    ) -> None:
        super().__init__(max_datagram_size, slow_start or HyStartPlusPlus())
        self.C = C
        self.fast_convergence = fast_convergence
        self.W_max = 0.0
        self.cwnd_prior = 0.0
        self.K = 0.0
        self.W_est = 0.0
        self.t_epoch: float | None = None
        self._underutilized_since: float | None = None

    def W_cubic(self, t: float) -> float:
        """RFC 9438 Figure 1."""
        return self.C * self.max_datagram_size * (t - self.K) ** 3 + self.W_max

    def avoidance_increase(self, acked_bytes: int, ack: AckEvent) -> float:
        cwnd = self.congestion_window
        if self.t_epoch is None:
            self.t_epoch = self._begin_epoch(ack.now)
        elif self._underutilized_since is not None:
            # RFC 9438 §4.2, §5.8: time in which the application held the window back does not count.
            self.t_epoch += ack.now - self._underutilized_since
        self._underutilized_since = None
        t = ack.now - self.t_epoch

        # RFC 9438 §4.3: what Reno would have by now
        alpha = 1.0 if self.W_est >= self.cwnd_prior else alpha_cubic
        self.W_est += alpha * self.max_datagram_size * acked_bytes / cwnd
        if self.W_cubic(t) < self.W_est:
            return max(self.W_est - cwnd, 0.0)

        # RFC 9438 §4.4, §4.5: concave below W_max and convex above it, by the same formula
        target = min(max(self.W_cubic(t + ack.rtt.smoothed_rtt), cwnd), 1.5 * cwnd)
        return (target - cwnd) * acked_bytes / cwnd

    def _begin_epoch(self, now: float) -> float:
        """RFC 9438 §4.2: a congestion avoidance stage starts; returns t_epoch."""
        cwnd_epoch = float(self.congestion_window)
        self.W_est = cwnd_epoch
        if self.W_max > cwnd_epoch:
            self.K = ((self.W_max - cwnd_epoch) / (self.C * self.max_datagram_size)) ** (1 / 3)
        else:
            # RFC 9438 §4.8, §4.10: after persistent congestion, or out of a slow start that ended without loss
            self.K = 0.0
            self.W_max = cwnd_epoch
        return now

    def reduced_window(self, now: float) -> float:
        """RFC 9438 §4.6, §4.7. The window may stand for flight_size because it does not grow unused (§4.6)."""
        cwnd = float(self.congestion_window)
        if self.fast_convergence and cwnd < self.W_max:
            self.W_max = cwnd * (1 + beta_cubic) / 2
        else:
            self.W_max = cwnd
        self.cwnd_prior = cwnd
        self.t_epoch = None
        return cwnd * beta_cubic

    def on_underutilized(self, ack: AckEvent) -> None:
        if self._underutilized_since is None:
            self._underutilized_since = ack.now

    def on_slow_start_over(self) -> None:
        super().on_slow_start_over()
        self.cwnd_prior = float(self.congestion_window)

    def on_persistent_congestion(self, now: float) -> None:
        super().on_persistent_congestion(now)
        # RFC 9438 §4.8: the next congestion avoidance stage starts from its own window, with K = 0.
        self.W_max = 0.0
        self.t_epoch = None

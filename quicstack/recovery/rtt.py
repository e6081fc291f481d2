"""Estimating the round-trip time (RFC 9002 §5)."""

from __future__ import annotations

__all__ = ["RttEstimator", "kGranularity", "kInitialRtt"]

kGranularity = 0.001
"""RFC 9002 §6.1.2: no timer is expected to be finer than a millisecond."""

kInitialRtt = 0.333
"""RFC 9002 §6.2.2: assumed until there is a sample; makes the first PTO one second."""


class RttEstimator:
    """The four numbers of RFC 9002 §5, the time of the first sample (None before it), and what follows from them.

    ``pto`` is the probe timeout of RFC 9002 §6.2.1, without the peer's max_ack_delay and without backoff.
    """

    __slots__ = ("first_rtt_sample", "latest_rtt", "min_rtt", "pto", "rttvar", "smoothed_rtt")

    def __init__(self, initial_rtt: float = kInitialRtt) -> None:
        self.reset(initial_rtt)

    def reset(self, initial_rtt: float = kInitialRtt) -> None:
        """Forget every sample: a new connection or a new path (RFC 9002 §5.3, RFC 9000 §9.4)."""
        self.latest_rtt = 0.0
        self.min_rtt = 0.0
        self.smoothed_rtt = initial_rtt
        self.rttvar = initial_rtt / 2
        self.first_rtt_sample: float | None = None
        self.pto = self.smoothed_rtt + max(4 * self.rttvar, kGranularity)

    def update(self, latest_rtt: float, ack_delay: float, now: float, max_ack_delay: float | None = None) -> None:
        """Take one sample (RFC 9002 §5.3). ``max_ack_delay`` is given once the handshake is confirmed."""
        self.latest_rtt = latest_rtt
        if self.first_rtt_sample is None:
            self.min_rtt = latest_rtt
            self.smoothed_rtt = latest_rtt
            self.rttvar = latest_rtt / 2
            self.first_rtt_sample = now
            self.pto = latest_rtt + max(4 * self.rttvar, kGranularity)
            return
        # RFC 9002 §5.2: min_rtt is what was seen here; the peer's word about its delay does not enter.
        if latest_rtt < self.min_rtt:
            self.min_rtt = latest_rtt
        if max_ack_delay is not None and ack_delay > max_ack_delay:
            ack_delay = max_ack_delay
        adjusted_rtt = latest_rtt
        if latest_rtt >= self.min_rtt + ack_delay:
            adjusted_rtt = latest_rtt - ack_delay
        # The order of RFC 9002 §A.7 and RFC 6298 §2.3: the deviation is from the mean before this sample joins it.
        self.rttvar = 0.75 * self.rttvar + 0.25 * abs(self.smoothed_rtt - adjusted_rtt)
        self.smoothed_rtt = 0.875 * self.smoothed_rtt + 0.125 * adjusted_rtt
        self.pto = self.smoothed_rtt + max(4 * self.rttvar, kGranularity)

    def refresh_min_rtt(self) -> None:
        """RFC 9002 §5.2: after persistent congestion the path may be another one, so min_rtt starts anew."""
        self.min_rtt = self.latest_rtt

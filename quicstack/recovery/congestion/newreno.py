"""NewReno: one packet more for each window acknowledged, half of it after a congestion event (RFC 9002 §7.3, §B)."""

from __future__ import annotations

from quicstack.recovery.congestion.controller import AckEvent
from quicstack.recovery.congestion.window import Window

__all__ = ["NewReno"]

kLossReductionFactor = 0.5


class NewReno(Window):
    """The controller of RFC 9002."""

    def avoidance_increase(self, acked_bytes: int, ack: AckEvent) -> float:
        # RFC 9002 §7.3.3: at most one maximum datagram size per window acknowledged
        return self.max_datagram_size * acked_bytes / self.congestion_window

    def reduced_window(self, now: float) -> float:
        return self.congestion_window * kLossReductionFactor

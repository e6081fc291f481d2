"""What a congestion controller is: a window, a rate, and five things it is told (RFC 9002 §7).

A controller can live in anybody's file: it needs these attributes and methods, nothing to inherit from and nowhere to
register. A connection gets a factory and calls it with the maximum datagram size. The window and the rate may change
whenever the controller is told something, except that a packet was sent. Recovery keeps bytes_in_flight,
decides what is acknowledged and lost, and tells the controller once per ACK, with one record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from quicstack.recovery.rtt import RttEstimator
from quicstack.recovery.sent_packet import SentPacket

__all__ = ["AckEvent", "CongestionController", "CongestionControllerFactory"]


@dataclass(slots=True)
class AckEvent:
    """What one ACK frame did.

    ``packets`` are newly acknowledged and were in flight, in the order they were sent; ``acked_bytes`` is their sum.
    ``is_window_limited`` says that the sender used the window it had; if not, RFC 9002 §7.8 forbids growth.
    """

    now: float
    packets: Sequence[SentPacket]
    acked_bytes: int
    prior_bytes_in_flight: int
    bytes_in_flight: int
    is_window_limited: bool
    rtt: RttEstimator


class CongestionController(Protocol):
    """Sizes are bytes and times seconds."""

    max_datagram_size: int
    congestion_window: int
    ssthresh: float

    def on_packets_sent(self, packets: Sequence[SentPacket], bytes_in_flight: int, now: float) -> None:
        """A packet in flight was sent, or several of a train; ``bytes_in_flight`` includes them."""

    def on_ack(self, ack: AckEvent) -> None:
        """An ACK newly acknowledged packets in flight."""

    def on_congestion_event(self, now: float, sent_time: float, bytes_in_flight: int, *, is_ecn: bool) -> None:
        """Packets were lost, or marked CE. ``sent_time``: when the newest of them was sent (RFC 9002 §B.6)."""

    def on_persistent_congestion(self, now: float) -> None:
        """RFC 9002 §7.6: everything was lost for a long time. Follows on_congestion_event for the same losses."""

    def on_packets_discarded(self, size: int) -> None:
        """So many bytes left the flight unjudged: keys were discarded (RFC 9002 §6.4)."""

    def set_max_datagram_size(self, max_datagram_size: int) -> None:
        """The path carries another size (RFC 9002 §7.2)."""

    def pacing_rate(self, rtt: RttEstimator) -> float:
        """Bytes per second at which to send (RFC 9002 §7.7)."""


CongestionControllerFactory = Callable[[int], CongestionController]
"""Called with the maximum datagram size."""

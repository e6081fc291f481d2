"""What recovery answers: the fate of packets, what to do after a timeout, and its numbers."""

from __future__ import annotations

from typing import NamedTuple

from quicstack.recovery.sent_packet import SentPacket

__all__ = ["AckResult", "Metrics", "Timeout"]


class AckResult(NamedTuple):
    """What one ACK frame settled. Both lists are in the order the packets were sent.

    ``acked`` ends with packets of ACK frames only, if any.
    """

    acked: list[SentPacket]
    lost: list[SentPacket]
    persistent_congestion: bool = False


class Timeout(NamedTuple):
    """What a loss detection timeout asks for: declare ``lost``, or send ``probes`` = (space, number of datagrams).

    Probes are ack-eliciting and pass the congestion window. With both empty, the timer had not expired yet.
    """

    lost: list[SentPacket]
    probes: tuple[int, int] | None = None
    persistent_congestion: bool = False
    space: int = 0
    """The packet number space of ``lost``."""


class Metrics(NamedTuple):
    """What statistics and qlog show."""

    min_rtt: float
    smoothed_rtt: float
    latest_rtt: float
    rttvar: float
    pto_count: int
    congestion_window: int
    bytes_in_flight: int
    ssthresh: float
    pacing_rate: float

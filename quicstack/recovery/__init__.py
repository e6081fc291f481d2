"""RFC 9002: loss detection, congestion control, pacing and ECN. Knows packets by number, size and time, nothing else.

``loss`` is the face: :class:`Recovery`, one per path. Beneath it ``space`` (what is outstanding in a packet number
space), ``rtt``, ``persistent_congestion``, ``pacer``, ``ecn``, and ``congestion`` with one file per algorithm.
"""

from quicstack.recovery.congestion.controller import (
    AckEvent,
    CongestionController,
    CongestionControllerFactory,
)
from quicstack.recovery.congestion.cubic import Cubic
from quicstack.recovery.congestion.newreno import NewReno
from quicstack.recovery.loss import Recovery
from quicstack.recovery.results import AckResult, Metrics, Timeout
from quicstack.recovery.rtt import RttEstimator
from quicstack.recovery.sent_packet import SentPacket
from quicstack.recovery.space import Space

__all__ = [
    "AckEvent",
    "AckResult",
    "CongestionController",
    "CongestionControllerFactory",
    "Cubic",
    "Metrics",
    "NewReno",
    "Recovery",
    "RttEstimator",
    "SentPacket",
    "Space",
    "Timeout",
]

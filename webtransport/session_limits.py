"""What a session may hold, where it is in its life, and what it counted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["SessionLimits", "SessionState", "SessionStats"]


class SessionState(Enum):
    """Where a session is in its life."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may hold here, and how long its end may take."""

    max_unaccepted_streams: int = 128
    """Streams of the peer that the application has not accepted yet, of each kind."""
    datagram_buffer: int = 1 << 20
    """Bytes of datagrams not received yet, with 64 for each; the oldest make room. One turn of the event loop can bring
    five thousand small ones before anybody receives."""
    close_timeout: float = 3.0
    """How long the peer may take to end its side of the CONNECT stream."""


@dataclass(slots=True)
class SessionStats:
    """Counts since the session began."""

    streams_opened: int = 0
    streams_accepted: int = 0
    streams_rejected: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0
    datagrams_dropped_incoming: int = 0
    """Arrived while the queue was full; the oldest went."""
    datagrams_dropped_outgoing: int = 0

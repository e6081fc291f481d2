"""Counters of a connection, and the snapshot that applications read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConnectionStats", "Counters"]


@dataclass(slots=True)
class Counters:
    """What a connection counts while it runs. Each field is only ever added to."""

    datagrams_received: int = 0
    datagrams_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    trains_received: int = 0
    trains_sent: int = 0
    packets_received: int = 0
    packets_sent: int = 0
    packets_lost: int = 0
    bytes_lost: int = 0
    packets_dropped: int = 0
    packets_duplicate: int = 0
    send_errors: int = 0
    key_updates: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionStats:
    """A snapshot. Times in seconds, sizes in bytes, ``congestion_window`` and ``bytes_in_flight`` as in RFC 9002."""

    counters: Counters
    smoothed_rtt: float
    latest_rtt: float
    min_rtt: float
    rttvar: float
    congestion_window: int
    ssthresh: float
    """Infinite before there was congestion."""
    bytes_in_flight: int
    pacing_rate: float
    """Bytes a second."""
    pto_count: int
    """Probe timeouts in a row without an acknowledgement."""
    max_datagram_size: int
    """What the path is known to carry (RFC 9000 §14)."""
    paths: int
    """The one in use, those that are being proven, and those left a moment ago."""
    ecn: str
    """Whether ECN works on this path: testing, unknown, capable or failed (RFC 9000 §13.4.2)."""
    ecn_ce_received: int
    """Packets that the network has marked on their way to us."""
    streams_open: int
    streams_opened: int
    """By us, since the beginning; the next is by the peer."""
    streams_accepted: int
    datagrams_dropped_in: int
    datagrams_dropped_out: int
    version: int
    cipher_suite: str | None
    group: str | None
    alpn_protocol: str | None
    handshake_time: float | None
    """None until it is complete."""

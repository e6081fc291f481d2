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
    bytes_in_flight: int
    pto_count: int
    max_datagram_size: int
    streams_open: int
    datagrams_dropped_in: int
    datagrams_dropped_out: int
    handshake_time: float | None

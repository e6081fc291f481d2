"""What is asked of the kernel for a UDP socket, and what it gave and did."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UdpOptions", "UdpStats"]


@dataclass(frozen=True, slots=True)
class UdpOptions:
    """What to ask of the kernel. A feature that is off is not tried; one that is on is used if it works."""

    gso: bool = True
    gro: bool = True
    ecn: bool = True
    receive_buffer: int = 4 << 20
    send_buffer: int = 4 << 20
    reuse_port: bool = False
    """Several processes share the port; the kernel spreads clients over them (SO_REUSEPORT)."""
    busy_poll: float = 0.001
    """Seconds for which the program may stay awake and ask for the next datagram, where small ones have followed each
    other sooner than that. Over a loopback an answer comes a third sooner, and both sides use the core that they would
    otherwise have left idle. 0, or ``QUICSTACK_BUSY_POLL=0`` in the environment: never (``drivers/busy_poll.py``)."""


@dataclass(slots=True)
class UdpStats:
    """What the socket got and did. ``receive_buffer`` and ``send_buffer`` are what the kernel gave."""

    gso: bool = False
    gro: bool = False
    ecn: bool = False
    packet_info: bool = False
    receive_buffer: int = 0
    send_buffer: int = 0
    trains_received: int = 0
    bytes_received: int = 0
    trains_sent: int = 0
    bytes_sent: int = 0
    receive_errors: int = 0
    send_errors: int = 0
    send_blocked: int = 0
    truncated: int = 0
    dropped_locally: int = 0

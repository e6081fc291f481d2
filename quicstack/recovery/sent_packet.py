"""What is remembered about a packet from the moment it is sent (RFC 9002 §A.1.1)."""

from __future__ import annotations

from typing import Any

__all__ = ["SentPacket"]


class SentPacket:
    """One sent packet; recovery knows it by number, size and time.

    ``frames`` belongs to the connection: recovery hands it back, untouched, with the acknowledged or lost packet.
    ``ecn`` is the codepoint put into the IP header (2 is ECT(0)).
    """

    __slots__ = (
        "ack_eliciting",
        "ecn",
        "frames",
        "in_flight",
        "is_mtu_probe",
        "packet_number",
        "size",
        "time_sent",
    )

    def __init__(
        self,
        packet_number: int,
        time_sent: float,
        size: int,
        ack_eliciting: bool,
        in_flight: bool,
        frames: tuple[Any, ...] = (),
        ecn: int = 0,
        is_mtu_probe: bool = False,
    ) -> None:
        self.packet_number = packet_number
        self.time_sent = time_sent
        self.size = size
        self.ack_eliciting = ack_eliciting
        self.in_flight = in_flight
        self.frames = frames
        self.ecn = ecn
        self.is_mtu_probe = is_mtu_probe

    def __repr__(self) -> str:
        return f"SentPacket({self.packet_number}, time_sent={self.time_sent:.6f}, size={self.size})"

"""QUIC versions: what differs between v1 (RFC 9000, RFC 9001) and v2 (RFC 9369), one row each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "NEGOTIATION",
    "QUIC_V1",
    "QUIC_V2",
    "VERSIONS",
    "PacketType",
    "Version",
    "is_reserved_version",
    "reserved_version",
]

NEGOTIATION = 0x00000000
QUIC_V1 = 0x00000001
QUIC_V2 = 0x6B3343CF


class PacketType:
    """Long packet types in the numbering of QUIC v1 (RFC 9000 §17.2), and the short header."""

    INITIAL = 0
    ZERO_RTT = 1
    HANDSHAKE = 2
    RETRY = 3
    ONE_RTT = 4
    VERSION_NEGOTIATION = 5

    NAMES = ("initial", "0RTT", "handshake", "retry", "1RTT", "version_negotiation")


@dataclass(frozen=True, slots=True)
class Version:
    """One QUIC version. ``wire_types[t]`` is the two-bit code on the wire of packet type ``t``."""

    value: int
    name: str
    initial_salt: bytes
    label_prefix: bytes
    retry_key: bytes
    retry_nonce: bytes
    wire_types: tuple[int, int, int, int]

    def packet_type(self, first_byte: int) -> int:
        """The :class:`PacketType` of a long header's first byte."""
        return self.wire_types.index((first_byte >> 4) & 3)


VERSIONS: dict[int, Version] = {
    QUIC_V1: Version(
        QUIC_V1,
        "QUIC v1",
        bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
        b"quic",
        bytes.fromhex("be0c690b9f66575a1d766b54e368c84e"),
        bytes.fromhex("461599d35d632bf2239825bb"),
        (0, 1, 2, 3),
    ),
    QUIC_V2: Version(
        QUIC_V2,
        "QUIC v2",
        bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
        b"quicv2",
        bytes.fromhex("8fb4b01b56ac48e260fbcbcead7ccc92"),
        bytes.fromhex("d86969bc2d7c6d9990efb04a"),
        (1, 2, 3, 0),
    ),
}


def is_reserved_version(version: int) -> bool:
    """RFC 9000 §15: versions of the form 0x?a?a?a?a exist to exercise version negotiation."""
    return version & 0x0F0F0F0F == 0x0A0A0A0A


def reserved_version(random: bytes) -> int:
    """One of them, from four bytes."""
    return int.from_bytes(random, "big") & 0xF0F0F0F0 | 0x0A0A0A0A

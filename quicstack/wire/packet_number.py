"""Packet numbers on the wire: truncated when sent, restored when received (RFC 9000 §17.1, Appendix A.2 and A.3)."""

from __future__ import annotations

__all__ = ["MAX_PACKET_NUMBER", "decode_packet_number", "packet_number_length"]

MAX_PACKET_NUMBER = (1 << 62) - 1
"""RFC 9000 §12.3."""


def packet_number_length(packet_number: int, largest_acked: int) -> int:
    """Bytes needed so that a receiver can restore ``packet_number``; ``largest_acked`` is -1 before the first ACK."""
    unacked = packet_number - largest_acked
    # RFC 9000 §17.1: the encoding must span more than twice the distance to the largest acknowledged number.
    return min(((2 * unacked).bit_length() + 7) // 8, 4)


def decode_packet_number(truncated: int, bits: int, largest_received: int) -> int:
    """The number closest to the next expected one that ends in ``truncated`` (RFC 9000 Appendix A.3)."""
    expected = largest_received + 1
    window = 1 << bits
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - window // 2 and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + window // 2 and candidate >= window:
        return candidate - window
    return candidate

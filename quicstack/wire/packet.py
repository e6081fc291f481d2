"""Packet headers (RFC 8999 §5, RFC 9000 §17), without protection: that is ``transport/packet_protection``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quicstack.errors import Truncated
from quicstack.wire.varint import encode_varint, read_varint, varint_size
from quicstack.wire.version import NEGOTIATION, PacketType, Version

__all__ = [
    "FIXED_BIT",
    "LONG_HEADER",
    "MAX_CID_LENGTH",
    "MIN_INITIAL_DATAGRAM",
    "LongHeader",
    "read_cids",
    "read_long_header",
    "read_version_negotiation",
    "write_long_header",
    "write_retry",
    "write_version_negotiation",
]

LONG_HEADER = 0x80
FIXED_BIT = 0x40
MAX_CID_LENGTH = 20
"""RFC 9000 §17.2: the longest connection ID of QUIC v1 and v2."""
MIN_INITIAL_DATAGRAM = 1200
"""RFC 9000 §14.1: datagrams with Initial packets are at least this large."""


@dataclass(slots=True)
class LongHeader:
    """RFC 9000 §17.2. ``pn_offset`` is where the protected packet number starts, ``end`` where the packet ends.

    For Retry ``pn_offset`` and ``end`` are both the end of the datagram and ``token`` is the Retry token and tag.
    """

    packet_type: int
    version: int
    dcid: bytes
    scid: bytes
    token: bytes
    start: int
    pn_offset: int
    end: int


def read_cids(data: bytes, pos: int) -> tuple[int, bytes, bytes, int]:
    """RFC 8999 §5.1, true of every version: version, DCID, SCID and the position after them."""
    if len(data) < pos + 7:
        raise Truncated("long header")
    version = int.from_bytes(data[pos + 1 : pos + 5], "big")
    dcid_end = pos + 6 + data[pos + 5]
    if dcid_end >= len(data):
        raise Truncated("connection ID")
    scid_end = dcid_end + 1 + data[dcid_end]
    if scid_end > len(data):
        raise Truncated("connection ID")
    return version, data[pos + 6 : dcid_end], data[dcid_end + 1 : scid_end], scid_end


def read_long_header(data: bytes, start: int, version: Version) -> LongHeader:
    """The long header at ``start`` of a datagram, of a version we speak. Raises Truncated for anything malformed."""
    value, dcid, scid, pos = read_cids(data, start)
    if len(dcid) > MAX_CID_LENGTH or len(scid) > MAX_CID_LENGTH:
        raise Truncated("connection ID (longer than 20 bytes)")
    packet_type = version.packet_type(data[start])
    if packet_type == PacketType.RETRY:
        return LongHeader(packet_type, value, dcid, scid, data[pos:], start, len(data), len(data))
    token = b""
    if packet_type == PacketType.INITIAL:
        length, pos = read_varint(data, pos)
        token = data[pos : pos + length]
        pos += length
        if len(token) != length:
            raise Truncated("token")
    length, pos = read_varint(data, pos)
    if pos + length > len(data):
        raise Truncated("packet")
    return LongHeader(packet_type, value, dcid, scid, token, start, pos, pos + length)


def write_long_header(
    version: Version,
    packet_type: int,
    dcid: bytes,
    scid: bytes,
    token: bytes,
    payload_length: int,
    packet_number: int,
    pn_length: int,
    fixed_bit: int = FIXED_BIT,
) -> bytes:
    """An unprotected long header; ``payload_length`` counts the sealed payload and its tag. An Initial has a token."""
    first = LONG_HEADER | fixed_bit | version.wire_types[packet_type] << 4 | (pn_length - 1)
    parts = [
        bytes((first,)),
        version.value.to_bytes(4, "big"),
        bytes((len(dcid),)),
        dcid,
        bytes((len(scid),)),
        scid,
    ]
    if packet_type == PacketType.INITIAL:
        parts += (encode_varint(len(token)), token)
    # Always two bytes, so that the size of a header does not depend on the payload it will get.
    parts.append((payload_length + pn_length | 0x4000).to_bytes(2, "big"))
    parts.append((packet_number & ((1 << 8 * pn_length) - 1)).to_bytes(pn_length, "big"))
    return b"".join(parts)


def long_header_size(packet_type: int, dcid: bytes, scid: bytes, token: bytes, pn_length: int) -> int:
    """Bytes of what :func:`write_long_header` makes of the same."""
    size = 1 + 4 + 1 + len(dcid) + 1 + len(scid) + 2 + pn_length
    return size + varint_size(len(token)) + len(token) if packet_type == PacketType.INITIAL else size


def write_version_negotiation(dcid: bytes, scid: bytes, versions: Iterable[int], first_byte: int = 0xC0) -> bytes:
    """RFC 9000 §17.2.1. ``dcid`` is the SCID of the packet answered and the other way round."""
    return (
        bytes((LONG_HEADER | first_byte,))
        + NEGOTIATION.to_bytes(4, "big")
        + bytes((len(dcid),))
        + dcid
        + bytes((len(scid),))
        + scid
        + b"".join(version.to_bytes(4, "big") for version in versions)
    )


def read_version_negotiation(data: bytes, pos: int) -> tuple[int, ...]:
    """The versions listed from ``pos`` on; raises Truncated when the list is empty or ends inside an entry."""
    if pos >= len(data) or (len(data) - pos) % 4:
        raise Truncated("version list")
    return tuple(int.from_bytes(data[i : i + 4], "big") for i in range(pos, len(data), 4))


def write_retry(version: Version, dcid: bytes, scid: bytes, token: bytes) -> bytes:
    """RFC 9000 §17.2.5, without the integrity tag (RFC 9001 §5.8)."""
    first = LONG_HEADER | FIXED_BIT | version.wire_types[PacketType.RETRY] << 4
    return b"".join(
        (
            bytes((first,)),
            version.value.to_bytes(4, "big"),
            bytes((len(dcid),)),
            dcid,
            bytes((len(scid),)),
            scid,
            token,
        )
    )

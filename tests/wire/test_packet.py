"""Packet headers (RFC 8999 §5, RFC 9000 §17)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.errors import TransportError
from quicstack.wire.packet import (
    read_cids,
    read_long_header,
    read_version_negotiation,
    write_long_header,
    write_retry,
    write_version_negotiation,
)
from quicstack.wire.version import QUIC_V1, QUIC_V2, VERSIONS, PacketType, is_reserved_version

CID = st.binary(max_size=20)


@given(st.sampled_from([QUIC_V1, QUIC_V2]), st.integers(0, 2), CID, CID, st.binary(max_size=60), st.integers(1, 4))
def test_long_header(version: int, kind: int, dcid: bytes, scid: bytes, token: bytes, pn_length: int) -> None:
    row = VERSIONS[version]
    data = b"before" + write_long_header(row, kind, dcid, scid, token, 30, 5, pn_length) + bytes(30) + b"after"
    header = read_long_header(data, 6, row)
    assert (header.packet_type, header.dcid, header.scid, header.version) == (kind, dcid, scid, version)
    assert header.token == (token if kind == PacketType.INITIAL else b"")
    assert header.end == len(data) - 5
    assert header.end - header.pn_offset == 30 + pn_length
    assert int.from_bytes(data[header.pn_offset : header.pn_offset + pn_length], "big") == 5


@given(st.binary(max_size=80))
def test_hostile_bytes(data: bytes) -> None:
    for read in (lambda: read_cids(data, 0), lambda: read_long_header(data, 0, VERSIONS[QUIC_V1])):
        try:
            read()
        except TransportError:
            pass


@given(st.binary(max_size=255), st.binary(max_size=255))
def test_connection_ids_of_any_length_parse(dcid: bytes, scid: bytes) -> None:
    """RFC 8999 §5.1: in other versions they may be up to 255 bytes long."""
    data = write_version_negotiation(dcid, scid, [0x1A2A3A4A])
    assert read_cids(data, 0) == (0, dcid, scid, len(data) - 4)


@pytest.mark.parametrize("size", [0, 1, 3, 5, 7])
def test_version_list_that_is_no_list(size: int) -> None:
    """RFC 8999 §6: empty, or cut inside an entry."""
    with pytest.raises(TransportError):
        read_version_negotiation(bytes(size), 0)


def test_version_negotiation() -> None:
    data = write_version_negotiation(b"to", b"from", [QUIC_V1, 0x0A0A0A0A])
    _, _, _, pos = read_cids(data, 0)
    assert read_version_negotiation(data, pos) == (QUIC_V1, 0x0A0A0A0A)
    assert is_reserved_version(0x0A0A0A0A)
    assert is_reserved_version(0xFAEADACA)
    assert not is_reserved_version(QUIC_V1)


def test_retry_keeps_its_token_and_tag() -> None:
    data = write_retry(VERSIONS[QUIC_V1], b"to", b"from", b"token") + bytes(16)
    header = read_long_header(data, 0, VERSIONS[QUIC_V1])
    assert header.packet_type == PacketType.RETRY
    assert header.token == b"token" + bytes(16)

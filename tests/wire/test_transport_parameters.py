"""Transport parameters (RFC 9000 §7.4, §18)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.wire.transport_parameters import (
    PreferredAddress,
    TransportParameters,
    read_transport_parameters,
    write_transport_parameters,
)
from quicstack.wire.varint import encode_varint

FULL = TransportParameters(
    original_destination_connection_id=b"odcid",
    max_idle_timeout=30.0,
    stateless_reset_token=bytes(range(16)),
    max_udp_payload_size=1472,
    initial_max_data=1 << 20,
    initial_max_stream_data_bidi_local=1,
    initial_max_stream_data_bidi_remote=2,
    initial_max_stream_data_uni=3,
    initial_max_streams_bidi=4,
    initial_max_streams_uni=1 << 60,
    ack_delay_exponent=20,
    max_ack_delay=0.001,
    disable_active_migration=True,
    preferred_address=PreferredAddress(bytes(4), 1, bytes(16), 2, b"cid", bytes(16)),
    active_connection_id_limit=8,
    initial_source_connection_id=b"",
    retry_source_connection_id=b"retry",
    max_datagram_frame_size=65535,
    reset_stream_at=True,
)


def parameter(identifier: int, value: bytes) -> bytes:
    return encode_varint(identifier) + encode_varint(len(value)) + value


def test_round_trip() -> None:
    assert read_transport_parameters(write_transport_parameters(FULL), from_server=True) == FULL


def test_defaults_are_not_written() -> None:
    assert write_transport_parameters(TransportParameters()) == b""
    assert read_transport_parameters(b"", from_server=True) == TransportParameters()


@given(st.binary(max_size=80), st.booleans())
def test_hostile_bytes(data: bytes, from_server: bool) -> None:
    try:
        read_transport_parameters(data, from_server=from_server)
    except TransportError as error:
        assert error.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR


@pytest.mark.parametrize(
    "data",
    [
        parameter(0x03, encode_varint(1199)),
        parameter(0x0A, encode_varint(21)),
        parameter(0x0B, encode_varint(1 << 14)),
        parameter(0x0E, encode_varint(1)),
        parameter(0x08, encode_varint((1 << 60) + 1)),
        parameter(0x09, encode_varint((1 << 60) + 1)),
        parameter(0x02, bytes(15)),
        parameter(0x0C, b"x"),
        parameter(0x04, b"\x05\x05"),
        parameter(0x04, b""),
        parameter(0x01, b"\x05") * 2,
        parameter(0x00, bytes(21)),
        parameter(0x0D, bytes(41)),
        parameter(0x04, b"\x05")[:-1],
    ],
    ids=[
        "max_udp_payload_size 1199",
        "ack_delay_exponent 21",
        "max_ack_delay 2^14",
        "active_connection_id_limit 1",
        "streams_bidi",
        "streams_uni",
        "short reset token",
        "disable_active_migration with value",
        "bytes after integer",
        "empty integer",
        "twice",
        "long connection ID",
        "preferred address without connection ID",
        "cut",
    ],
)
def test_forbidden_values(data: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        read_transport_parameters(data, from_server=True)
    assert caught.value.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR


@pytest.mark.parametrize("identifier", [0x00, 0x02, 0x0D, 0x10])
def test_a_client_must_not_send_the_servers_parameters(identifier: int) -> None:
    """§18.2."""
    with pytest.raises(TransportError) as caught:
        read_transport_parameters(parameter(identifier, bytes(16)), from_server=False)
    assert caught.value.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR


def test_unknown_parameters_are_ignored() -> None:
    """§7.4.2."""
    data = parameter(27 + 31 * 12345, b"anything") + parameter(0x04, b"\x05")
    assert read_transport_parameters(data, from_server=False).initial_max_data == 5

"""Transport parameters (RFC 9000 §18): a TLS extension body to a value and back, with the checks of §7.4 and §18.2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.wire.frame import MAX_STREAMS_LIMIT
from quicstack.wire.varint import encode_varint, read_varint

__all__ = [
    "PreferredAddress",
    "TransportParameters",
    "read_transport_parameters",
    "write_transport_parameters",
]


@dataclass(frozen=True, slots=True)
class PreferredAddress:
    """RFC 9000 §18.2, as it stands on the wire: addresses are raw bytes, all zero when absent."""

    ipv4_address: bytes
    ipv4_port: int
    ipv6_address: bytes
    ipv6_port: int
    connection_id: bytes
    stateless_reset_token: bytes


@dataclass(slots=True)
class TransportParameters:
    """RFC 9000 §18.2. Times in seconds, sizes in bytes; a connection ID that is None was absent."""

    original_destination_connection_id: bytes | None = None
    max_idle_timeout: float = 0.0
    stateless_reset_token: bytes | None = None
    max_udp_payload_size: int = 65527
    initial_max_data: int = 0
    initial_max_stream_data_bidi_local: int = 0
    initial_max_stream_data_bidi_remote: int = 0
    initial_max_stream_data_uni: int = 0
    initial_max_streams_bidi: int = 0
    initial_max_streams_uni: int = 0
    ack_delay_exponent: int = 3
    max_ack_delay: float = 0.025
    disable_active_migration: bool = False
    preferred_address: PreferredAddress | None = None
    active_connection_id_limit: int = 2
    initial_source_connection_id: bytes | None = None
    retry_source_connection_id: bytes | None = None
    max_datagram_frame_size: int = 0
    min_ack_delay: float | None = None
    """draft-ietf-quic-ack-frequency §3; None: no ACK_FREQUENCY, please."""
    reset_stream_at: bool = False
    """draft-ietf-quic-reliable-stream-reset §3."""
    grease_quic_bit: bool = False
    """RFC 9287 §3: packets are taken whether or not their fixed bit is set."""
    version_information: tuple[int, ...] | None = None
    """RFC 9368 §3: the Chosen Version, then the Available Versions."""
    reserved: dict[int, bytes] = field(default_factory=dict)
    """Parameters sent to exercise the rule that unknown ones are ignored (§18.1); never filled when reading."""


_BYTES = {0x00: "original_destination_connection_id", 0x0F: "initial_source_connection_id"}
_BYTES[0x10] = "retry_source_connection_id"
_INTEGERS = {
    0x03: "max_udp_payload_size",
    0x04: "initial_max_data",
    0x05: "initial_max_stream_data_bidi_local",
    0x06: "initial_max_stream_data_bidi_remote",
    0x07: "initial_max_stream_data_uni",
    0x08: "initial_max_streams_bidi",
    0x09: "initial_max_streams_uni",
    0x0A: "ack_delay_exponent",
    0x0E: "active_connection_id_limit",
    0x20: "max_datagram_frame_size",
}
_MILLISECONDS = {0x01: "max_idle_timeout", 0x0B: "max_ack_delay"}
_STATELESS_RESET_TOKEN = 0x02
_VERSION_INFORMATION = 0x11
_FLAGS = {
    0x0C: "disable_active_migration",
    0x1D: "reset_stream_at",
    0x2AB2: "grease_quic_bit",
    0x17F7586D2CB571: "reset_stream_at",
}
"""Empty parameters. reset_stream_at has a second number, of its drafts up to -07, which some peers know alone."""
_PREFERRED_ADDRESS = 0x0D
_MIN_ACK_DELAY = 0xFF04DE1B
"""In microseconds, unlike its siblings."""
_UNITS = dict.fromkeys(_INTEGERS, 1) | dict.fromkeys(_MILLISECONDS, 1000) | {_MIN_ACK_DELAY: 1_000_000}
"""What parameters of one integer count in: pieces, or so many to a second."""
_SERVER_ONLY = {0x00, 0x02, 0x0D, 0x10}
_NAMES = {
    **_BYTES,
    **_INTEGERS,
    **_MILLISECONDS,
    0x02: "stateless_reset_token",
    0x11: "version_information",
    **_FLAGS,
    _MIN_ACK_DELAY: "min_ack_delay",
    0x0D: "preferred_address",
}
_DEFAULTS = TransportParameters()


def _error(reason: str) -> TransportError:
    return TransportError(TransportErrorCode.TRANSPORT_PARAMETER_ERROR, reason)


def read_transport_parameters(data: bytes, *, from_server: bool) -> TransportParameters:
    """Parse what a server (or client) sent. Raises TRANSPORT_PARAMETER_ERROR for anything that §18.2 forbids."""
    parameters = TransportParameters()
    seen: set[int | bytes] = set()  # no integers that the peer chooses, but ours: their hashes are no secret
    pos = 0
    try:
        while pos < len(data):
            identifier, pos = read_varint(data, pos)
            length, start = read_varint(data, pos)
            pos = start + length
            value = data[start:pos]
            if len(value) != length:
                raise _error(f"parameter {identifier:#x} is truncated")
            name = _NAMES.get(identifier)
            key = identifier if name else identifier.to_bytes(8, "big")
            if key in seen:
                raise _error(f"parameter {identifier:#x} is sent twice")
            seen.add(key)
            if identifier in _SERVER_ONLY and not from_server:
                raise _error(f"a client sent {name}, which is for servers")
            if name is not None:  # §7.4.2: parameters we do not know are ignored
                _read_one(parameters, identifier, name, value)
        versions = parameters.version_information
        if not from_server and versions is not None and versions[0] not in versions[1:]:
            raise _error(f"version_information chooses {versions[0]:#x}, which is not available")  # RFC 9368 §4
    except TransportError as error:
        if error.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR:
            raise
        raise _error(error.reason) from None
    _check(parameters)
    return parameters


def _read_one(parameters: TransportParameters, identifier: int, name: str, value: bytes) -> None:
    unit = _UNITS.get(identifier)
    if unit is not None:
        number, end = read_varint(value, 0)
        if end != len(value):
            raise _error(f"{name} has {len(value) - end} bytes after its integer")
        if identifier == 0x0B and number >= 1 << 14:
            raise _error(f"max_ack_delay of {number} ms, expected below 2^14")
        setattr(parameters, name, number if unit == 1 else number / unit)
    elif identifier in _BYTES:
        if len(value) > 20:
            raise _error(f"{name} of {len(value)} bytes")
        setattr(parameters, name, value)
    elif identifier == _VERSION_INFORMATION:
        parameters.version_information = _read_version_information(value)
    elif identifier == _STATELESS_RESET_TOKEN:
        if len(value) != 16:
            raise _error(f"stateless_reset_token of {len(value)} bytes, expected 16")
        parameters.stateless_reset_token = value
    elif identifier in _FLAGS:
        if value:
            raise _error(f"{name} is not empty")
        setattr(parameters, name, True)
    else:
        parameters.preferred_address = _read_preferred_address(value)


def _read_preferred_address(value: bytes) -> PreferredAddress:
    if len(value) < 25:
        raise _error("preferred_address is truncated")
    length = value[24]
    if not 1 <= length <= 20 or len(value) != 25 + length + 16:
        raise _error(f"preferred_address with a connection ID of {length} bytes in {len(value)} bytes")
    return PreferredAddress(
        value[:4],
        int.from_bytes(value[4:6], "big"),
        value[6:22],
        int.from_bytes(value[22:24], "big"),
        value[25 : 25 + length],
        value[25 + length :],
    )


def _check(p: TransportParameters) -> None:
    if p.min_ack_delay is not None and p.min_ack_delay > p.max_ack_delay:
        raise _error(f"min_ack_delay of {p.min_ack_delay} s is above the max_ack_delay of {p.max_ack_delay} s")
    if p.max_udp_payload_size < 1200:
        raise _error(f"max_udp_payload_size of {p.max_udp_payload_size}, expected 1200 or more")
    if p.ack_delay_exponent > 20:
        raise _error(f"ack_delay_exponent of {p.ack_delay_exponent}, expected 20 or less")
    if p.active_connection_id_limit < 2:
        raise _error(f"active_connection_id_limit of {p.active_connection_id_limit}, expected 2 or more")
    if max(p.initial_max_streams_bidi, p.initial_max_streams_uni) > MAX_STREAMS_LIMIT:
        raise _error("initial_max_streams above 2^60")


def _read_version_information(value: bytes) -> tuple[int, ...]:
    versions = tuple(int.from_bytes(value[i : i + 4], "big") for i in range(0, len(value), 4))
    if not value or len(value) % 4 or 0 in versions:
        raise _error(f"version_information of {len(value)} bytes, expected versions other than 0")  # RFC 9368 §4
    return versions


def write_transport_parameters(parameters: TransportParameters) -> bytes:
    """The extension body; values equal to their default are left out (§7.4: that means the same)."""
    out: list[bytes] = []
    for identifier, name, default, write in _WRITERS:
        value = getattr(parameters, name)
        if value != default:
            body = write(value)
            out += (identifier, encode_varint(len(body)), body)
    for number, body in parameters.reserved.items():
        out += (encode_varint(number), encode_varint(len(body)), body)
    return b"".join(out)


def _write_preferred_address(address: PreferredAddress) -> bytes:
    return b"".join(
        (
            address.ipv4_address,
            address.ipv4_port.to_bytes(2, "big"),
            address.ipv6_address,
            address.ipv6_port.to_bytes(2, "big"),
            bytes((len(address.connection_id),)),
            address.connection_id,
            address.stateless_reset_token,
        )
    )


def _writer(identifier: int) -> Callable[[Any], bytes]:
    """What makes the body of a parameter from its value."""
    if identifier in _INTEGERS:
        return encode_varint
    if identifier in _MILLISECONDS:
        return lambda seconds: encode_varint(round(seconds * 1000))
    if identifier == _MIN_ACK_DELAY:
        return lambda seconds: encode_varint(round(seconds * 1_000_000))
    if identifier == _VERSION_INFORMATION:
        return lambda versions: b"".join(version.to_bytes(4, "big") for version in versions)
    if identifier in _FLAGS:
        return lambda _: b""
    return _write_preferred_address if identifier == _PREFERRED_ADDRESS else bytes


_WRITERS = [
    (encode_varint(identifier), name, getattr(_DEFAULTS, name), _writer(identifier))
    for identifier, name in sorted(_NAMES.items())
]

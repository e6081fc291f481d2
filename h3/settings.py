"""SETTINGS: what an endpoint tells its peer once, first thing on its control stream (RFC 9114 §7.2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quicstack.errors import ConfigurationError, Truncated
from quicstack.wire.varint import encode_varint, read_varint

from .errors import H3ConnectionError, H3ErrorCode

__all__ = ["FORBIDDEN_SETTINGS", "H3Settings", "Setting", "encode_settings", "read_settings", "takes_datagrams"]


class Setting:
    """Identifiers of RFC 9114 §7.2.4.1, RFC 9204 §5, RFC 9220 §5 and RFC 9297 §5.1."""

    QPACK_MAX_TABLE_CAPACITY = 0x01
    MAX_FIELD_SECTION_SIZE = 0x06
    QPACK_BLOCKED_STREAMS = 0x07
    ENABLE_CONNECT_PROTOCOL = 0x08
    H3_DATAGRAM = 0x33
    H3_DATAGRAM_DRAFT04 = 0xFFD277


FORBIDDEN_SETTINGS = frozenset({0x00, 0x02, 0x03, 0x04, 0x05})
"""HTTP/2 settings without a counterpart: receiving one is H3_SETTINGS_ERROR (RFC 9114 §7.2.4.1)."""

_BOOLEANS = {
    Setting.ENABLE_CONNECT_PROTOCOL: "SETTINGS_ENABLE_CONNECT_PROTOCOL",  # RFC 8441 §3
    Setting.H3_DATAGRAM: "SETTINGS_H3_DATAGRAM",  # RFC 9297 §2.1.1
}


@dataclass(frozen=True, slots=True)
class H3Settings:
    """The limits this side announces and keeps.

    ``max_field_section_size`` bounds the encoded form of a field section as well as the decoded one, because the
    encoded form is what has to be held before it is known what it says. ``max_field_lines`` is not announced (there
    is no setting for it). ``extra`` goes out as it is: other extensions own those identifiers.
    """

    qpack_max_table_capacity: int = 4096
    qpack_blocked_streams: int = 16
    max_field_section_size: int = 16384
    max_field_lines: int = 256
    enable_connect_protocol: bool = True
    h3_datagram: bool = True
    extra: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("qpack_max_table_capacity", "qpack_blocked_streams"):
            value = getattr(self, name)
            if not 0 <= value <= 1 << 20:
                raise ConfigurationError(f"{name} must be between 0 and {1 << 20}, not {value}")
        for name in ("max_field_section_size", "max_field_lines"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1")
        if forbidden := FORBIDDEN_SETTINGS & self.extra.keys():
            raise ConfigurationError(f"setting {min(forbidden):#x} is forbidden in HTTP/3")

    def values(self, *, is_client: bool) -> dict[int, int]:
        """Identifiers and values as announced. Only a server says that it takes extended CONNECT (RFC 9220 §3)."""
        values = {
            Setting.QPACK_MAX_TABLE_CAPACITY: self.qpack_max_table_capacity,
            Setting.MAX_FIELD_SECTION_SIZE: self.max_field_section_size,
            Setting.QPACK_BLOCKED_STREAMS: self.qpack_blocked_streams,
        }
        if self.enable_connect_protocol and not is_client:
            values[Setting.ENABLE_CONNECT_PROTOCOL] = 1
        if self.h3_datagram:
            values[Setting.H3_DATAGRAM] = 1
            values[Setting.H3_DATAGRAM_DRAFT04] = 1  # browsers in the field still look for the draft's number
        return values | dict(self.extra)


def encode_settings(values: Mapping[int, int]) -> bytes:
    """The payload of a SETTINGS frame."""
    return b"".join(encode_varint(identifier) + encode_varint(value) for identifier, value in values.items())


def takes_datagrams(settings: Mapping[int, int] | None) -> bool:
    """A peer that has announced this takes HTTP Datagrams in QUIC DATAGRAM frames (RFC 9297 §2.1.1)."""
    known = settings or {}
    return known.get(Setting.H3_DATAGRAM) == 1 or known.get(Setting.H3_DATAGRAM_DRAFT04) == 1


def read_settings(payload: bytes) -> dict[int, int]:
    """The settings in a payload, unknown ones included. Raises for what RFC 9114 §7.2.4 forbids."""
    values: dict[int, int] = {}
    position = 0
    while position < len(payload):
        try:
            identifier, position = read_varint(payload, position)
            value, position = read_varint(payload, position)
        except Truncated:
            raise H3ConnectionError(H3ErrorCode.H3_FRAME_ERROR, "SETTINGS ends inside a setting") from None
        if identifier in values:
            raise H3ConnectionError(H3ErrorCode.H3_SETTINGS_ERROR, f"setting {identifier:#x} appears twice")
        if identifier in FORBIDDEN_SETTINGS:
            raise H3ConnectionError(H3ErrorCode.H3_SETTINGS_ERROR, f"setting {identifier:#x} belongs to HTTP/2")
        if value > 1 and identifier in _BOOLEANS:
            raise H3ConnectionError(H3ErrorCode.H3_SETTINGS_ERROR, f"{_BOOLEANS[identifier]} is {value}, not 0 or 1")
        values[identifier] = value
    return values

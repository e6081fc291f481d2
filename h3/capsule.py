"""The Capsule Protocol (RFC 9297 §3.2): typed, length-prefixed values on the data stream of a CONNECT request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from quicstack.errors import Truncated
from quicstack.wire.varint import encode_varint, read_varint

from .errors import malformed

__all__ = ["Capsule", "CapsuleParser", "CapsuleType", "encode_capsule"]


class CapsuleType:
    """RFC 9297 §5.4. Other types belong to the protocols that register them."""

    DATAGRAM = 0x00


class Capsule(NamedTuple):
    """One capsule with its whole value."""

    type: int
    value: bytes


def encode_capsule(capsule_type: int, value: bytes = b"") -> bytes:
    """RFC 9297 §3.2, figure 3."""
    return encode_varint(capsule_type) + encode_varint(len(value)) + value


class CapsuleParser:
    """Capsules out of bytes that arrive in any pieces.

    ``accept`` maps the known types to the longest value allowed. A longer one is malformed before its first value byte
    is kept; a capsule of another type is skipped as it arrives, whatever length it claims (RFC 9297 §3.2).
    """

    __slots__ = ("_accept", "_buffer", "_needed", "_skip", "_type")

    def __init__(self, accept: Mapping[int, int]) -> None:
        self._accept = accept
        self._buffer = b""
        self._type: int | None = None
        self._needed = 0
        self._skip = 0

    @property
    def is_mid_capsule(self) -> bool:
        """True when the bytes so far end inside a capsule: at the end of the stream that is malformed (§3.3)."""
        return bool(self._buffer) or self._type is not None or self._skip > 0

    def feed(self, data: bytes) -> list[Capsule]:
        """The capsules that these bytes complete. Raises H3StreamError when a known one is too long."""
        capsules: list[Capsule] = []
        if self._buffer:
            data = self._buffer + data
        position = 0
        while True:
            if self._skip:
                skipped = min(self._skip, len(data) - position)
                self._skip -= skipped
                position += skipped
            if self._skip:
                break
            if self._type is None:
                end = self._read_header(data, position)
                if end == position:
                    break
                position = end
                continue
            if len(data) - position < self._needed:
                break
            capsules.append(Capsule(self._type, data[position : position + self._needed]))
            position += self._needed
            self._type = None
        self._buffer = data[position:]
        return capsules

    def _read_header(self, data: bytes, position: int) -> int:
        """Type and length; the position behind them, or the same one while they are incomplete."""
        try:
            capsule_type, end = read_varint(data, position)
            length, end = read_varint(data, end)
        except Truncated:
            return position
        longest = self._accept.get(capsule_type)
        if longest is None:
            self._skip = length
        elif length > longest:
            raise malformed(f"capsule {capsule_type:#x} is {length} bytes long, {longest} are allowed")
        else:
            self._type, self._needed = capsule_type, length
        return end

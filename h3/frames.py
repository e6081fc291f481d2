"""HTTP/3 frames and stream types (RFC 9114 §6.2, §7), one reader and one writer per frame.

A frame is ``type, length, payload`` with two variable-length integers in front. Nothing here keeps state: where a frame
is allowed is decided by ``control`` (control streams) and ``message_reader`` (request streams).
"""

from __future__ import annotations

from typing import Protocol

from quicstack.errors import Truncated
from quicstack.wire.varint import encode_varint, read_varint

from .errors import H3ConnectionError, H3ErrorCode

__all__ = [
    "RESERVED_FRAME_TYPES",
    "FrameType",
    "StreamType",
    "VarintReader",
    "encode_frame",
    "grease_identifier",
    "is_grease",
    "read_single_id",
]


class FrameType:
    """RFC 9114 §7.2, RFC 9218 §7.2, and the signal that turns a bidirectional stream into one of WebTransport's."""

    DATA = 0x00
    HEADERS = 0x01
    CANCEL_PUSH = 0x03
    SETTINGS = 0x04
    PUSH_PROMISE = 0x05
    GOAWAY = 0x07
    MAX_PUSH_ID = 0x0D
    WT_STREAM = 0x41
    PRIORITY_UPDATE_REQUEST = 0xF0700
    PRIORITY_UPDATE_PUSH = 0xF0701


_TWO_INTEGERS = 16
"""Bytes that two variable-length integers take at most (RFC 9000 §16)."""

RESERVED_FRAME_TYPES = frozenset({0x02, 0x06, 0x08, 0x09})
"""HTTP/2 frames without a counterpart: receiving one is H3_FRAME_UNEXPECTED (RFC 9114 §7.2.8)."""


class StreamType:
    """First integer of a unidirectional stream (RFC 9114 §6.2, RFC 9204 §4.2)."""

    CONTROL = 0x00
    PUSH = 0x01
    QPACK_ENCODER = 0x02
    QPACK_DECODER = 0x03
    WT_STREAM = 0x54


def grease_identifier(n: int) -> int:
    """The n-th of the identifiers 0x1f * N + 0x21 that exist to be ignored (RFC 9114 §6.2.3, §7.2.4.1, §7.2.8)."""
    return 0x1F * n + 0x21


def is_grease(identifier: int) -> bool:
    """Whether an identifier is one of the reserved ones."""
    return identifier >= 0x21 and (identifier - 0x21) % 0x1F == 0


def encode_frame(frame_type: int, payload: bytes = b"") -> bytes:
    """RFC 9114 §7.1."""
    return encode_varint(frame_type) + encode_varint(len(payload)) + payload


def read_single_id(payload: bytes, what: str) -> int:
    """The payload of GOAWAY, MAX_PUSH_ID and CANCEL_PUSH: one integer and nothing after it (RFC 9114 §7.1)."""
    try:
        value, end = read_varint(payload, 0)
    except Truncated:
        raise H3ConnectionError(H3ErrorCode.H3_FRAME_ERROR, f"{what} is too short") from None
    if end != len(payload):
        raise H3ConnectionError(H3ErrorCode.H3_FRAME_ERROR, f"{what} is longer than its one field")
    return value


class Readable(Protocol):
    """What a :class:`VarintReader` needs of a stream."""

    def read(self, n: int = -1) -> bytes: ...
    def peek(self, limit: int = -1) -> bytes: ...


class VarintReader:
    """Takes variable-length integers off a stream, in however many pieces they arrive, and not one byte more.

    The bytes behind a stream header may belong to somebody else (a WebTransport session): they stay in the stream.
    """

    __slots__ = ("_partial", "_stream")

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._partial = b""

    @property
    def is_mid_integer(self) -> bool:
        """True when an integer has begun and not ended."""
        return bool(self._partial)

    def peek_two(self) -> tuple[int, int, int] | None:
        """Two integers and their size in bytes, which are left where they are. None unless both have begun here and are
        here completely, as nearly always."""
        if self._partial:
            return None
        data = self._stream.peek(_TWO_INTEGERS)
        if len(data) < 2:
            return None
        try:
            first, end = read_varint(data, 0)
            second, end = read_varint(data, end)
        except Truncated:
            return None
        return first, second, end

    def next(self) -> int | None:
        """The next integer, or None until more bytes arrive."""
        if not self._partial:
            first = self._stream.read(1)
            if not first:
                return None
            if first[0] < 0x40:
                return first[0]
            self._partial = first
        missing = (1 << (self._partial[0] >> 6)) - len(self._partial)
        self._partial += self._stream.read(missing)
        if len(self._partial) < 1 << (self._partial[0] >> 6):
            return None
        value, _ = read_varint(self._partial, 0)
        self._partial = b""
        return value

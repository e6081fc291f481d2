"""Values of WebTransport's capsules on the CONNECT stream (draft-16 §4.7, §5.6, §6). Pure: bytes to values and back."""

from __future__ import annotations

from quicstack.errors import Truncated
from quicstack.wire.varint import encode_varint, read_varint
from webtransport.codes import MAX_APPLICATION_ERROR, CapsuleType, ErrorCode

__all__ = [
    "CAPSULE_LIMITS",
    "FLOW_CONTROL_CAPSULES",
    "MAX_CLOSE_REASON",
    "MAX_STREAMS_LIMIT",
    "CapsuleError",
    "encode_close",
    "encode_limit",
    "read_close",
    "read_limit",
    "truncate_reason",
]

MAX_CLOSE_REASON = 1024
MAX_STREAMS_LIMIT = 1 << 60
"""RFC 9000 §4.6: no more stream IDs than that exist."""

FLOW_CONTROL_CAPSULES = frozenset(
    {
        CapsuleType.WT_MAX_DATA,
        CapsuleType.WT_MAX_STREAMS_BIDI,
        CapsuleType.WT_MAX_STREAMS_UNI,
        CapsuleType.WT_DATA_BLOCKED,
        CapsuleType.WT_STREAMS_BLOCKED_BIDI,
        CapsuleType.WT_STREAMS_BLOCKED_UNI,
    }
)

CAPSULE_LIMITS: dict[int, int] = {
    CapsuleType.WT_CLOSE_SESSION: 4 + MAX_CLOSE_REASON,
    CapsuleType.WT_DRAIN_SESSION: 0,
    CapsuleType.WT_MAX_STREAM_DATA: 16,
    CapsuleType.WT_STREAM_DATA_BLOCKED: 16,
    **dict.fromkeys(FLOW_CONTROL_CAPSULES, 8),
}
"""The longest value of each capsule that is read. A longer one is malformed; other types are skipped unread."""


class CapsuleError(Exception):
    """A capsule ends its session: the CONNECT stream is reset with ``code`` (draft-16 §5.6, §6)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


def truncate_reason(reason: str) -> bytes:
    """``reason`` in UTF-8, cut at a character boundary to what WT_CLOSE_SESSION may hold (draft-16 §6)."""
    encoded = reason.encode(errors="replace")
    if len(encoded) <= MAX_CLOSE_REASON:
        return encoded
    return encoded[:MAX_CLOSE_REASON].decode(errors="ignore").encode()


def encode_close(code: int, reason: str) -> bytes:
    """The value of WT_CLOSE_SESSION."""
    if not 0 <= code <= MAX_APPLICATION_ERROR:
        raise ValueError(f"a close code lies between 0 and {MAX_APPLICATION_ERROR:#x}, not {code}")
    return code.to_bytes(4, "big") + truncate_reason(reason)


def read_close(value: bytes) -> tuple[int, str]:
    """Code and reason of WT_CLOSE_SESSION."""
    if len(value) < 4:
        raise CapsuleError(ErrorCode.H3_MESSAGE_ERROR, "WT_CLOSE_SESSION is shorter than its error code")
    if len(value) > 4 + MAX_CLOSE_REASON:
        raise CapsuleError(ErrorCode.H3_MESSAGE_ERROR, f"WT_CLOSE_SESSION says more than {MAX_CLOSE_REASON} bytes")
    try:
        return int.from_bytes(value[:4], "big"), value[4:].decode()
    except UnicodeDecodeError:
        raise CapsuleError(ErrorCode.H3_MESSAGE_ERROR, "WT_CLOSE_SESSION is not UTF-8") from None


def encode_limit(limit: int) -> bytes:
    """The value of any flow control capsule: one variable-length integer."""
    return encode_varint(limit)


def read_limit(capsule_type: int, value: bytes) -> int:
    """The limit in a flow control capsule, within what stream limits may be (draft-16 §5.6.2, §5.6.3)."""
    try:
        limit, end = read_varint(value, 0)
    except Truncated:
        raise CapsuleError(ErrorCode.H3_MESSAGE_ERROR, f"capsule {capsule_type:#x} is truncated") from None
    if end != len(value):
        raise CapsuleError(ErrorCode.H3_MESSAGE_ERROR, f"capsule {capsule_type:#x} is too long")
    counts_bytes = capsule_type in (CapsuleType.WT_MAX_DATA, CapsuleType.WT_DATA_BLOCKED)
    if not counts_bytes and limit > MAX_STREAMS_LIMIT:
        raise CapsuleError(ErrorCode.WT_FLOW_CONTROL_ERROR, f"{limit} streams are more than there are stream IDs")
    return limit

"""WebTransport code points on the wire, and the mapping of application error codes (draft-ietf-webtrans-http3 §4.4).

A WebTransport stream is a QUIC stream of an HTTP/3 connection, so its RESET_STREAM and STOP_SENDING frames carry HTTP/3
error codes. Applications have codes of their own; they live in a range that HTTP/3 set aside for them, with a hole at
every 31st place, because HTTP/3 reserves those points for greasing (RFC 9114 §8.1).
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "APPLICATION_ERROR_FIRST",
    "APPLICATION_ERROR_LAST",
    "MAX_APPLICATION_ERROR",
    "MAX_APPLICATION_ERROR_DRAFT02",
    "CapsuleType",
    "ErrorCode",
    "application_code",
    "http_code",
]


class ErrorCode(IntEnum):
    """HTTP/3 error codes that WebTransport sends or meets (draft-16 §9.5, RFC 9114 §8.1, RFC 9297 §5.2)."""

    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x100
    H3_ID_ERROR = 0x108
    H3_SETTINGS_ERROR = 0x109
    H3_REQUEST_REJECTED = 0x10B
    H3_REQUEST_CANCELLED = 0x10C
    H3_MESSAGE_ERROR = 0x10E
    WT_FLOW_CONTROL_ERROR = 0x045D4487
    WT_ALPN_ERROR = 0x0817B3DD
    WT_SESSION_GONE = 0x170D7B68
    WT_REQUIREMENTS_NOT_MET = 0x212C0D48
    WT_BUFFERED_STREAM_REJECTED = 0x3994BD84


class CapsuleType(IntEnum):
    """Capsules of a CONNECT stream (draft-16 §9.6). The two stream data ones are for HTTP/2 and prohibited here."""

    WT_CLOSE_SESSION = 0x2843
    WT_DRAIN_SESSION = 0x78AE
    WT_MAX_DATA = 0x190B4D3D
    WT_MAX_STREAM_DATA = 0x190B4D3E
    WT_MAX_STREAMS_BIDI = 0x190B4D3F
    WT_MAX_STREAMS_UNI = 0x190B4D40
    WT_DATA_BLOCKED = 0x190B4D41
    WT_STREAM_DATA_BLOCKED = 0x190B4D42
    WT_STREAMS_BLOCKED_BIDI = 0x190B4D43
    WT_STREAMS_BLOCKED_UNI = 0x190B4D44


APPLICATION_ERROR_FIRST = 0x52E4A40FA8DB
APPLICATION_ERROR_LAST = 0x52E5AC983162
MAX_APPLICATION_ERROR = 0xFFFF_FFFF
MAX_APPLICATION_ERROR_DRAFT02 = 0xFF
"""Drafts -02 and -03 gave applications one byte."""


def http_code(code: int) -> int:
    """The HTTP/3 error code that carries the application's ``code``: 30 points, then one skipped, and so on."""
    if not 0 <= code <= MAX_APPLICATION_ERROR:
        raise ValueError(f"a WebTransport error code lies between 0 and {MAX_APPLICATION_ERROR:#x}, not {code}")
    return APPLICATION_ERROR_FIRST + code + code // 0x1E


def application_code(code: int) -> int | None:
    """The application's code inside an HTTP/3 error ``code``; None if this one carries none.

    Draft-16 §4.4: a stream reset with a code outside the range is reset all the same, without an application code.
    """
    if not APPLICATION_ERROR_FIRST <= code <= APPLICATION_ERROR_LAST or (code - 0x21) % 0x1F == 0:
        return None
    shifted = code - APPLICATION_ERROR_FIRST
    return shifted - shifted // 0x1F

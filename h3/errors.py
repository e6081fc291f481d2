"""The error codes of RFC 9114 §8.1, RFC 9204 §6 and RFC 9297 §5.2, and the errors that h3 raises.

Code that reads what a peer sent raises :class:`H3ConnectionError` or :class:`H3StreamError`. Both are caught in one
place, ``H3Connection._guard``, which closes the connection or resets the stream. What the application did wrong is a
:class:`InvalidMessage` or one of the other errors below, and never reaches the wire.
"""

from __future__ import annotations

from enum import IntEnum

from quicstack.errors import QuicstackError

__all__ = [
    "ExtendedConnectUnavailable",
    "GoingAway",
    "H3ConnectionError",
    "H3Error",
    "H3ErrorCode",
    "H3StreamError",
    "InvalidMessage",
    "h3_error_name",
    "malformed",
]


class H3ErrorCode(IntEnum):
    """Application error codes an HTTP/3 endpoint puts into CONNECTION_CLOSE, RESET_STREAM and STOP_SENDING."""

    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x0100
    H3_GENERAL_PROTOCOL_ERROR = 0x0101
    H3_INTERNAL_ERROR = 0x0102
    H3_STREAM_CREATION_ERROR = 0x0103
    H3_CLOSED_CRITICAL_STREAM = 0x0104
    H3_FRAME_UNEXPECTED = 0x0105
    H3_FRAME_ERROR = 0x0106
    H3_EXCESSIVE_LOAD = 0x0107
    H3_ID_ERROR = 0x0108
    H3_SETTINGS_ERROR = 0x0109
    H3_MISSING_SETTINGS = 0x010A
    H3_REQUEST_REJECTED = 0x010B
    H3_REQUEST_CANCELLED = 0x010C
    H3_REQUEST_INCOMPLETE = 0x010D
    H3_MESSAGE_ERROR = 0x010E
    H3_CONNECT_ERROR = 0x010F
    H3_VERSION_FALLBACK = 0x0110
    QPACK_DECOMPRESSION_FAILED = 0x0200
    QPACK_ENCODER_STREAM_ERROR = 0x0201
    QPACK_DECODER_STREAM_ERROR = 0x0202


def h3_error_name(code: int) -> str:
    """``H3_FRAME_ERROR`` for 0x106; a code nobody registered prints as a number (and means H3_NO_ERROR, §8.1)."""
    try:
        return H3ErrorCode(code).name
    except ValueError:
        return f"{code:#x}"


class H3Error(QuicstackError):
    """Root of the errors of HTTP/3."""


class _CodedError(H3Error):
    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{h3_error_name(code)}: {reason}" if reason else h3_error_name(code))
        self.code = int(code)
        self.reason = reason


class H3ConnectionError(_CodedError):
    """The peer broke a rule that costs it the connection (RFC 9114 §8)."""


class H3StreamError(_CodedError):
    """One request or response failed; the connection goes on.

    ``by_peer`` tells whether the peer reset or stopped the stream, or this side refused what it received.
    ``is_retriable`` is set when the peer is known not to have processed the request (RFC 9114 §4.1.1, §5.2).
    """

    def __init__(self, code: int, reason: str = "", *, by_peer: bool = False, is_retriable: bool = False) -> None:
        super().__init__(code, reason)
        self.by_peer = by_peer
        self.is_retriable = is_retriable


class InvalidMessage(H3Error, ValueError):
    """The application asked to send a message that HTTP/3 does not allow, or at a moment when it is not allowed."""


class GoingAway(H3Error):
    """A request was started after GOAWAY (RFC 9114 §5.2). Open a new connection; nothing was sent on this one."""


class ExtendedConnectUnavailable(H3Error):
    """The server has not said that it takes the :protocol pseudo-header (RFC 8441 §3, RFC 9220 §3)."""


def malformed(reason: str) -> H3StreamError:
    """A malformed message: RFC 9114 §4.1.2 makes it a stream error of type H3_MESSAGE_ERROR."""
    return H3StreamError(H3ErrorCode.H3_MESSAGE_ERROR, reason)

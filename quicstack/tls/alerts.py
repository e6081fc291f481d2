"""TLS alerts (RFC 8446 §6), which QUIC carries as transport errors 0x0100 + alert (RFC 9001 §4.8).

No alert is ever written as a TLS message: whatever goes wrong in this package is one raised
:class:`~quicstack.errors.TransportError`, and the connection closes with its code.
"""

from __future__ import annotations

from enum import IntEnum

from quicstack.errors import QuicstackError, TransportError

__all__ = ["Alert", "tls_error"]

CRYPTO_ERROR = 0x0100


class Alert(IntEnum):
    """RFC 8446 §6.2 and Appendix B.2: the alerts that TLS 1.3 still sends, under their names there."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    NO_APPLICATION_PROTOCOL = 120
    ECH_REQUIRED = 121
    """RFC 9849 §11.2."""


def tls_error(alert: int, reason: str, cause: QuicstackError | None = None) -> TransportError:
    """The exception for one alert. ``reason`` says what the peer sent and what it should have sent instead."""
    return TransportError(CRYPTO_ERROR + alert, reason, cause=cause)

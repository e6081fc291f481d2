"""Errors: the codes of RFC 9000 §20, the exception raised inside the engine, and the tree that applications see.

Everything an application can catch derives from :class:`QuicstackError`; the packages ``h3`` and ``webtransport`` hang
their own errors under the same root. :class:`TransportError` is raised by any code that reads what a peer sent, and is
caught in exactly one place (``connection/receive``), which turns it into a CONNECTION_CLOSE frame.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

__all__ = [
    "CertificateError",
    "ConfigurationError",
    "ConnectionClosed",
    "ConnectionTimeout",
    "EchRejected",
    "MigrationFailed",
    "MigrationRefused",
    "QuicstackError",
    "StreamError",
    "StreamLimitReached",
    "StreamReset",
    "StreamStopped",
    "TransportError",
    "TransportErrorCode",
    "Truncated",
    "error_name",
    "once_more",
    "printable",
]

MAX_REASON = 500
"""Characters of a reason that are kept: much of it may be the peer's, and as long as the peer wanted."""


class TransportErrorCode(IntEnum):
    """RFC 9000 §20.1, and 0x11 of RFC 9368 §8."""

    NO_ERROR = 0x00
    INTERNAL_ERROR = 0x01
    CONNECTION_REFUSED = 0x02
    FLOW_CONTROL_ERROR = 0x03
    STREAM_LIMIT_ERROR = 0x04
    STREAM_STATE_ERROR = 0x05
    FINAL_SIZE_ERROR = 0x06
    FRAME_ENCODING_ERROR = 0x07
    TRANSPORT_PARAMETER_ERROR = 0x08
    CONNECTION_ID_LIMIT_ERROR = 0x09
    PROTOCOL_VIOLATION = 0x0A
    INVALID_TOKEN = 0x0B
    APPLICATION_ERROR = 0x0C
    CRYPTO_BUFFER_EXCEEDED = 0x0D
    KEY_UPDATE_ERROR = 0x0E
    AEAD_LIMIT_REACHED = 0x0F
    NO_VIABLE_PATH = 0x10
    VERSION_NEGOTIATION_ERROR = 0x11


CRYPTO_ERROR = 0x0100
"""First of the 256 codes that carry a TLS alert (RFC 9001 §4.8)."""


def error_name(code: int) -> str:
    """The name of a transport error code, for messages: ``FLOW_CONTROL_ERROR``, ``CRYPTO_ERROR(48)``, ``0x1234``."""
    if CRYPTO_ERROR <= code < CRYPTO_ERROR + 0x100:
        return f"CRYPTO_ERROR({code - CRYPTO_ERROR})"
    try:
        return TransportErrorCode(code).name
    except ValueError:
        return f"{code:#x}"


def printable(text: str, most: int = MAX_REASON) -> str:
    """What a stranger wrote, fit for a message or a log: no control characters, no thousand letters."""
    shown = text[: most + 1]
    if not shown.isprintable():
        shown = ascii(shown)[1:-1]
    return shown if len(shown) <= most else shown[:most] + "..."


class QuicstackError(Exception):
    """Root of every exception that ``quicstack``, ``h3`` and ``webtransport`` raise on purpose."""


E = TypeVar("E", bound=Exception)


def once_more(error: E) -> E:
    """The same error as a new exception, to be raised for one that is kept.

    An exception holds the frames it went through. So a connection, the error that ended it, and those who were told of
    it would hold each other until the garbage collector finds them.
    """
    copy = error.__class__.__new__(error.__class__, *error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


class TransportError(QuicstackError):
    """What a peer sent breaks a rule of the transport or of TLS. Becomes one CONNECTION_CLOSE (RFC 9000 §11.1).

    ``code`` is a transport error code, ``frame_type`` the type of the frame at fault (0 when unknown), ``cause`` the
    exception that the local application shall see instead of a plain :class:`ConnectionClosed`.
    """

    def __init__(self, code: int, reason: str = "", frame_type: int = 0, cause: QuicstackError | None = None) -> None:
        reason = printable(reason)
        super().__init__(f"{error_name(code)}: {reason}")
        self.code = int(code)
        self.reason = reason
        self.frame_type = frame_type
        self.cause = cause


class Truncated(TransportError):
    """A field ends after the end of its buffer."""

    def __init__(self, what: str = "field") -> None:
        super().__init__(TransportErrorCode.FRAME_ENCODING_ERROR, f"{what} is truncated")


class ConfigurationError(QuicstackError, ValueError):
    """A setting is missing, out of range or contradicts another one; the message says what to change."""


class ConnectionClosed(QuicstackError):
    """The connection is over.

    ``code`` and ``reason`` as in the CONNECTION_CLOSE frame, ``by_peer`` tells who closed, ``transport`` whether the
    code is a transport error code (RFC 9000 §20.1) or the application's (§20.2). The message has the reason without
    control characters; ``reason`` itself is what the peer wrote.
    """

    def __init__(
        self,
        code: int,
        reason: str = "",
        *,
        by_peer: bool = False,
        transport: bool = True,
        frame_type: int = 0,
    ) -> None:
        self.code = code
        self.reason = reason
        self.by_peer = by_peer
        self.transport = transport
        self.frame_type = frame_type
        who = "the peer" if by_peer else "this side"
        kind = f"transport code {error_name(code)}" if transport else f"application code {code:#x}"
        super().__init__(f"connection closed by {who} with {kind}" + (f": {printable(reason)}" if reason else ""))

    @property
    def is_clean(self) -> bool:
        """True when nobody reported an error: transport NO_ERROR, or application code 0."""
        return self.code == 0


class ConnectionTimeout(ConnectionClosed, TimeoutError):
    """The peer fell silent: the handshake or the idle timeout passed (RFC 9000 §10.1). Nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason, by_peer=False, transport=True)
        self.args = (reason,)


class CertificateError(QuicstackError):
    """The peer's certificate was refused: ``check`` names the check, ``subject`` the owner, ``alert`` the TLS alert."""

    def __init__(self, message: str, *, check: str = "", subject: str = "", alert: int = 42) -> None:
        super().__init__(message)
        self.check = check
        self.subject = subject
        self.alert = alert


class EchRejected(QuicstackError):
    """The server refused Encrypted ClientHello and proved to be ``public_name`` (RFC 9849 §6.1.6).

    ``retry_configs`` is its new ECHConfigList for another attempt, on a new connection, once; None means that it has
    turned ECH off. :meth:`quicstack.Configuration.after_ech_rejection` makes the configuration of that attempt.
    """

    def __init__(self, message: str, *, public_name: str, retry_configs: bytes | None) -> None:
        super().__init__(message)
        self.public_name = public_name
        self.retry_configs = retry_configs


class MigrationRefused(QuicstackError):
    """The connection cannot move to another path now, or never; the message says why (RFC 9000 §9)."""


class MigrationFailed(QuicstackError):
    """The new path did not carry packets both ways; the connection stays where it was (RFC 9000 §9.2)."""


class StreamError(QuicstackError):
    """Something happened to one stream; the connection goes on."""

    def __init__(self, message: str, *, stream_id: int, code: int = 0) -> None:
        super().__init__(message)
        self.stream_id = stream_id
        self.code = code


class StreamReset(StreamError):
    """The peer abandoned its sending side with RESET_STREAM (RFC 9000 §19.4)."""


class StreamStopped(StreamError):
    """The peer asked us to stop sending with STOP_SENDING (RFC 9000 §19.5)."""


class StreamLimitReached(QuicstackError):
    """The peer's MAX_STREAMS allows no further stream of this type now (RFC 9000 §4.6)."""

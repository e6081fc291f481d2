"""What WebTransport applications can catch. Everything derives from :class:`quicstack.errors.QuicstackError`."""

from __future__ import annotations

from dataclasses import dataclass

from quicstack.errors import CertificateError, ConfigurationError, ConnectionClosed, QuicstackError

__all__ = [
    "CertificateError",
    "CloseInfo",
    "ConfigurationError",
    "ConnectTimeout",
    "ConnectionClosed",
    "DatagramTooLarge",
    "QuicstackError",
    "SessionClosed",
    "SessionRejected",
    "StreamAborted",
    "StreamReset",
    "StreamStopped",
    "WebTransportError",
    "WebTransportUnsupported",
]


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """How a session ended: what ``wait_closed()`` returns.

    ``code`` and ``reason`` are the application's (0 and "" if nobody gave any). ``by_peer`` tells who ended it.
    ``clean`` is False if the CONNECT stream was reset or the connection died, and then ``cause`` may say more.
    """

    code: int = 0
    reason: str = ""
    by_peer: bool = False
    clean: bool = True
    cause: QuicstackError | None = None


class WebTransportError(QuicstackError):
    """Root of the errors of this package."""


class SessionClosed(WebTransportError):
    """The session is over, so what was asked of it cannot be done. ``code``, ``reason`` and ``by_peer`` as closed."""

    def __init__(self, info: CloseInfo) -> None:
        who = "the peer" if info.by_peer else "this side"
        detail = info.reason or (str(info.cause) if info.cause is not None else "")
        super().__init__(f"session closed by {who} with code {info.code}" + (f": {detail}" if detail else ""))
        self.info = info
        self.code = info.code
        self.reason = info.reason
        self.by_peer = info.by_peer


class SessionRejected(WebTransportError):
    """The server refused the session: with an HTTP ``status``, or with 0 when it reset the CONNECT stream unread."""

    def __init__(self, status: int, *, headers: tuple[tuple[str, str], ...] = (), code: int | None = None) -> None:
        how = f"status {status}" if status else "a stream reset" + ("" if code is None else f" ({code:#x})")
        super().__init__(f"the server refused the session with {how}")
        self.status = status
        self.headers = headers
        self.code = code


class WebTransportUnsupported(WebTransportError):
    """The peer's SETTINGS and transport parameters allow no draft of WebTransport that this side speaks."""


class ConnectTimeout(WebTransportError, TimeoutError):
    """No session came about in the time given. What had been opened for it is closed."""


class DatagramTooLarge(WebTransportError, ValueError):
    """The datagram would not fit into one packet of this connection; ``max_size`` bytes would."""

    def __init__(self, size: int, max_size: int) -> None:
        super().__init__(f"a datagram of {size} bytes does not fit; at most {max_size} bytes do")
        self.size = size
        self.max_size = max_size


class StreamAborted(WebTransportError):
    """The peer gave up one direction of a stream. ``code`` is its application's code, None if it gave none."""

    def __init__(self, what: str, *, stream_id: int, code: int | None, http_code: int) -> None:
        super().__init__(f"stream {stream_id} {what} with {f'code {code}' if code is not None else f'{http_code:#x}'}")
        self.stream_id = stream_id
        self.code = code
        self.http_code = http_code


class StreamReset(StreamAborted):
    """The peer will not finish what it was sending (RESET_STREAM)."""

    def __init__(self, *, stream_id: int, code: int | None, http_code: int) -> None:
        super().__init__("was reset by the peer", stream_id=stream_id, code=code, http_code=http_code)


class StreamStopped(StreamAborted):
    """The peer does not read any further (STOP_SENDING)."""

    def __init__(self, *, stream_id: int, code: int | None, http_code: int) -> None:
        super().__init__("was stopped by the peer", stream_id=stream_id, code=code, http_code=http_code)

"""Configuration of clients and servers: what WebTransport itself decides, and the way to everything below it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quicstack.config import Configuration
from quicstack.errors import ConfigurationError
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust
from webtransport.dialects import DIALECTS, Dialect, FlowLimits, dialect_named
from webtransport.session_limits import SessionLimits

__all__ = ["ClientConfig", "ServerConfig"]

PathLike = str | os.PathLike[str]

ALPN = ("h3",)
SESSION_WINDOW = FlowLimits(max_data=16 << 20, max_streams_bidi=128, max_streams_uni=128)
"""What a peer may have outstanding in a session, where flow control of sessions is agreed on (draft-16 §5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonConfig:
    """What both roles have. Times are seconds, sizes bytes."""

    dialects: tuple[Dialect, ...] = DIALECTS
    """Drafts to offer, newest first."""
    require_reset_stream_at: bool = True
    """Speak drafts from -13 on only with peers whose QUIC takes RESET_STREAM_AT, as these drafts demand. False for
    peers that are not that far: then a reset waits until the beginning of its stream is acknowledged."""
    max_sessions: int = 64
    """Sessions of one connection at a time."""
    initial_limits: FlowLimits = SESSION_WINDOW
    """What SETTINGS grant to each session in advance. Where that is less than ``session_window``, capsules follow."""
    session_window: FlowLimits = SESSION_WINDOW
    session_limits: SessionLimits = field(default_factory=SessionLimits)
    shutdown_timeout: float = 1.0
    """How long peers may take to answer the end of their sessions before the connection is closed."""
    quic: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``quicstack.Configuration`` to set."""

    def __post_init__(self) -> None:
        if not self.dialects:
            raise ConfigurationError("dialects is empty, so there is nothing to speak")
        if self.max_sessions < 1:
            raise ConfigurationError(f"max_sessions is {self.max_sessions}, expected 1 or more")

    def _configuration(self, **fields: Any) -> Configuration:
        try:
            return Configuration(alpn_protocols=ALPN, **{**fields, **self.quic})
        except TypeError as error:
            raise ConfigurationError(f"quic: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(CommonConfig):
    """What a server needs. Use :meth:`create`."""

    certificates: CertificateStore
    """Replace the certificate while serving with ``certificates.replace``."""
    allowed_origins: frozenset[str] | None = None
    """Web origins whose pages may open sessions; None: all of them. Others are answered with 403 (draft-16 §3.2)."""

    @classmethod
    def create(
        cls,
        certfile: PathLike,
        keyfile: PathLike,
        *,
        password: bytes | None = None,
        allowed_origins: Iterable[str] | None = None,
        dialects: Iterable[Dialect | str] = DIALECTS,
        **options: Any,
    ) -> ServerConfig:
        """Load a certificate chain and its key, in PEM. ``options`` are fields of this class."""
        return cls(
            certificates=CertificateStore(CertificateKey.load(os.fspath(certfile), os.fspath(keyfile), password)),
            allowed_origins=None if allowed_origins is None else frozenset(allowed_origins),
            dialects=_rows(dialects),
            **options,
        )

    def configuration(self) -> Configuration:
        """For the transport."""
        return self._configuration(certificates=self.certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig(CommonConfig):
    """What a client may be told. The default believes the authorities that the system believes."""

    trust: Trust = field(default_factory=Trust.system)
    connect_timeout: float = 10.0
    """For a session to come about: name, handshake, SETTINGS and response."""
    keep_alive: float | None = 10.0
    """While a session is open, have the server acknowledge something this often, so that silence is not taken for the
    end (RFC 9000 §10.1.2). None: let a silent connection time out."""
    pooling: bool = False
    """Let sessions with the same server share a connection, where the dialect allows it."""

    @classmethod
    def create(
        cls,
        *,
        verify_mode: ssl.VerifyMode = ssl.CERT_REQUIRED,
        ca_certs: PathLike | Iterable[PathLike] | None = None,
        server_certificate_hashes: Iterable[bytes] | None = None,
        dialects: Iterable[Dialect | str] = DIALECTS,
        **options: Any,
    ) -> ClientConfig:
        """Verification is on unless ``verify_mode`` is ``ssl.CERT_NONE``.

        ``ca_certs`` names PEM files to believe instead of the system's authorities. ``server_certificate_hashes`` are
        SHA-256 hashes of certificates to believe alone, under the rules that browsers have for them.
        """
        if ca_certs is not None and server_certificate_hashes is not None:
            raise ConfigurationError("give ca_certs or server_certificate_hashes, not both")
        if verify_mode == ssl.CERT_NONE:
            if ca_certs is not None or server_certificate_hashes is not None:
                raise ConfigurationError("verify_mode is CERT_NONE, so nothing would be checked against what is given")
            trust = Trust.insecure()
        elif server_certificate_hashes is not None:
            trust = Trust.hashes(list(server_certificate_hashes))
        elif ca_certs is not None:
            files = [ca_certs] if isinstance(ca_certs, (str, os.PathLike)) else list(ca_certs)
            trust = Trust.roots([os.fspath(file) for file in files])
        else:
            trust = Trust.system()
        return cls(trust=trust, dialects=_rows(dialects), **options)

    def configuration(self, server_name: str) -> Configuration:
        """For the transport, towards one server."""
        return self._configuration(trust=self.trust, server_name=server_name)


def _rows(dialects: Iterable[Dialect | str]) -> tuple[Dialect, ...]:
    """Rows by themselves or by their names, in the order of preference whatever order they are given in."""
    try:
        wanted = {dialect_named(d) if isinstance(d, str) else d for d in dialects}
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return tuple(row for row in DIALECTS if row in wanted)

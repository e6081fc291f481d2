"""What a client remembers of a connection, to resume it later (RFC 8446 §2.2, §4.6.1), and when it may.

A resumed handshake shows no certificate: it is as good as the one that made the ticket. So a session keeps the chain
that the server showed, and that chain is checked again, with the trust and the name of the new connection, at the time
of the new connection. Whoever is not believed any more is not resumed with.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from quicstack.errors import CertificateError, TransportError
from quicstack.tls.certificate import CertificateKey, parse_certificate
from quicstack.tls.presentation import Reader, number, vector
from quicstack.tls.settings import TlsSettings

__all__ = ["MAX_LIFETIME", "Session", "client_identity", "usable_session"]

MAX_LIFETIME = 604_800
"""RFC 8446 §4.6.1: seconds that a ticket is kept at most, whatever its server says."""
FORMAT = b"quicstack session 1\n"


@dataclass(frozen=True, slots=True)
class Session:
    """One ticket, what it was made under, and (``context``) what the transport has to remember with it."""

    cipher_suite: int
    psk: bytes
    ticket: bytes
    age_add: int
    lifetime: int
    received_at: float
    early_data: bool
    alpn_protocol: str
    server_name: str
    client_identity: bytes
    """What we had to show to the server then: it may know us by that."""
    chain: tuple[bytes, ...]
    """The server's certificates, leaf first."""
    context: bytes = b""

    def obfuscated_age(self, now: float) -> int:
        """RFC 8446 §4.2.11: milliseconds, hidden from those who watch two connections."""
        return (int((now - self.received_at) * 1000) + self.age_add) % (1 << 32)

    def certificates(self) -> tuple[x509.Certificate, ...]:
        return tuple(map(parse_certificate, self.chain))

    def write(self) -> bytes:
        return b"".join(
            (
                FORMAT,
                number(self.cipher_suite, 2),
                vector(1, self.psk),
                vector(2, self.ticket),
                number(self.age_add, 4),
                number(self.lifetime, 4),
                number(int(self.received_at * 1000), 8),
                number(self.early_data, 1),
                vector(1, self.alpn_protocol.encode()),
                vector(2, self.server_name.encode()),
                vector(1, self.client_identity),
                vector(3, b"".join(vector(3, certificate) for certificate in self.chain)),
                vector(2, self.context),
            )
        )

    @classmethod
    def read(cls, data: bytes) -> Session:
        """Raises TransportError or ValueError for anything else than what :meth:`write` wrote."""
        reader = Reader(data, "the session")
        if reader.take(len(FORMAT)) != FORMAT:
            raise reader.error("is of another format")
        session = cls(
            cipher_suite=reader.number(2),
            psk=reader.vector(1),
            ticket=reader.vector(2, 1),
            age_add=reader.number(4),
            lifetime=reader.number(4),
            received_at=reader.number(8) / 1000,
            early_data=bool(reader.number(1)),
            alpn_protocol=reader.vector(1).decode(),
            server_name=reader.vector(2).decode(),
            client_identity=reader.vector(1),
            chain=tuple(item.vector(3, 1) for item in reader.items(3)),
            context=reader.vector(2),
        )
        reader.finish()
        return session


def client_identity(certificate: CertificateKey | None) -> bytes:
    """A digest of what a client shows; empty for nothing."""
    return b"" if certificate is None else sha256(b"".join(certificate.chain)).digest()


def chain_of(certificates: tuple[x509.Certificate, ...]) -> tuple[bytes, ...]:
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def usable_session(data: bytes, settings: TlsSettings, now: float) -> Session | None:
    """The session in ``data`` if a handshake with these settings may offer it now.

    It has to be young enough (§4.6.1), of an application protocol and a cipher suite that are offered anyway, and for
    the same name; we must show the same certificate as then, and would still believe the server's.
    """
    try:
        session = Session.read(data)
        age = now - session.received_at
        if (
            not 0 <= age < min(session.lifetime, MAX_LIFETIME)
            or session.cipher_suite not in settings.cipher_suites
            or session.alpn_protocol not in settings.alpn_protocols
            or session.server_name != (settings.server_name or "")
            or session.client_identity != client_identity(settings.client_certificate)
            or not session.chain
        ):
            return None
        settings.trust.verify(session.certificates(), settings.server_name, now)
    except (TransportError, CertificateError, ValueError):
        return None
    return session

"""Certificate and CertificateVerify (RFC 8446 §4.4.2, §4.4.3), which say the same in both directions.

``whose`` is ``server's`` or ``client's``: who is being authenticated, for messages.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.compression import decompress
from quicstack.tls.extensions import check_extensions
from quicstack.tls.handshake import MAX_MESSAGE, Message
from quicstack.tls.messages import Certificate, CertificateVerify, HandshakeType
from quicstack.tls.signatures import CERTIFICATE_VERIFY_SCHEMES, scheme_name, schemes_of, verify

__all__ = ["Chain", "certificate_types", "check_certificate_verify", "read_certificate"]

Chain: TypeAlias = tuple[x509.Certificate, ...]
"""What a Certificate message says: the chain, leaf first; empty if a client has none to show."""


def certificate_types(compression: Sequence[int]) -> tuple[int, ...]:
    """The messages that can carry a chain, when we offered these compression algorithms (RFC 8879 §4)."""
    return (HandshakeType.CERTIFICATE, HandshakeType.COMPRESSED_CERTIFICATE)[: 2 if compression else 1]


def read_certificate(message: Message, whose: str, *, compression: Sequence[int], offered: Container[int]) -> Chain:
    """The chain in a Certificate or CompressedCertificate. ``offered`` are the extensions that we asked for."""
    body = message.body
    if message.type == HandshakeType.COMPRESSED_CERTIFICATE:
        body = decompress(body, compression, MAX_MESSAGE - 4)
    certificate = Certificate.read(body)
    if certificate.context:
        raise tls_error(Alert.ILLEGAL_PARAMETER, f"the {whose} Certificate has a context, expected an empty one")
    for entry in certificate.entries:
        check_extensions("CT", entry.extensions, offered)
    return tuple(_load_certificate(entry.data, whose) for entry in certificate.entries)


def _load_certificate(data: bytes, whose: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise tls_error(
            Alert.BAD_CERTIFICATE, f"the {whose} Certificate has an entry that is not X.509: {error}"
        ) from None


def check_certificate_verify(
    body: bytes, whose: str, *, leaf: x509.Certificate, schemes: Sequence[int], content: bytes
) -> None:
    """``content`` is what must be signed, ``schemes`` our signature_algorithms."""
    verification = CertificateVerify.read(body)
    try:
        public_key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise tls_error(
            Alert.UNSUPPORTED_CERTIFICATE, f"the key of the {whose} certificate cannot be used: {error}"
        ) from None
    offered = [scheme for scheme in schemes if scheme in CERTIFICATE_VERIFY_SCHEMES]
    fitting = [scheme for scheme in schemes_of(public_key, leaf.public_key_algorithm_oid) if scheme in offered]
    if verification.scheme not in fitting:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"CertificateVerify is signed with {scheme_name(verification.scheme)}, expected one of "
            f"{', '.join(map(scheme_name, fitting)) or 'none'}, which we offered and which fit the certificate",
        )
    if not verify(public_key, verification.scheme, verification.signature, content):
        raise tls_error(
            Alert.DECRYPT_ERROR,
            f"CertificateVerify is not a signature of this handshake by the key of the {whose} certificate",
        )

"""CertificateRequest, Certificate and CertificateVerify (RFC 8446 §4.3.2, §4.4.2, §4.4.3).

A client is asked in the same words as a server, and both answer in the same way.

``whose`` is ``server's`` or ``client's``: who is being authenticated, for messages.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.certificate import CertificateKey, parse_certificate
from quicstack.tls.compression import compress, decompress
from quicstack.tls.extensions import (
    ExtensionType,
    check_extensions,
    read_code_points,
    read_compression_algorithms,
    required,
    write_code_points,
    write_compression_algorithms,
)
from quicstack.tls.handshake import MAX_MESSAGE, Message
from quicstack.tls.messages import (
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    Extensions,
    HandshakeType,
)
from quicstack.tls.signatures import CERTIFICATE_VERIFY_SCHEMES, scheme_name, schemes_of, sign, signed_content, verify

__all__ = [
    "Chain",
    "Demand",
    "certificate_types",
    "check_certificate_verify",
    "read_certificate",
    "read_certificate_request",
    "write_certificate",
    "write_certificate_request",
    "write_certificate_verify",
]

Chain: TypeAlias = tuple[x509.Certificate, ...]
"""What a Certificate message says: the chain, leaf first; empty if a client has none to show."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a CertificateRequest says about the certificate that it asks for."""

    signature_schemes: tuple[int, ...]
    certificate_compression: tuple[int, ...]


def read_certificate_request(body: bytes) -> Demand:
    """RFC 8446 §4.3.2. Of what it may ask for, the authorities are not looked at: a client here has one certificate."""
    request = CertificateRequest.read(body)
    if request.context:
        raise tls_error(Alert.ILLEGAL_PARAMETER, "CertificateRequest has a context, expected an empty one")
    check_extensions("CR", request.extensions)
    schemes = required("CR", request.extensions, ExtensionType.SIGNATURE_ALGORITHMS)
    compression = request.extensions.get(ExtensionType.COMPRESS_CERTIFICATE)
    return Demand(
        read_code_points(schemes, ExtensionType.SIGNATURE_ALGORITHMS),
        () if compression is None else read_compression_algorithms(compression),
    )


def write_certificate_request(schemes: Sequence[int], compression: Sequence[int]) -> bytes:
    extensions: Extensions = {ExtensionType.SIGNATURE_ALGORITHMS: write_code_points(schemes)}
    if compression:
        extensions[ExtensionType.COMPRESS_CERTIFICATE] = write_compression_algorithms(compression)
    return CertificateRequest(b"", extensions).write()


def write_certificate(chain: Sequence[bytes], ours: Sequence[int], peers: Sequence[int]) -> bytes:
    """A Certificate message with ``chain`` (DER), compressed by an algorithm of ``ours`` that is in ``peers`` too."""
    return _written(tuple(chain), tuple(ours), tuple(peers))


@lru_cache(maxsize=64)
def _written(chain: tuple[bytes, ...], ours: tuple[int, ...], peers: tuple[int, ...]) -> bytes:
    """A server says the same each time (12 us); after a renewal it is another chain."""
    return compress(Certificate(tuple(map(CertificateEntry, chain))).write(), ours, peers)


def write_certificate_verify(
    certificate_key: CertificateKey, scheme: int, context: bytes, transcript_hash: bytes
) -> bytes:
    """The proof that we hold the key, over all messages up to our Certificate."""
    signature = sign(certificate_key.private_key, scheme, signed_content(context, transcript_hash))
    return CertificateVerify(scheme, signature).write()


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
        return parse_certificate(data)
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

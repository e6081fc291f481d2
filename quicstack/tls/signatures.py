"""Signature schemes (RFC 8446 §4.2.3): what a key can sign with, and what we accept.

CertificateVerify takes only schemes of TLS 1.3: ECDSA bound to its curve, RSA-PSS, Ed25519. The RSASSA-PKCS1-v1_5
schemes are offered because certificates are signed with them; RFC 8446 §4.2.3 bans them from CertificateVerify.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import PublicKeyAlgorithmOID

__all__ = [
    "CERTIFICATE_VERIFY_SCHEMES",
    "CLIENT_CONTEXT",
    "OFFERED_SCHEMES",
    "SERVER_CONTEXT",
    "PrivateKey",
    "SignatureScheme",
    "scheme_name",
    "schemes_of",
    "sign",
    "signed_content",
    "verify",
]

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """A code point for CertificateVerify. ``key`` is ``rsa``, ``rsa_pss``, ``ed25519`` or the name of a curve."""

    value: int
    name: str
    key: str
    hash: hashes.HashAlgorithm | None


CERTIFICATE_VERIFY_SCHEMES: dict[int, SignatureScheme] = {
    scheme.value: scheme
    for scheme in (
        SignatureScheme(0x0403, "ecdsa_secp256r1_sha256", "secp256r1", hashes.SHA256()),
        SignatureScheme(0x0503, "ecdsa_secp384r1_sha384", "secp384r1", hashes.SHA384()),
        SignatureScheme(0x0807, "ed25519", "ed25519", None),
        SignatureScheme(0x0804, "rsa_pss_rsae_sha256", "rsa", hashes.SHA256()),
        SignatureScheme(0x0805, "rsa_pss_rsae_sha384", "rsa", hashes.SHA384()),
        SignatureScheme(0x0806, "rsa_pss_rsae_sha512", "rsa", hashes.SHA512()),
        SignatureScheme(0x0809, "rsa_pss_pss_sha256", "rsa_pss", hashes.SHA256()),
        SignatureScheme(0x080A, "rsa_pss_pss_sha384", "rsa_pss", hashes.SHA384()),
        SignatureScheme(0x080B, "rsa_pss_pss_sha512", "rsa_pss", hashes.SHA512()),
    )
}
"""In our order of preference."""

RSA_PKCS1_SCHEMES = {0x0401: "rsa_pkcs1_sha256", 0x0501: "rsa_pkcs1_sha384", 0x0601: "rsa_pkcs1_sha512"}

CLIENT_CONTEXT = b"TLS 1.3, client CertificateVerify"
SERVER_CONTEXT = b"TLS 1.3, server CertificateVerify"

OFFERED_SCHEMES: tuple[int, ...] = (*CERTIFICATE_VERIFY_SCHEMES, *RSA_PKCS1_SCHEMES)
"""Our ``signature_algorithms``; without ``signature_algorithms_cert`` it speaks for certificates too."""


def scheme_name(value: int) -> str:
    scheme = CERTIFICATE_VERIFY_SCHEMES.get(value)
    return scheme.name if scheme else RSA_PKCS1_SCHEMES.get(value, f"{value:#06x}")


def _key_kind(key: object, key_oid: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa_pss" if key_oid == PublicKeyAlgorithmOID.RSASSA_PSS else "rsa"
    return type(key).__name__


def schemes_of(public_key: object, key_oid: object) -> tuple[int, ...]:
    """The schemes that fit a certificate's key, best first. ``key_oid`` is its ``public_key_algorithm_oid``."""
    kind = _key_kind(public_key, key_oid)
    fits = [scheme for scheme in CERTIFICATE_VERIFY_SCHEMES.values() if scheme.key == kind]
    if isinstance(public_key, rsa.RSAPublicKey):
        # PSS with a salt as long as the hash needs this many bytes of modulus (RFC 8017 §9.1.1).
        room = (public_key.key_size + 6) // 8 - 2
        fits = [scheme for scheme in fits if scheme.hash and 2 * scheme.hash.digest_size <= room]
    return tuple(scheme.value for scheme in fits)


def _pss(hash: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(hash), salt_length=hash.digest_size)


def _ecdsa(hash: hashes.HashAlgorithm) -> ec.ECDSA:
    """ECDSA by RFC 6979 where OpenSSL can, so that a seeded simulation signs the same bytes each time."""
    try:
        return ec.ECDSA(hash, deterministic_signing=True)
    except UnsupportedAlgorithm:
        return ec.ECDSA(hash)


def sign(private_key: PrivateKey, scheme: int, content: bytes) -> bytes:
    hash = CERTIFICATE_VERIFY_SCHEMES[scheme].hash
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return private_key.sign(content)
    assert hash is not None, "only Ed25519 brings its own hash"
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        return private_key.sign(content, _ecdsa(hash))
    return private_key.sign(content, _pss(hash), hash)


def verify(public_key: object, scheme: int, signature: bytes, content: bytes) -> bool:
    """True when ``signature`` is right. The caller has checked that the scheme fits the key."""
    hash = CERTIFICATE_VERIFY_SCHEMES[scheme].hash
    try:
        if isinstance(public_key, ed25519.Ed25519PublicKey):
            public_key.verify(signature, content)
        elif isinstance(public_key, ec.EllipticCurvePublicKey) and hash is not None:
            public_key.verify(signature, content, ec.ECDSA(hash))
        elif isinstance(public_key, rsa.RSAPublicKey) and hash is not None:
            public_key.verify(signature, content, _pss(hash), hash)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def signed_content(context: bytes, transcript_hash: bytes) -> bytes:
    """What CertificateVerify signs (RFC 8446 §4.4.3); the padding keeps it apart from older TLS signatures."""
    return b" " * 64 + context + b"\x00" + transcript_hash

"""What a server shows: its certificate chain with the private key, and the store that can swap them while serving.

The scheme for CertificateVerify is chosen here as well (RFC 8446 §4.4.2.2, §4.4.3), because it depends on the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from quicstack.errors import ConfigurationError
from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.signatures import PrivateKey, scheme_name, schemes_of

__all__ = ["CertificateKey", "CertificateStore", "load_certificates"]

PEM_MARK = b"-----BEGIN "


def load_certificates(path: str | PathLike[str]) -> list[x509.Certificate]:
    """All certificates of a PEM file, or the one of a DER file. Raises :class:`ConfigurationError`."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the certificate file {path}: {error}") from None
    try:
        if PEM_MARK in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        raise ConfigurationError(f"{path} holds no certificate in PEM or DER form: {error}") from None


def _load_private_key(path: str | PathLike[str], password: str | bytes | None) -> PrivateKey:
    secret = password.encode() if isinstance(password, str) else password
    try:
        content = Path(path).read_bytes()
        load = load_pem_private_key if PEM_MARK in content else load_der_private_key
        key = load(content, secret)
    except OSError as error:
        raise ConfigurationError(f"cannot read the private key file {path}: {error}") from None
    except TypeError:
        wrong = "is encrypted: give its password" if secret is None else "is not encrypted: give no password"
        raise ConfigurationError(f"the private key in {path} {wrong}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} holds no private key that can be read: {error}") from None
    if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        return key
    raise ConfigurationError(f"{path} holds a key of type {type(key).__name__}; TLS needs ECDSA, Ed25519 or RSA")


@dataclass(frozen=True, slots=True)
class CertificateKey:
    """A chain, leaf first, and the private key of the leaf."""

    certificates: tuple[x509.Certificate, ...]
    private_key: PrivateKey
    schemes: tuple[int, ...] = field(init=False, repr=False)
    chain: tuple[bytes, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.certificates:
            raise ConfigurationError("a CertificateKey needs at least the leaf certificate")
        leaf = self.certificates[0]
        public_key = leaf.public_key()
        if _spki(public_key) != _spki(self.private_key.public_key()):
            raise ConfigurationError(
                f"the private key does not belong to the certificate of {leaf.subject.rfc4514_string()!r}; "
                "the leaf must come first in the file"
            )
        schemes = schemes_of(public_key, leaf.public_key_algorithm_oid)
        if not schemes:
            raise ConfigurationError(
                "TLS 1.3 cannot sign with this key: use ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits"
            )
        object.__setattr__(self, "schemes", schemes)
        object.__setattr__(self, "chain", tuple(c.public_bytes(Encoding.DER) for c in self.certificates))

    @classmethod
    def load(
        cls,
        certfile: str | PathLike[str],
        keyfile: str | PathLike[str] | None = None,
        password: str | bytes | None = None,
    ) -> CertificateKey:
        """From files, PEM or DER. Without ``keyfile`` the key is expected in ``certfile``, as ``ssl`` does it."""
        certificates = load_certificates(certfile)
        return cls(tuple(certificates), _load_private_key(keyfile or certfile, password))


def _spki(public_key: PublicKeyTypes) -> bytes:
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class CertificateStore:
    """The certificate a server answers with. :meth:`replace` takes effect for handshakes that start after it."""

    __slots__ = ("_default",)

    def __init__(self, default: CertificateKey) -> None:
        self._default = default

    def replace(self, certificate_key: CertificateKey) -> None:
        """Swap certificate and key, as after a renewal; running connections are not touched."""
        self._default = certificate_key

    def select(self, server_name: str | None, signature_schemes: Sequence[int]) -> tuple[CertificateKey, int]:
        """Certificate and CertificateVerify scheme for one ClientHello. ``server_name`` is its SNI, if it had one."""
        chosen = self._default
        for scheme in chosen.schemes:
            if scheme in signature_schemes:
                return chosen, scheme
        raise tls_error(
            Alert.HANDSHAKE_FAILURE,
            f"ClientHello for {server_name!r} offers no signature scheme that our certificate's key can use: "
            f"expected one of {', '.join(map(scheme_name, chosen.schemes))}",
        )

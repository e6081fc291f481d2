"""What a server shows: certificate chains with private keys, and the store that picks one and can swap them.

The scheme for CertificateVerify is chosen here as well (RFC 8446 §4.4.2.2, §4.4.3), because it depends on the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TypeAlias

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
from quicstack.tls.server_name import ascii_name
from quicstack.tls.signatures import PrivateKey, scheme_name, schemes_of

__all__ = ["CertificateKey", "CertificateKeys", "CertificateStore", "load_certificates", "parse_certificate"]

PEM_MARK = b"-----BEGIN "

parse_certificate = lru_cache(maxsize=64)(x509.load_der_x509_certificate)
"""Of DER bytes. The same few servers are met again and again, and parsing a certificate and its key takes 27 us; and
one object serves all connections, which would keep one each. What is believed is not remembered: every handshake checks
the chain and the proof anew."""


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


CertificateKeys: TypeAlias = CertificateKey | Sequence[CertificateKey]
"""One, or several with keys of different kinds, best first."""


class CertificateStore:
    """The certificates a server answers with. :meth:`replace` takes effect for handshakes that start after it.

    The name in the ClientHello (SNI, RFC 6066 §3) decides first: ``select_by_name`` is asked with it (in small letters;
    None if the client gave none); where that answers None, ``by_name`` is looked up, whose names may start with ``*.``
    to stand for exactly one label; who asks for any other name gets ``default``. Of several certificates for one name
    the first is shown that has a key whose signatures the client can check (RFC 8446 §4.4.2.2).
    """

    __slots__ = ("_by_name", "_default", "_select_by_name")

    def __init__(
        self,
        default: CertificateKeys,
        *,
        by_name: Mapping[str, CertificateKeys] | None = None,
        select_by_name: Callable[[str | None], CertificateKeys | None] | None = None,
    ) -> None:
        self._by_name: dict[str, tuple[CertificateKey, ...]] = {}
        self._select_by_name = select_by_name
        self.replace(default, by_name=by_name)

    def replace(self, default: CertificateKeys, *, by_name: Mapping[str, CertificateKeys] | None = None) -> None:
        """Swap certificates and keys, as after a renewal; running connections are not touched.

        Without ``by_name`` the certificates of single names stay as they are.
        """
        names = None if by_name is None else {_pattern(name): _several(keys) for name, keys in by_name.items()}
        self._default = _several(default)
        if names is not None:
            self._by_name = names

    def select(self, server_name: str | None, signature_schemes: Sequence[int]) -> tuple[CertificateKey, int]:
        """Certificate and CertificateVerify scheme for one ClientHello. ``server_name`` is its SNI, if it had one."""
        candidates = self._candidates(server_name)
        for candidate in candidates:
            for scheme in candidate.schemes:
                if scheme in signature_schemes:
                    return candidate, scheme
        usable = dict.fromkeys(scheme for candidate in candidates for scheme in candidate.schemes)
        raise tls_error(
            Alert.HANDSHAKE_FAILURE,
            f"ClientHello for {server_name!r} offers no signature scheme that our certificate's key can use: "
            f"expected one of {', '.join(map(scheme_name, usable))}",
        )

    def _candidates(self, server_name: str | None) -> tuple[CertificateKey, ...]:
        host = None if server_name is None else server_name.rstrip(".").lower()
        if self._select_by_name is not None:
            chosen = self._select_by_name(host)
            if chosen is not None:
                return _several(chosen)
        if host is None:
            return self._default
        _, _, parent = host.partition(".")
        return self._by_name.get(host) or self._by_name.get(f"*.{parent}") or self._default


def _several(keys: CertificateKeys) -> tuple[CertificateKey, ...]:
    several = (keys,) if isinstance(keys, CertificateKey) else tuple(keys)
    if not several:
        raise ConfigurationError("a server needs at least one CertificateKey for each name")
    return several


def _pattern(name: str) -> str:
    """A name of ``by_name`` as it is looked up; a wildcard is one whole label, the leftmost (RFC 6125 §6.4.3)."""
    wildcard, rest = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    if "*" in rest:
        raise ConfigurationError(f"by_name: {name!r} has a wildcard elsewhere than in *.a.example")
    return wildcard + ascii_name(rest)

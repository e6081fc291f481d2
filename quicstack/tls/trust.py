"""Whom one believes: the check of the peer's certificate (RFC 8446 §4.4.2.4, RFC 5280 §6, RFC 6125).

Four kinds of trust, each a class here, each made by a named constructor of :class:`Trust`:

- ``Trust.system()`` and ``Trust.roots(...)``: a path to a root, the name, the dates and the usage must be
  right. The path is built by ``cryptography.x509.verification`` under the policy of :func:`extension_policies`.
- ``Trust.hashes(...)``: the certificate is known in advance by its SHA-256 (W3C WebTransport).
- ``Trust.insecure()``: nothing is checked but that the server holds the key of the certificate that it shows.

A server that asks clients for certificates uses the same four, by way of :meth:`Trust.verify_client`: no name is
checked, because nobody knows beforehand who comes, and the usage must be clientAuth.

A refusal is a :class:`~quicstack.errors.CertificateError` that says which certificate, which check, and what to do.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os import PathLike
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from quicstack.errors import ConfigurationError
from quicstack.tls.alerts import Alert
from quicstack.tls.certificate import load_certificates
from quicstack.tls.certificate_path import CLIENT_AUTH, SERVER_AUTH, check_validity, printable, refusal, verify_path
from quicstack.tls.server_name import is_covered_by
from quicstack.tls.system_roots import system_roots

__all__ = ["CertificateSource", "Trust"]

CertificateSource: TypeAlias = x509.Certificate | str | PathLike[str]
Chain: TypeAlias = Sequence[x509.Certificate]

UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""The library reads most of a certificate only when asked, so any look at a field can end in one of these."""

MAX_NAMES_SHOWN = 10
MAX_HASHED_VALIDITY = timedelta(days=14)
"""W3C WebTransport, custom certificate requirements: the whole validity period, not what is left of it."""


class Trust(abc.ABC):
    """What makes the certificate of a server, or of a client, acceptable."""

    __slots__ = ()

    def verify(self, chain: Chain, server_name: str | None, wall_time: float) -> None:
        """Accept ``chain`` (leaf first, not empty) for ``server_name`` now, or raise :class:`CertificateError`."""
        try:
            self.check(chain, server_name, datetime.fromtimestamp(wall_time, UTC))
        except UNREADABLE as error:
            raise refusal(chain[0], "encoding", Alert.BAD_CERTIFICATE, f"cannot be read: {error}") from None

    @abc.abstractmethod
    def check(self, chain: Chain, server_name: str | None, now: datetime) -> None:
        """What :meth:`verify` asks of each kind of trust; may also let errors of reading a certificate pass."""

    def verify_client(self, chain: Chain, wall_time: float) -> None:
        """Accept ``chain`` (leaf first, not empty) of a client now, or raise :class:`CertificateError`."""
        try:
            self.check_client(chain, datetime.fromtimestamp(wall_time, UTC))
        except UNREADABLE as error:
            raise refusal(chain[0], "encoding", Alert.BAD_CERTIFICATE, f"cannot be read: {error}") from None

    @abc.abstractmethod
    def check_client(self, chain: Chain, now: datetime) -> None:
        """What :meth:`verify_client` asks of each kind of trust, as :meth:`check` is what :meth:`verify` asks."""

    @staticmethod
    def system() -> Trust:
        """The operating system's root certificates, read when the first certificate is checked."""
        return SystemTrust()

    @staticmethod
    def roots(sources: CertificateSource | Iterable[CertificateSource]) -> Trust:
        """Only these: certificates, or paths of PEM or DER files.

        A server certificate that is itself among them is accepted without a path, as ``ssl`` does it: this is how a
        self-signed certificate is trusted. Name, dates and usage are checked all the same.
        """
        if isinstance(sources, x509.Certificate | str | PathLike):
            sources = [sources]
        certificates: list[x509.Certificate] = []
        for source in sources:
            certificates += [source] if isinstance(source, x509.Certificate) else load_certificates(source)
        if not certificates:
            raise ConfigurationError("Trust.roots needs at least one certificate")
        return RootTrust(tuple(certificates))

    @staticmethod
    def hashes(digests: Iterable[bytes]) -> Trust:
        """Certificates with one of these SHA-256 digests of their DER form (``server_certificate_hashes``)."""
        known = frozenset(bytes(digest) for digest in digests)
        if not known or any(len(digest) != 32 for digest in known):
            raise ConfigurationError("Trust.hashes needs SHA-256 digests of 32 bytes each")
        return HashTrust(known)

    @staticmethod
    def insecure() -> Trust:
        """Accept every certificate. Whoever sits on the path can read and change everything: for tests only."""
        return NoTrust()


@dataclass(frozen=True, slots=True)
class RootTrust(Trust):
    """See :meth:`Trust.roots`."""

    certificates: tuple[x509.Certificate, ...]

    def check(self, chain: Chain, server_name: str | None, now: datetime) -> None:
        _check_leaf(chain[0], server_name, now)
        if chain[0] not in self.certificates:  # Certificate equality is equality of the DER bytes.
            assert server_name is not None
            verify_path(chain, self.certificates, server_name, now)

    def check_client(self, chain: Chain, now: datetime) -> None:
        check_validity(chain[0], now)
        _check_usage(chain[0], is_client=True)
        if chain[0] not in self.certificates:
            verify_path(chain, self.certificates, None, now)


@dataclass(frozen=True, slots=True)
class SystemTrust(Trust):
    """See :meth:`Trust.system`."""

    def check(self, chain: Chain, server_name: str | None, now: datetime) -> None:
        RootTrust(system_roots()).check(chain, server_name, now)

    def check_client(self, chain: Chain, now: datetime) -> None:
        RootTrust(system_roots()).check_client(chain, now)


@dataclass(frozen=True, slots=True)
class HashTrust(Trust):
    """See :meth:`Trust.hashes`. The name is not checked: the digest already says which certificate is meant.

    The rules of the W3C about life and key are for servers; of a client the digest and the dates must be right.
    """

    digests: frozenset[bytes]

    def check(self, chain: Chain, server_name: str | None, now: datetime) -> None:
        leaf = chain[0]
        self.check_client(chain, now)
        period = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        if period > MAX_HASHED_VALIDITY:
            raise refusal(
                leaf,
                "validity period",
                Alert.BAD_CERTIFICATE,
                f"is valid for {period.days} days, a certificate accepted by hash for at most 14: "
                "issue one with a shorter life",
            )
        if isinstance(leaf.public_key(), rsa.RSAPublicKey):
            raise refusal(
                leaf,
                "key type",
                Alert.UNSUPPORTED_CERTIFICATE,
                "has an RSA key, which a certificate accepted by hash may not have: use ECDSA on P-256",
            )

    def check_client(self, chain: Chain, now: datetime) -> None:
        leaf = chain[0]
        digest = hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest()
        if digest not in self.digests:
            raise refusal(
                leaf,
                "hash",
                Alert.BAD_CERTIFICATE,
                f"has the SHA-256 {digest.hex()}, which is not among the expected hashes; compute them again "
                "if that certificate was renewed",
            )
        check_validity(leaf, now)


@dataclass(frozen=True, slots=True)
class NoTrust(Trust):
    """See :meth:`Trust.insecure`."""

    def check(self, chain: Chain, server_name: str | None, now: datetime) -> None:
        return

    def check_client(self, chain: Chain, now: datetime) -> None:
        return


def _check_leaf(leaf: x509.Certificate, server_name: str | None, now: datetime) -> None:
    check_validity(leaf, now)
    _check_usage(leaf)
    _check_name(leaf, server_name)


def _check_usage(leaf: x509.Certificate, *, is_client: bool = False) -> None:
    """RFC 5280 §4.2.1.3, §4.2.1.12: usages bind where they are written down; both sides of TLS 1.3 sign, no more."""
    purpose, name, whose = (CLIENT_AUTH, "clientAuth", "client") if is_client else (SERVER_AUTH, "serverAuth", "server")
    problem = ""
    for extension in leaf.extensions:
        usage = extension.value
        if isinstance(usage, x509.ExtendedKeyUsage):
            if purpose not in usage and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usage:
                problem = f"extendedKeyUsage lacks {name}"
        elif isinstance(usage, x509.KeyUsage) and not usage.digital_signature:
            problem = "keyUsage lacks digitalSignature"
    if problem:
        advice = f"is not one for a TLS {whose}: {problem}; issue it with that usage"
        raise refusal(leaf, "usage", Alert.UNSUPPORTED_CERTIFICATE, advice)


def _check_name(leaf: x509.Certificate, server_name: str | None) -> None:
    if server_name is None:
        problem = "cannot be matched with a name, because none is known: set server_name"
        raise refusal(leaf, "name", Alert.BAD_CERTIFICATE, problem)
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = "it has no subjectAltName (a common name does not count)"
    else:
        if is_covered_by(san, server_name):
            return
        shown = [printable(str(name.value)) for name in list(san)[:MAX_NAMES_SHOWN]]
        more = f" and {len(list(san)) - len(shown)} more" if len(list(san)) > len(shown) else ""
        names = f"it has {', '.join(shown)}{more}"
    advice = "connect by a name that it covers, or issue one that covers this name"
    raise refusal(leaf, "name", Alert.BAD_CERTIFICATE, f"is not for {server_name!r}: {names}; {advice}")

"""Self-signed certificates for development, of the kind that browsers take by their hash.

W3C WebTransport lets a page name the SHA-256 of a certificate that no authority has signed, if its key is ECDSA P-256
and it is valid for at most two weeks. Such a certificate also serves any client that is given it as its root.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quicstack.errors import ConfigurationError

__all__ = ["CertificatePair", "certificate_hash", "generate_self_signed_cert"]

MAX_VALIDITY_DAYS = 14
DEFAULT_VALIDITY_DAYS = 13
RENEW_BEFORE = datetime.timedelta(days=2)
"""A kept pair has at least this long to go."""
CLOCK_SKEW = datetime.timedelta(hours=1)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class CertificatePair(NamedTuple):
    """Where the certificate and its key are."""

    certfile: str
    keyfile: str


def generate_self_signed_cert(
    hostname: str = "localhost",
    output_dir: str | os.PathLike[str] = ".",
    *,
    days: int = DEFAULT_VALIDITY_DAYS,
) -> CertificatePair:
    """Make ``HOSTNAME.crt`` and ``HOSTNAME.key`` in ``output_dir``, unless a pair there is still good.

    The certificate names ``hostname``, and localhost in its three spellings. The key is readable by its owner alone.
    """
    _check_hostname(hostname)
    if not 1 <= days <= MAX_VALIDITY_DAYS:
        raise ConfigurationError(f"browsers take such a certificate for 1 to {MAX_VALIDITY_DAYS} days, not {days}")
    folder = Path(output_dir)
    stem = hostname.replace(":", "_").replace("*", "_")
    pair = CertificatePair(str(folder / f"{stem}.crt"), str(folder / f"{stem}.key"))
    names = _names(hostname)
    if not _is_still_good(pair, names):
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = _make(hostname, names, datetime.timedelta(days=days))
        _write(pair.keyfile, key, 0o600)
        _write(pair.certfile, certificate, 0o644)
    return pair


def certificate_hash(certfile: str | os.PathLike[str]) -> bytes:
    """SHA-256 of the first certificate in a PEM file: the ``value`` that ``serverCertificateHashes`` wants."""
    certificate = x509.load_pem_x509_certificate(Path(certfile).read_bytes())
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def _check_hostname(hostname: str) -> None:
    if not hostname or hostname.startswith(".") or any(c in hostname for c in "/\\\0") or not hostname.isprintable():
        raise ConfigurationError(f"{hostname!r} is no host name: it becomes a file name, so it has no path in it")


def _names(hostname: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for name in dict.fromkeys((hostname, *LOCAL_NAMES)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            try:
                names.append(x509.DNSName(name.encode("idna").decode("ascii")))
            except UnicodeError:
                raise ConfigurationError(f"{name!r} is no host name") from None
    return names


def _is_still_good(pair: CertificatePair, names: list[x509.GeneralName]) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(Path(pair.certfile).read_bytes())
        key = serialization.load_pem_private_key(Path(pair.keyfile).read_bytes(), password=None)
        present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    now = datetime.datetime.now(datetime.UTC)
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (
        starts <= now
        and now + min(RENEW_BEFORE, (ends - starts) / 2) < ends
        and ends - starts <= datetime.timedelta(days=MAX_VALIDITY_DAYS)
        and all(name in present for name in names)
        and isinstance(key, ec.EllipticCurvePrivateKey)
        and key.public_key() == certificate.public_key()
    )


def _make(hostname: str, names: list[x509.GeneralName], validity: datetime.timedelta) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    starts = datetime.datetime.now(datetime.UTC).replace(microsecond=0) - CLOCK_SKEW
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(starts + validity)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _write(path: str, content: bytes, mode: int) -> None:
    """Put a file in place as a whole, with its mode from the first byte on."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".webtransport-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise

"""Certificates for a run: a leaf and its issuer, or a chain of nine for the case that counts their bytes."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

__all__ = ["CHAIN_LENGTH", "write_certificates"]

CHAIN_LENGTH: Final = 9
_PADDING: Final = 700
"""Bytes of names in each certificate of the long chain: nine of them fill more than 7500."""
_LIFE: Final = datetime.timedelta(days=10)


def write_certificates(folder: Path, length: int = 2) -> None:
    """``cert.pem`` with ``length`` certificates, leaf first and root last, its ``priv.key``, the root in ``ca.pem``."""
    folder.mkdir(parents=True, exist_ok=True)
    padding = _PADDING if length > 2 else 0
    chain: list[x509.Certificate] = []
    key = issuer_key = ec.generate_private_key(ec.SECP256R1())
    issuer = _name("interop root")
    for depth in range(length):
        is_leaf = depth == length - 1
        key = issuer_key if depth == 0 else ec.generate_private_key(ec.SECP256R1())
        subject = issuer if depth == 0 else _name("server" if is_leaf else f"interop {depth}")
        chain.insert(0, _certificate(subject, key, issuer, issuer_key, is_leaf=is_leaf, padding=padding))
        issuer, issuer_key = subject, key
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(b"".join(certificate.public_bytes(pem) for certificate in chain))
    (folder / "ca.pem").write_bytes(chain[-1].public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "priv.key").write_bytes(private)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_leaf: bool,
    padding: int,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [x509.DNSName("x" * 60 + ".test") for _ in range(padding // 65)]
    if is_leaf:
        names += [x509.DNSName(name) for name in ("localhost", "server", "server4", "server6", "server46")]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=not is_leaf, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, SHA256())

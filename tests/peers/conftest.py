"""Peers that are not ours: what must be installed for them, and a certificate that all of them can load."""

from __future__ import annotations

import datetime
import importlib.util
import ipaddress
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

INSTALL = {
    "aioquic": "pip install aioquic",
    "qh3": "pip install qh3",
    "curl_cffi": "pip install curl_cffi",
    "caddy": "apt-get install caddy",
    "gtlsclient": "apt-get install ngtcp2-client",
    "gtlsserver": "apt-get install ngtcp2-server",
    "tshark": "apt-get install tshark",
}


def missing(tool: str) -> str | None:
    """How to install a Python package or a program that is not here; None when it is."""
    if importlib.util.find_spec(tool) is not None or shutil.which(tool) is not None:
        return None
    return f"{tool} is not installed: {INSTALL.get(tool, tool)}"


@pytest.fixture(scope="session")
def require() -> Callable[[str], None]:
    """Skip the test when a peer is not installed. In CI a skip is a failure (tests/conftest.py)."""

    def check(tool: str) -> None:
        if reason := missing(tool):
            pytest.skip(reason)

    return check


class CertificateFiles(NamedTuple):
    """A self-signed certificate for localhost and 127.0.0.1, and its key."""

    certificate: Path
    key: Path


@pytest.fixture(scope="session")
def certificate_files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *addresses]), critical=False)
        .sign(key, SHA256())
    )
    files = CertificateFiles(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files

"""A client and a server that know each other: configurations to begin an experiment with.

Bytes on the wire shall follow from the seed alone, so the server signs with Ed25519, which draws no randomness, and
keys are agreed on with X25519, whose keys come from the environment.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quicstack.config import Configuration
from quicstack.simulator.simulation import VIRTUAL_EPOCH
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.groups import X25519
from quicstack.tls.trust import Trust

__all__ = ["configurations", "identity"]


@cache
def identity(name: str = "server.test") -> CertificateKey:
    """A self-signed certificate, always the same for a name, valid for ten years of virtual time. Not a secret."""
    key = Ed25519PrivateKey.from_private_bytes(sha256(b"quicstack simulator " + name.encode()).digest())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.fromtimestamp(VIRTUAL_EPOCH, UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(sha256(name.encode()).digest()[:8]) | 1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3653))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, None)
    )
    return CertificateKey((certificate,), key)


SETTINGS: dict[str, Any] = {"alpn_protocols": ("simulation",), "groups": (X25519,), "path_mtu_discovery": False}
"""Packets of one size unless an experiment is about their size: then what it measures has one cause less."""


def configurations(name: str = "server.test", **settings: Any) -> tuple[Configuration, Configuration]:
    """(client, server) that trust each other and agree on a protocol; ``settings`` are for both."""
    shown = identity(name)
    common = Configuration(**{**SETTINGS, **settings})
    client = replace(common, server_name=name, trust=Trust.roots(shown.certificates))
    return client, replace(common, certificates=CertificateStore(shown))

"""CertificateVerify: schemes, keys, and a signature made by somebody else."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from quicstack.tls.key_schedule import Transcript
from quicstack.tls.messages import Certificate, CertificateVerify, HandshakeType
from quicstack.tls.signatures import (
    CERTIFICATE_VERIFY_SCHEMES,
    OFFERED_SCHEMES,
    SERVER_CONTEXT,
    scheme_name,
    schemes_of,
    sign,
    signed_content,
    verify,
)

KINDS = {"p256": [0x0403], "p384": [0x0503], "ed25519": [0x0807], "rsa": [0x0804, 0x0805, 0x0806], "p521": []}


@pytest.mark.parametrize("kind", KINDS)
def test_schemes_of_keys(authority: Any, kind: str) -> None:
    certificate = authority.certificate(key=authority.key(kind))
    assert list(schemes_of(certificate.public_key(), certificate.public_key_algorithm_oid)) == KINDS[kind]


def test_a_small_rsa_key_has_no_room_for_a_long_hash() -> None:
    """RFC 8017 §9.1.1, as the 1024-bit key of RFC 8448 shows."""
    key = rsa.generate_private_key(65537, 1024)
    assert schemes_of(key.public_key(), None) == (0x0804, 0x0805)


@pytest.mark.parametrize(("kind", "scheme"), [(kind, scheme) for kind in KINDS for scheme in KINDS[kind]])
def test_sign_and_verify(authority: Any, kind: str, scheme: int) -> None:
    key = authority.key(kind)
    signature = sign(key, scheme, b"content")
    assert verify(key.public_key(), scheme, signature, b"content")
    assert not verify(key.public_key(), scheme, signature, b"other content")
    assert not verify(key.public_key(), scheme, signature[:-1], b"content")
    assert not verify(key.public_key(), scheme, b"", b"content")
    assert not verify(object(), scheme, signature, b"content")
    if kind in ("p256", "p384", "ed25519"):
        assert sign(key, scheme, b"content") == signature


def test_the_signature_of_rfc8448(trace: Any) -> None:
    messages = trace("simple_1rtt").messages
    transcript = Transcript()
    for message in messages:
        if message[0] == HandshakeType.CERTIFICATE:
            leaf = x509.load_der_x509_certificate(Certificate.read(message[4:]).entries[0].data)
        if message[0] == HandshakeType.CERTIFICATE_VERIFY:
            break
        transcript.add(message)
    verification = CertificateVerify.read(message[4:])
    transcript.choose_hash(CERTIFICATE_VERIFY_SCHEMES[0x0403].hash)  # type: ignore[arg-type]  # SHA-256
    content = signed_content(SERVER_CONTEXT, transcript.digest())
    assert verification.scheme in schemes_of(leaf.public_key(), leaf.public_key_algorithm_oid)
    assert verify(leaf.public_key(), verification.scheme, verification.signature, content)
    assert not verify(leaf.public_key(), verification.scheme, verification.signature, content + b"x")


def test_signed_content() -> None:
    """RFC 8446 §4.4.3 prints this very example, in hexadecimal."""
    start = bytes.fromhex("20" * 64 + "544c5320312e332c20736572766572204365727469666963617465566572696679" + "00")
    assert signed_content(SERVER_CONTEXT, b"\x01" * 32) == start + b"\x01" * 32


def test_names_and_bans() -> None:
    """RFC 8446 §4.2.3: PKCS#1 v1.5 is for certificates only."""
    assert scheme_name(0x0401) == "rsa_pkcs1_sha256"
    assert scheme_name(0x0A0A) == "0x0a0a"
    assert {0x0401, 0x0501, 0x0601} == set(OFFERED_SCHEMES) - set(CERTIFICATE_VERIFY_SCHEMES)

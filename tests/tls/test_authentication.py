"""Certificate and CertificateVerify by themselves; in a handshake, test_client and test_server send them."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from quicstack.errors import TransportError
from quicstack.tls.authentication import certificate_types, check_certificate_verify, read_certificate
from quicstack.tls.handshake import Message
from quicstack.tls.messages import Certificate, CertificateEntry, CertificateVerify, HandshakeType
from quicstack.tls.signatures import OFFERED_SCHEMES, sign


def message(certificate: Certificate) -> Message:
    data = certificate.write()
    return Message(data[0], data[4:], data)


def test_types() -> None:
    assert certificate_types(()) == (HandshakeType.CERTIFICATE,)
    assert certificate_types((1,)) == (HandshakeType.CERTIFICATE, HandshakeType.COMPRESSED_CERTIFICATE)


def test_read(authority: Any) -> None:
    pair, root = authority.server()
    entries = tuple(CertificateEntry(data) for data in (*pair.chain, root.public_bytes(Encoding.DER)))
    chain = read_certificate(message(Certificate(entries)), "client's", compression=(), offered=())
    assert chain == (*pair.certificates, root)
    assert read_certificate(message(Certificate(())), "client's", compression=(), offered=()) == ()


def test_messages_say_whose_certificate_it_is() -> None:
    for certificate in (Certificate((CertificateEntry(b"garbage"),)), Certificate((), b"context")):
        with pytest.raises(TransportError, match="the client's Certificate has"):
            read_certificate(message(certificate), "client's", compression=(), offered=())


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_certificate_verify(authority: Any, kind: str) -> None:
    pair, _ = authority.server(kind)
    scheme = pair.schemes[0]
    body = CertificateVerify(scheme, sign(pair.private_key, scheme, b"content")).write()[4:]

    def check(content: bytes, schemes: tuple[int, ...] = OFFERED_SCHEMES) -> None:
        leaf = pair.certificates[0]
        check_certificate_verify(body, "client's", leaf=leaf, schemes=schemes, content=content)

    check(b"content")
    with pytest.raises(TransportError, match="by the key of the client's certificate") as caught:
        check(b"other content")
    assert caught.value.code == 0x133
    with pytest.raises(TransportError, match="expected one of") as caught:
        check(b"content", tuple(other for other in OFFERED_SCHEMES if other != scheme))
    assert caught.value.code == 0x12F

"""CertificateRequest, Certificate and CertificateVerify by themselves, and clients that show a certificate.

Those of servers are in test_client and test_server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from quicstack.errors import CertificateError, TransportError
from quicstack.tls.authentication import (
    Demand,
    certificate_types,
    check_certificate_verify,
    read_certificate,
    read_certificate_request,
    write_certificate_request,
    write_certificate_verify,
)
from quicstack.tls.certificate import CertificateKey
from quicstack.tls.client import ClientHandshake
from quicstack.tls.epoch import Epoch
from quicstack.tls.handshake import Handshake, Message
from quicstack.tls.messages import (
    Certificate,
    CertificateEntry,
    CertificateVerify,
    Finished,
    HandshakeType,
    handshake_message,
)
from quicstack.tls.signatures import OFFERED_SCHEMES, SERVER_CONTEXT, sign
from quicstack.tls.trust import Trust


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


def test_certificate_request() -> None:
    for compression in ((), (1, 3)):
        data = write_certificate_request((0x0403, 0x0804), compression)
        assert data[0] == HandshakeType.CERTIFICATE_REQUEST
        assert read_certificate_request(data[4:]) == Demand((0x0403, 0x0804), compression)


# Clients in a handshake


@pytest.fixture
def asking(wire: Any, authority: Any) -> Callable[..., Any]:
    """Makes a server that asks for certificates of our authority."""

    def make(client_authentication: str = "required", **settings: Any) -> Any:
        trust = Trust.roots(authority.root()[0])
        return wire.server(**{"client_authentication": client_authentication, "client_trust": trust} | settings)

    return make


def failure(wire: Any, client: Any, server: Any, alter: Any = None) -> TransportError:
    with pytest.raises(TransportError) as caught:
        wire.run(client, server, alter=alter)
    assert not server.is_complete
    return caught.value


@pytest.mark.parametrize("client_authentication", ["optional", "required"])
@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_a_client_with_a_certificate(
    wire: Any, authority: Any, asking: Any, kind: str, client_authentication: str
) -> None:
    shown, _ = authority.client(kind)
    client, server = wire.run(wire.client(client_certificate=shown), asking(client_authentication))
    assert client.is_complete
    assert server.is_complete
    assert server.peer_certificates == shown.certificates
    assert client.peer_certificates == wire.certificates.select("localhost", (0x0403,))[0].certificates
    assert client.export("x", b"", 32) == server.export("x", b"", 32)
    assert [message[0] for message in wire.messages] == [1, 2, 8, 13, 11, 15, 20, 11, 15, 20]


def test_a_compressed_certificate_of_a_client(wire: Any, authority: Any, asking: Any) -> None:
    """RFC 8879 §3: the server says in CertificateRequest what it takes."""
    shown, _ = authority.client(names=[f"user{n}.example" for n in range(20)])
    client = wire.client(client_certificate=shown, certificate_compression=(1,))
    _, server = wire.run(client, asking())
    assert server.peer_certificates == shown.certificates
    assert [message[0] for message in wire.messages] == [1, 2, 8, 13, 25, 15, 20, 25, 15, 20]


def test_a_client_is_not_asked_by_default(wire: Any, authority: Any) -> None:
    client, server = wire.run(wire.client(client_certificate=authority.client()[0]), wire.server())
    assert client.is_complete
    assert server.is_complete
    assert server.peer_certificates == ()


def test_a_client_without_a_certificate(wire: Any, asking: Any) -> None:
    """RFC 8446 §4.4.2.4."""
    client, server = wire.run(wire.client(), asking("optional"))
    assert client.is_complete
    assert server.is_complete
    assert server.peer_certificates == ()
    error = failure(wire, wire.client(), asking("required"))
    assert (error.code, error.reason) == (0x174, "the client showed no certificate, expected one")


def test_a_certificate_that_does_not_fit_is_not_shown(wire: Any, authority: Any, asking: Any) -> None:
    """RFC 8446 §4.4.2.3: only what the server can check."""
    client = wire.client(client_certificate=authority.client("rsa")[0])
    _, server = wire.run(client, asking("optional", signature_schemes=(0x0403, 0x0401)))
    assert server.is_complete
    assert server.peer_certificates == ()


@pytest.mark.parametrize("client_authentication", ["optional", "required"])
def test_a_certificate_that_is_not_trusted(wire: Any, authority: Any, asking: Any, client_authentication: str) -> None:
    """A wrong certificate is refused even by those who can do without."""
    stranger = authority.certificate("stranger", usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    client = wire.client(client_certificate=CertificateKey((stranger,), authority.key()))
    error = failure(wire, client, asking(client_authentication))
    assert (error.code, isinstance(error.cause, CertificateError)) == (0x130, True)
    server_certificate, _ = authority.server()
    error = failure(wire, wire.client(client_certificate=server_certificate), asking(client_authentication))
    assert (error.code, "lacks clientAuth" in error.reason) == (0x12B, True)


def replacing(message_type: int, change: Any) -> Any:
    """Alter one message of the client."""

    def alter(sender: Handshake, data: bytes) -> bytes:
        return change(data) if sender.is_client and data[0] == message_type else data

    return alter


def other_signature(data: bytes) -> bytes:
    return CertificateVerify(0x0403, CertificateVerify.read(data[4:]).signature[:-1] + b"\x00").write()


@pytest.mark.parametrize(
    ("message_type", "change", "code"),
    [
        (HandshakeType.CERTIFICATE, lambda data: handshake_message(data[0], data[4:-1]), 0x132),
        (HandshakeType.CERTIFICATE, lambda _: Certificate((CertificateEntry(b"x"),)).write(), 0x12A),
        (HandshakeType.CERTIFICATE, lambda _: Certificate((), b"context").write(), 0x12F),
        (HandshakeType.CERTIFICATE, lambda _: b"", 0x10A),
        (HandshakeType.CERTIFICATE_VERIFY, lambda _: b"", 0x10A),
        (HandshakeType.CERTIFICATE_VERIFY, lambda data: data + data, 0x10A),
        (HandshakeType.CERTIFICATE_VERIFY, other_signature, 0x133),
        (HandshakeType.CERTIFICATE_VERIFY, lambda _: CertificateVerify(0x0401, b"x").write(), 0x12F),
        (HandshakeType.CERTIFICATE_VERIFY, lambda _: CertificateVerify(0x0807, b"x").write(), 0x12F),
        (HandshakeType.FINISHED, lambda _: Finished(bytes(32)).write(), 0x133),
    ],
)
def test_clients_that_break_a_rule(
    wire: Any, authority: Any, asking: Any, message_type: int, change: Any, code: int
) -> None:
    client = wire.client(client_certificate=authority.client()[0])
    assert failure(wire, client, asking(), replacing(message_type, change)).code == code


def test_a_stolen_certificate(wire: Any, authority: Any, asking: Any) -> None:
    """Whoever shows another's certificate cannot sign with its key."""
    stolen = Certificate(tuple(map(CertificateEntry, authority.client()[0].chain)))
    key = authority.key("p256", "thief")
    own = authority.certificate("thief", key=key, issuer=authority.root(), usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    client = wire.client(client_certificate=CertificateKey((own,), key))
    error = failure(wire, client, asking(), replacing(HandshakeType.CERTIFICATE, lambda _: stolen.write()))
    assert (error.code, "by the key of the client's certificate" in error.reason) == (0x133, True)


def test_the_servers_signature_is_none_of_a_client(wire: Any, authority: Any, asking: Any) -> None:
    """RFC 8446 §4.4.3: the context keeps both apart, even with one key and the same transcript."""
    shown, _ = authority.client()

    class Reflector(ClientHandshake):
        def _send(self, epoch: Epoch, message: bytes) -> None:
            if message[0] == HandshakeType.CERTIFICATE_VERIFY:
                message = write_certificate_verify(shown, 0x0403, SERVER_CONTEXT, self._transcript.digest())
            super()._send(epoch, message)

    plain = wire.client(client_certificate=shown)
    client = Reflector(
        plain.settings, random=plain._random, wall_time=plain._wall_time, transport_parameters=lambda _: b"client's"
    )
    wire.events[client] = []
    assert failure(wire, client, asking()).code == 0x133

"""A client against a server that breaks one rule at a time. The messages are written with our own writers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from quicstack.errors import CertificateError, TransportError, TransportErrorCode
from quicstack.tls.certificate import CertificateKey
from quicstack.tls.client import MAX_TICKETS
from quicstack.tls.epoch import Epoch
from quicstack.tls.extensions import ExtensionType, read_key_share_entries, write_alpn, write_key_share_entry
from quicstack.tls.groups import SECP256R1, SECP384R1, X25519, X25519MLKEM768, available_groups
from quicstack.tls.handshake import Handshake, NewSession, Output
from quicstack.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateEntry,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    HandshakeType,
    NewSessionTicket,
    ServerHello,
    handshake_message,
)
from quicstack.tls.server import Offer, ServerHandshake
from quicstack.tls.trust import Trust

E = ExtensionType
T = HandshakeType

UNEXPECTED_MESSAGE, HANDSHAKE_FAILURE, BAD_CERTIFICATE = 0x10A, 0x128, 0x12A
ILLEGAL_PARAMETER, DECODE_ERROR, DECRYPT_ERROR, PROTOCOL_VERSION = 0x12F, 0x132, 0x133, 0x146
MISSING_EXTENSION, UNSUPPORTED_EXTENSION, NO_APPLICATION_PROTOCOL = 0x16D, 0x16E, 0x178

READERS: dict[int, Any] = {
    T.SERVER_HELLO: ServerHello,
    T.ENCRYPTED_EXTENSIONS: EncryptedExtensions,
    T.CERTIFICATE: Certificate,
    T.CERTIFICATE_VERIFY: CertificateVerify,
    T.FINISHED: Finished,
}


def refuse(wire: Any, target: int, change: Callable[[Any], Any], **settings: Any) -> TransportError:
    """Run a handshake in which the server's message of type ``target`` is changed; what the client says to that."""

    def alter(sender: Handshake, data: bytes) -> bytes:
        if sender.is_client or data[0] != target:
            return data
        changed = change(READERS[target].read(data[4:]))
        return changed if isinstance(changed, bytes) else bytes(changed.write())

    client, server = wire.client(**{"groups": (X25519, SECP256R1)} | settings), wire.server()
    with pytest.raises(TransportError) as caught:
        wire.run(client, server, alter=alter)
    assert not client.is_complete
    return caught.value


def extension(key: int, body: bytes | None) -> Callable[[Any], Any]:
    """Set an extension of the message, or take it away."""

    def change(message: Any) -> Any:
        extensions = dict(message.extensions)
        extensions.pop(key, None)
        if body is not None:
            extensions[key] = body
        return replace(message, extensions=extensions)

    return change


def field(**values: Any) -> Callable[[Any], Any]:
    return lambda message: replace(message, **values)


def twice(key: int) -> Callable[[Any], Any]:
    """The same extension two times, which our own writer cannot do."""

    def change(message: Any) -> bytes:
        body = bytes(message.write()[6:])
        one = key.to_bytes(2, "big") + len(message.extensions[key]).to_bytes(2, "big") + message.extensions[key]
        body = one + body
        return handshake_message(T.ENCRYPTED_EXTENSIONS, len(body).to_bytes(2, "big") + body)

    return change


def trailing(message: Any) -> bytes:
    data = message.write()
    return handshake_message(data[0], data[4:] + b"\x00")


def cut(message: Any) -> bytes:
    data = message.write()
    return handshake_message(data[0], data[4:-1])


def first_entry(**values: Any) -> Callable[[Any], Any]:
    return lambda message: replace(message, entries=(replace(message.entries[0], **values),))


ALERTS: dict[str, tuple[int, Callable[[Any], Any], int, str]] = {
    # RFC 8446 §4.1.3, §4.2.1, §4.2.8
    "suite not offered": (T.SERVER_HELLO, field(cipher_suite=0x1305), ILLEGAL_PARAMETER, "chose cipher suite 0x1305"),
    "session id": (T.SERVER_HELLO, field(legacy_session_id_echo=b"x"), ILLEGAL_PARAMETER, "legacy_session_id_echo"),
    "compression": (T.SERVER_HELLO, field(legacy_compression_method=1), ILLEGAL_PARAMETER, "compression_method 1"),
    "legacy version": (T.SERVER_HELLO, field(legacy_version=0x0304), ILLEGAL_PARAMETER, "legacy_version 772"),
    "TLS 1.2": (T.SERVER_HELLO, extension(E.SUPPORTED_VERSIONS, None), PROTOCOL_VERSION, "TLS 1.2 or older"),
    "no extensions": (T.SERVER_HELLO, field(extensions={}), PROTOCOL_VERSION, "expected TLS 1.3"),
    "other version": (T.SERVER_HELLO, extension(E.SUPPORTED_VERSIONS, b"\x03\x03"), ILLEGAL_PARAMETER, "version 771"),
    "version cut": (T.SERVER_HELLO, extension(E.SUPPORTED_VERSIONS, b"\x03"), DECODE_ERROR, "supported_versions"),
    "no key share": (T.SERVER_HELLO, extension(E.KEY_SHARE, None), MISSING_EXTENSION, "no key_share"),
    "group without share": (
        T.SERVER_HELLO,
        extension(E.KEY_SHARE, write_key_share_entry(SECP256R1, b"\x04" + bytes(64))),
        ILLEGAL_PARAMETER,
        "a key share of secp256r1, expected one of x25519",
    ),
    "share too long": (
        T.SERVER_HELLO,
        extension(E.KEY_SHARE, write_key_share_entry(X25519, bytes(65))),
        ILLEGAL_PARAMETER,
        "65 bytes long, expected 32",
    ),
    "zero share": (
        T.SERVER_HELLO,
        extension(E.KEY_SHARE, write_key_share_entry(X25519, bytes(32))),
        ILLEGAL_PARAMETER,
        "low order",
    ),
    "psk not offered": (T.SERVER_HELLO, extension(E.PRE_SHARED_KEY, b"\0\0"), UNSUPPORTED_EXTENSION, "pre_shared_key"),
    "ALPN in ServerHello": (T.SERVER_HELLO, extension(E.ALPN, b""), ILLEGAL_PARAMETER, "belongs in ClientHello or Enc"),
    "unknown in ServerHello": (T.SERVER_HELLO, extension(0xABCD, b""), UNSUPPORTED_EXTENSION, "extension 0xabcd"),
    "ServerHello trailing": (T.SERVER_HELLO, trailing, DECODE_ERROR, "1 bytes after its end"),
    "ServerHello cut": (T.SERVER_HELLO, cut, DECODE_ERROR, "truncated"),
    # RFC 8446 §4.3.1, RFC 9001 §8
    "no parameters": (T.ENCRYPTED_EXTENSIONS, extension(0x39, None), MISSING_EXTENSION, "quic_transport_parameters"),
    "no ALPN": (T.ENCRYPTED_EXTENSIONS, extension(E.ALPN, None), NO_APPLICATION_PROTOCOL, "no ALPN protocol"),
    "other ALPN": (
        T.ENCRYPTED_EXTENSIONS,
        extension(E.ALPN, write_alpn([b"h2\xff"])),
        NO_APPLICATION_PROTOCOL,
        r"b'h2\xff', expected one of ('h3',)",
    ),
    "two ALPN": (T.ENCRYPTED_EXTENSIONS, extension(E.ALPN, write_alpn([b"h3", b"h2"])), ILLEGAL_PARAMETER, "2 ALPN"),
    "empty ALPN": (T.ENCRYPTED_EXTENSIONS, extension(E.ALPN, b"\0\0"), DECODE_ERROR, "application_layer"),
    "key_share in EE": (T.ENCRYPTED_EXTENSIONS, extension(E.KEY_SHARE, b""), ILLEGAL_PARAMETER, "carries key_share"),
    "unknown in EE": (T.ENCRYPTED_EXTENSIONS, extension(0x0A0A, b""), UNSUPPORTED_EXTENSION, "did not offer"),
    "early_data in EE": (T.ENCRYPTED_EXTENSIONS, extension(E.EARLY_DATA, b""), UNSUPPORTED_EXTENSION, "early_data"),
    "SNI with content": (T.ENCRYPTED_EXTENSIONS, extension(E.SERVER_NAME, b"x"), DECODE_ERROR, "server_name"),
    "bad groups in EE": (T.ENCRYPTED_EXTENSIONS, extension(E.SUPPORTED_GROUPS, b"\0\1\0"), DECODE_ERROR, "1 bytes"),
    "twice": (T.ENCRYPTED_EXTENSIONS, twice(0x39), ILLEGAL_PARAMETER, "0x0039 twice"),
    "EE trailing": (T.ENCRYPTED_EXTENSIONS, trailing, DECODE_ERROR, "after its end"),
    # RFC 8446 §4.4.2
    "empty chain": (T.CERTIFICATE, field(entries=()), DECODE_ERROR, "Certificate is empty"),
    "context": (T.CERTIFICATE, field(context=b"x"), ILLEGAL_PARAMETER, "has a context"),
    "not X.509": (T.CERTIFICATE, first_entry(data=b"garbage"), BAD_CERTIFICATE, "not X.509"),
    "empty entry": (T.CERTIFICATE, first_entry(data=b""), DECODE_ERROR, "at least 1"),
    "OCSP not asked for": (
        T.CERTIFICATE,
        first_entry(extensions={E.STATUS_REQUEST: b""}),
        UNSUPPORTED_EXTENSION,
        "status_request",
    ),
    "ALPN in Certificate": (T.CERTIFICATE, first_entry(extensions={E.ALPN: b""}), ILLEGAL_PARAMETER, "carries alpn"),
    "Certificate trailing": (T.CERTIFICATE, trailing, DECODE_ERROR, "after its end"),
    # RFC 8446 §4.4.3, §4.4.4
    "bad signature": (T.CERTIFICATE_VERIFY, field(signature=b"no signature"), DECRYPT_ERROR, "not a signature"),
    "PKCS1": (T.CERTIFICATE_VERIFY, field(scheme=0x0401), ILLEGAL_PARAMETER, "rsa_pkcs1_sha256, expected one of ecdsa"),
    "SHA-1": (T.CERTIFICATE_VERIFY, field(scheme=0x0203), ILLEGAL_PARAMETER, "0x0203"),
    "scheme of another key": (T.CERTIFICATE_VERIFY, field(scheme=0x0807), ILLEGAL_PARAMETER, "ed25519, expected"),
    "CertificateVerify cut": (T.CERTIFICATE_VERIFY, cut, DECODE_ERROR, "truncated"),
    "wrong Finished": (T.FINISHED, field(verify_data=bytes(32)), DECRYPT_ERROR, "Finished does not match"),
    "short Finished": (T.FINISHED, cut, DECODE_ERROR, "31 bytes long, expected 32"),
}


ROWS = {
    "suite not offered": "TLS01",
    "group without share": "TLS01",
    "session id": "TLS01a",
    "no ALPN": "C29a",
    "other ALPN": "C30",
    "no parameters": "C31a",
    "share too long": "TLS05",
    "zero share": "TLS05",
    "empty chain": "TLS08",
    "bad signature": "TLS09",
    "PKCS1": "TLS09",
    "SHA-1": "TLS09",
    "TLS 1.2": "C36",
    "other version": "C36",
    "psk not offered": "TLS04",
    "ALPN in ServerHello": "TLS04",
    "unknown in ServerHello": "TLS04",
    "key_share in EE": "TLS04",
    "unknown in EE": "TLS04",
    "twice": "TLS04",
    "ServerHello cut": "TLS04b",
    "ServerHello trailing": "TLS04b",
    "version cut": "TLS04b",
    "EE trailing": "TLS04b",
    "empty ALPN": "TLS04b",
    "CertificateVerify cut": "TLS04b",
    "wrong Finished": "TLS10",
}


def marked(case: str) -> Any:
    return pytest.param(case, marks=pytest.mark.conformance(ROWS[case])) if case in ROWS else case


@pytest.mark.parametrize("case", [marked(case) for case in ALERTS])
def test_alerts(wire: Any, case: str) -> None:
    target, change, code, reason = ALERTS[case]
    error = refuse(wire, target, change)
    assert (hex(error.code), reason in error.reason, error.reason) == (hex(code), True, error.reason)


ORDER = [T.SERVER_HELLO, T.ENCRYPTED_EXTENSIONS, T.CERTIFICATE, T.CERTIFICATE_VERIFY, T.FINISHED]


@pytest.mark.conformance("TLS02a")
@pytest.mark.parametrize("place", ORDER)
@pytest.mark.parametrize("sent", [*ORDER, T.CLIENT_HELLO, T.COMPRESSED_CERTIFICATE, T.NEW_SESSION_TICKET, T.KEY_UPDATE])
def test_only_the_next_message_is_taken(wire: Any, place: int, sent: int) -> None:
    """RFC 8446 §4: every other order is unexpected_message, in every state."""
    if place == sent:
        return
    error = refuse(wire, place, lambda _: handshake_message(sent, b"\x00"))
    assert error.code == UNEXPECTED_MESSAGE


# HelloRetryRequest


def retry(wire: Any, *answers: ServerHello, **settings: Any) -> tuple[Handshake, list[bytes]]:
    """Feed HelloRetryRequests and ServerHellos to a client; it and the ClientHellos that it sent."""
    client = wire.client(**{"groups": (X25519, SECP256R1)} | settings)
    client.start()
    for answer in answers:
        client.receive(Epoch.INITIAL, answer.write())
    return client, [event.data for event in client.take_events() if isinstance(event, Output)]


def hello_retry_request(group: int | None = None, cookie: bytes | None = None, **changes: Any) -> ServerHello:
    extensions: dict[int, bytes] = {E.SUPPORTED_VERSIONS: b"\x03\x04"}
    if group is not None:
        extensions[E.KEY_SHARE] = group.to_bytes(2, "big")
    if cookie is not None:
        extensions[E.COOKIE] = len(cookie).to_bytes(2, "big") + cookie
    return replace(ServerHello(HELLO_RETRY_REQUEST_RANDOM, 0x1301, extensions), **changes)


def test_answer_to_hello_retry_request(wire: Any) -> None:
    """RFC 8446 §4.1.2: only the key share and the cookie differ."""
    _, sent = retry(wire, hello_retry_request(SECP256R1, b"a cookie"))
    first, second = (ClientHello.read(data[4:]) for data in sent)
    assert list(read_key_share_entries(second.extensions[E.KEY_SHARE])) == [SECP256R1]
    assert second.extensions.pop(E.COOKIE) == b"\x00\x08a cookie"
    second.extensions[E.KEY_SHARE] = first.extensions[E.KEY_SHARE]
    assert second == first


def test_a_cookie_alone_keeps_the_key_share(wire: Any) -> None:
    _, sent = retry(wire, hello_retry_request(cookie=b"c"))
    first, second = (ClientHello.read(data[4:]) for data in sent)
    assert second.extensions[E.KEY_SHARE] == first.extensions[E.KEY_SHARE]


@pytest.mark.parametrize(
    ("answers", "code", "reason"),
    [
        pytest.param(
            [hello_retry_request(X25519)],
            ILLEGAL_PARAMETER,
            "for which we sent a share",
            marks=pytest.mark.conformance("TLS03"),
            id="a group that has a share",
        ),
        pytest.param(
            [hello_retry_request(SECP384R1)],
            ILLEGAL_PARAMETER,
            "secp384r1, which we did not offer",
            marks=pytest.mark.conformance("TLS03"),
            id="a group that was not offered",
        ),
        pytest.param(
            [hello_retry_request()],
            ILLEGAL_PARAMETER,
            "no change",
            marks=pytest.mark.conformance("TLS03"),
            id="no change",
        ),
        ([hello_retry_request(SECP256R1, b"")], DECODE_ERROR, "cookie"),
        ([hello_retry_request(SECP256R1, cipher_suite=0x1305)], ILLEGAL_PARAMETER, "cipher suite"),
        pytest.param(
            [hello_retry_request(SECP256R1)] * 2,
            UNEXPECTED_MESSAGE,
            "second HelloRetryRequest",
            marks=pytest.mark.conformance("TLS02"),
            id="a second one",
        ),
        (
            [hello_retry_request(SECP256R1), ServerHello(bytes(32), 0x1302, {E.SUPPORTED_VERSIONS: b"\x03\x04"})],
            ILLEGAL_PARAMETER,
            "expected the same",
        ),
        (
            [
                hello_retry_request(SECP256R1),
                ServerHello(
                    bytes(32),
                    0x1301,
                    {E.SUPPORTED_VERSIONS: b"\x03\x04", E.KEY_SHARE: write_key_share_entry(X25519, bytes(32))},
                ),
            ],
            ILLEGAL_PARAMETER,
            "expected one of secp256r1",
        ),
    ],
)
def test_bad_hello_retry_requests(wire: Any, answers: list[ServerHello], code: int, reason: str) -> None:
    with pytest.raises(TransportError) as caught:
        retry(wire, *answers)
    assert caught.value.code == code
    assert reason in caught.value.reason


# What the client offers


def test_client_hello(wire: Any) -> None:
    hello = ClientHello.read(wire.client_hello(groups=(X25519, SECP256R1))[4:])
    assert hello.legacy_session_id == b""
    assert hello.legacy_compression_methods == b"\x00"
    assert list(read_key_share_entries(hello.extensions[E.KEY_SHARE])) == [X25519]
    assert hello.extensions[E.SERVER_NAME] == b"\x00\x0c\x00\x00\x09localhost"
    assert hello.extensions[E.SUPPORTED_VERSIONS] == b"\x02\x03\x04"
    assert hello.extensions[0x39] == b"client's"


def test_the_hybrid_comes_with_a_classic_share(wire: Any) -> None:
    if X25519MLKEM768 not in available_groups():
        pytest.skip("not here: this cryptography has no ML-KEM")
    hello = ClientHello.read(wire.client_hello(groups=(X25519MLKEM768, X25519, SECP256R1))[4:])
    assert list(read_key_share_entries(hello.extensions[E.KEY_SHARE])) == [X25519MLKEM768, X25519]


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1", None])
def test_no_sni_without_a_host_name(wire: Any, name: str | None) -> None:
    """RFC 6066 §3: literal addresses are not permitted."""
    assert E.SERVER_NAME not in ClientHello.read(wire.client_hello(server_name=name)[4:]).extensions


def test_sni_is_written_in_ascii(wire: Any) -> None:
    hello = ClientHello.read(wire.client_hello(server_name="Bücher.Example.")[4:])
    assert hello.extensions[E.SERVER_NAME].endswith(b"xn--bcher-kva.example")


# Certificates


def test_a_refused_certificate_is_the_cause(wire: Any, authority: Any) -> None:
    client, server = wire.client(trust=Trust.roots(authority.root("another")[0])), wire.server()
    with pytest.raises(TransportError) as caught:
        wire.run(client, server)
    assert caught.value.code == 0x100 + 48
    assert isinstance(caught.value.cause, CertificateError)
    assert caught.value.cause.check == "issuer"


@pytest.mark.parametrize("trust", ["roots", "hash", "insecure"])
def test_a_swapped_leaf_is_caught_by_certificate_verify(wire: Any, authority: Any, trust: str) -> None:
    """Whoever shows another's certificate cannot sign with its key, whatever the client trusts."""
    leaf = authority.certificate(key=authority.key("p256", "another"))
    kinds = {
        "roots": Trust.roots(leaf),
        "hash": Trust.hashes([leaf.fingerprint(hashes.SHA256())]),
        "insecure": Trust.insecure(),
    }
    shown = Certificate((CertificateEntry(leaf.public_bytes(Encoding.DER)),))
    error = refuse(wire, T.CERTIFICATE, lambda _: shown, trust=kinds[trust])
    assert error.code == DECRYPT_ERROR


class AskingServer(ServerHandshake):
    """Asks for a client certificate, which ours does not."""

    def _send_certificate(self, offer: Offer, certificate_key: CertificateKey, scheme: int) -> None:
        request = CertificateRequest(b"", {E.SIGNATURE_ALGORITHMS: b"\x00\x02\x04\x03"})
        self._send(Epoch.HANDSHAKE, request.write())
        super()._send_certificate(offer, certificate_key, scheme)


def test_certificate_request_gets_an_empty_certificate(wire: Any) -> None:
    """RFC 8446 §4.4.2: no certificate is an answer too."""
    client, server = wire.client(), wire.server(make=AskingServer)
    with pytest.raises(TransportError, match="Certificate was sent, expected was Finished"):
        wire.run(client, server)
    assert client.is_complete
    sent = [event.data for event in wire.events[client] if isinstance(event, Output)]
    assert sent[1] == Certificate(()).write()
    assert sent[2][0] == T.FINISHED


@pytest.mark.parametrize(
    ("request_message", "code"),
    [
        (CertificateRequest(b"x", {E.SIGNATURE_ALGORITHMS: b"\x00\x02\x04\x03"}), ILLEGAL_PARAMETER),
        (CertificateRequest(b"", {E.SIGNATURE_ALGORITHMS_CERT: b"\x00\x02\x04\x03"}), MISSING_EXTENSION),
        (CertificateRequest(b"", {}), DECODE_ERROR),
        (CertificateRequest(b"", {E.KEY_SHARE: b""}), ILLEGAL_PARAMETER),
    ],
)
def test_bad_certificate_requests(wire: Any, request_message: CertificateRequest, code: int) -> None:
    assert refuse(wire, T.CERTIFICATE, lambda _: request_message.write()).code == code


# CONNECTED


def connected(wire: Any) -> Any:
    return wire.run(wire.client(), wire.server())[0]


TICKET = NewSessionTicket(7200, 0, b"n", b"ticket", {E.EARLY_DATA: b"\xff\xff\xff\xff", 0x0A0A: b"grease"})


def test_a_ticket_makes_a_session(wire: Any) -> None:
    client = connected(wire)
    for byte in TICKET.write():
        client.receive(Epoch.ONE_RTT, bytes([byte]))
    (event,) = client.take_events()
    assert isinstance(event, NewSession)
    assert event.session.ticket == TICKET.ticket and event.session.server_name == "localhost"


def test_tickets_without_end(wire: Any) -> None:
    client = connected(wire)
    client.receive(Epoch.ONE_RTT, TICKET.write() * MAX_TICKETS)
    with pytest.raises(TransportError, match="expected was no further message"):
        client.receive(Epoch.ONE_RTT, TICKET.write())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        # RFC 9001 §4.6.1, §4.4, §6
        (replace(TICKET, extensions={E.EARLY_DATA: b"\0\0\x40\0"}).write(), TransportErrorCode.PROTOCOL_VIOLATION),
        pytest.param(
            CertificateRequest(b"", {}).write(),
            TransportErrorCode.PROTOCOL_VIOLATION,
            marks=pytest.mark.conformance("C07"),
            id="CertificateRequest",
        ),
        (handshake_message(T.KEY_UPDATE, b"\x00"), UNEXPECTED_MESSAGE),
        (replace(TICKET, ticket=b"").write(), DECODE_ERROR),
        (replace(TICKET, extensions={E.KEY_SHARE: b""}).write(), ILLEGAL_PARAMETER),
        (Finished(bytes(32)).write(), UNEXPECTED_MESSAGE),
    ],
)
def test_after_the_handshake(wire: Any, data: bytes, code: int) -> None:
    client = connected(wire)
    with pytest.raises(TransportError) as caught:
        client.receive(Epoch.ONE_RTT, data)
    assert caught.value.code == code


def test_certificates_of_two_handshakes(wire: Any, authority: Any) -> None:
    """CertificateStore.replace while serving: the next handshake shows the new certificate."""
    first, _ = wire.run(wire.client(), wire.server())
    renewed, _ = authority.server("p384")
    wire.certificates.replace(renewed)
    second, _ = wire.run(wire.client(), wire.server())
    assert first.peer_certificates != second.peer_certificates == renewed.certificates

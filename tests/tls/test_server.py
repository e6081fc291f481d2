"""A server against clients that break one rule at a time, and against what browsers send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from quicstack.errors import ConfigurationError, TransportError, TransportErrorCode
from quicstack.tls.certificate import CertificateStore
from quicstack.tls.epoch import Epoch
from quicstack.tls.extensions import (
    ExtensionType,
    read_key_share_entries,
    write_alpn,
    write_code_points,
    write_key_share_entries,
    write_server_name,
)
from quicstack.tls.groups import SECP256R1, SECP384R1, X25519, available_groups
from quicstack.tls.handshake import Handshake, Output
from quicstack.tls.messages import (
    Certificate,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    HandshakeType,
    ServerHello,
    handshake_message,
)
from quicstack.tls.server import ServerHandshake
from quicstack.tls.settings import TlsSettings

E = ExtensionType
T = HandshakeType

UNEXPECTED_MESSAGE, HANDSHAKE_FAILURE = 0x10A, 0x128
ILLEGAL_PARAMETER, DECODE_ERROR, DECRYPT_ERROR, PROTOCOL_VERSION = 0x12F, 0x132, 0x133, 0x146
MISSING_EXTENSION, NO_APPLICATION_PROTOCOL = 0x16D, 0x178

Change = Callable[[ClientHello], ClientHello | bytes]


def extension(key: int, body: bytes | None) -> Change:
    """Set an extension (at the end), or take it away."""

    def change(hello: ClientHello) -> ClientHello:
        extensions = {k: v for k, v in hello.extensions.items() if k != key}
        return replace(hello, extensions=extensions if body is None else extensions | {key: body})

    return change


def field(**values: Any) -> Change:
    return lambda hello: replace(hello, **values)


def both(first: Change, second: Change) -> Change:
    def change(hello: ClientHello) -> ClientHello | bytes:
        changed = first(hello)
        assert isinstance(changed, ClientHello)
        return second(changed)

    return change


def body(edit: Callable[[bytes], bytes]) -> Change:
    return lambda hello: handshake_message(T.CLIENT_HELLO, edit(hello.write()[4:]))


def encode(message: ClientHello | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.write()


def hello_of(wire: Any, **settings: Any) -> ClientHello:
    return ClientHello.read(wire.client_hello(**{"groups": (X25519, SECP256R1)} | settings)[4:])


def answers(server: Handshake) -> list[bytes]:
    return [event.data for event in server.take_events() if isinstance(event, Output)]


PSK = b"\x00\x07\x00\x01x\0\0\0\0" + b"\x00\x21\x20" + bytes(32)

ALERTS: dict[str, tuple[Change, int, str]] = {
    # RFC 8446 §4.2.1, RFC 9001 §4.2
    "no version": (extension(E.SUPPORTED_VERSIONS, None), PROTOCOL_VERSION, "0x0303, expected 0x0304"),
    "old version": (extension(E.SUPPORTED_VERSIONS, b"\x04\x7f\x1c\x03\x03"), PROTOCOL_VERSION, "0x7f1c, 0x0303"),
    "no extensions": (field(extensions={}), PROTOCOL_VERSION, "expected 0x0304"),
    "odd versions": (extension(E.SUPPORTED_VERSIONS, b"\x03\x03\x04\x03"), DECODE_ERROR, "3 bytes long"),
    # RFC 9001 §8.4, RFC 8446 §4.1.2
    "session id": (field(legacy_session_id=b"x"), TransportErrorCode.PROTOCOL_VIOLATION, "middlebox"),
    "compression": (field(legacy_compression_methods=b"\x01\x00"), ILLEGAL_PARAMETER, "methods 0100, expected only 00"),
    "no suite of ours": (field(cipher_suites=(0x1305, 0x0A0A)), HANDSHAKE_FAILURE, "TLS_AES_128_GCM_SHA256"),
    "no suite": (field(cipher_suites=()), DECODE_ERROR, "at least 2"),
    "trailing": (body(lambda data: data + b"\x00"), DECODE_ERROR, "after its end"),
    "cut": (body(lambda data: data[:-1]), DECODE_ERROR, "truncated"),
    "very short": (body(lambda data: data[:20]), DECODE_ERROR, "truncated"),
    "twice": (lambda hello: duplicate(hello, E.ALPN), ILLEGAL_PARAMETER, "twice"),
    # RFC 8446 §9.2, RFC 9001 §8.2
    "no parameters": (extension(0x39, None), MISSING_EXTENSION, "quic_transport_parameters"),
    "draft parameters": (both(extension(0x39, None), extension(0xFFA5, b"x")), MISSING_EXTENSION, "quic_transport"),
    "no schemes": (extension(E.SIGNATURE_ALGORITHMS, None), MISSING_EXTENSION, "signature_algorithms"),
    "no groups": (extension(E.SUPPORTED_GROUPS, None), MISSING_EXTENSION, "supported_groups"),
    "no key share": (extension(E.KEY_SHARE, None), MISSING_EXTENSION, "key_share"),
    # RFC 9001 §8.1
    "no ALPN": (extension(E.ALPN, None), NO_APPLICATION_PROTOCOL, "expected one of ('h3',)"),
    "other ALPN": (extension(E.ALPN, write_alpn([b"h2", b"\xfa\xfa"])), NO_APPLICATION_PROTOCOL, r"b'\xfa\xfa'"),
    "empty ALPN": (extension(E.ALPN, b"\x00\x01\x00"), DECODE_ERROR, "at least 2"),
    # RFC 8446 §4.2.3, §4.2.7, §4.2.8
    "no scheme of ours": (extension(E.SIGNATURE_ALGORITHMS, b"\0\2\x02\x03"), HANDSHAKE_FAILURE, "ecdsa_secp256r1"),
    "no group of ours": (
        both(
            extension(E.SUPPORTED_GROUPS, write_code_points([0x0A0A, 0x1E])),
            extension(E.KEY_SHARE, write_key_share_entries({0x0A0A: b"\x00"})),
        ),
        HANDSHAKE_FAILURE,
        "expected one of",
    ),
    "share outside groups": (
        extension(E.KEY_SHARE, write_key_share_entries({0x1E: bytes(56)})),
        ILLEGAL_PARAMETER,
        "0x001e, expected only groups of supported_groups",
    ),
    "share twice": (
        extension(E.KEY_SHARE, (b"\x00\x0a" + (b"\x00\x1d\x00\x01x") * 2)),
        ILLEGAL_PARAMETER,
        "two shares for group 0x001d",
    ),
    "empty share": (extension(E.KEY_SHARE, b"\x00\x04\x00\x1d\x00\x00"), DECODE_ERROR, "at least 1"),
    "share too long": (
        extension(E.KEY_SHARE, write_key_share_entries({X25519: bytes(65)})),
        ILLEGAL_PARAMETER,
        "65 bytes long, expected 32",
    ),
    "zero share": (
        extension(E.KEY_SHARE, write_key_share_entries({X25519: bytes(32)})),
        ILLEGAL_PARAMETER,
        "low order",
    ),
    "not on the curve": (
        extension(E.KEY_SHARE, write_key_share_entries({SECP256R1: b"\x04" + bytes(64)})),
        ILLEGAL_PARAMETER,
        "not an uncompressed point",
    ),
    # RFC 6066 §3
    "two names": (
        extension(E.SERVER_NAME, b"\x00\x08" + b"\x00\x00\x01a" * 2),
        ILLEGAL_PARAMETER,
        "two names",
    ),
    "empty name": (extension(E.SERVER_NAME, b"\x00\x03\x00\x00\x00"), DECODE_ERROR, "at least 1"),
    "name not ASCII": (extension(E.SERVER_NAME, b"\x00\x04\x00\x00\x01\xe9"), ILLEGAL_PARAMETER, "not ASCII"),
    # RFC 8446 §4.2, §4.2.9, §4.2.11
    "out of place": (extension(E.OID_FILTERS, b"\0\0"), ILLEGAL_PARAMETER, "belongs in CertificateRequest"),
    "psk not last": (
        both(extension(E.PRE_SHARED_KEY, PSK), extension(E.PSK_KEY_EXCHANGE_MODES, b"\1\1")),
        ILLEGAL_PARAMETER,
        "not the last",
    ),
    "psk without modes": (
        both(extension(E.PSK_KEY_EXCHANGE_MODES, None), extension(E.PRE_SHARED_KEY, PSK)),
        MISSING_EXTENSION,
        "psk_key_exchange_modes",
    ),
    "psk binder missing": (
        both(extension(E.PSK_KEY_EXCHANGE_MODES, b"\1\1"), extension(E.PRE_SHARED_KEY, PSK[:9] + b"\0\0")),
        DECODE_ERROR,
        "at least 33",
    ),
}


def duplicate(hello: ClientHello, key: int) -> bytes:
    extra = key.to_bytes(2, "big") + len(hello.extensions[key]).to_bytes(2, "big") + hello.extensions[key]
    size = sum(4 + len(value) for value in hello.extensions.values())
    data = hello.write()[4:]
    head, block = data[: -size - 2], data[-size:]
    return handshake_message(T.CLIENT_HELLO, head + (size + len(extra)).to_bytes(2, "big") + block + extra)


def refuse(server: Handshake, data: bytes, epoch: Epoch = Epoch.INITIAL) -> TransportError:
    with pytest.raises(TransportError) as caught:
        server.receive(epoch, data)
    return caught.value


ROWS = {
    "compression": "TLS01b",
    "session id": "C35",
    "no parameters": "C31",
    "draft parameters": "C32",
    "no ALPN": "C29",
    "no schemes": "TLS04a",
    "no groups": "TLS04a",
    "no key share": "TLS04a",
    "no version": "C36",
    "old version": "C36",
    "no suite of ours": "C16a",
    "twice": "TLS04",
    "out of place": "TLS04",
    "trailing": "TLS04b",
    "cut": "TLS04b",
    "very short": "TLS04b",
    "no suite": "TLS04b",
    "odd versions": "TLS04b",
    "empty share": "TLS04b",
}


def marked(case: str) -> Any:
    return pytest.param(case, marks=pytest.mark.conformance(ROWS[case])) if case in ROWS else case


@pytest.mark.parametrize("case", [marked(case) for case in ALERTS])
def test_alerts(wire: Any, case: str) -> None:
    change, code, reason = ALERTS[case]
    server = wire.server()
    server.start()
    error = refuse(server, encode(change(hello_of(wire))))
    assert (hex(error.code), reason in error.reason, error.reason) == (hex(code), True, error.reason)
    assert answers(server) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            field(cipher_suites=(0x1305, 0x1A1A, 0x1301)), marks=pytest.mark.conformance("C16a"), id="unknown suites"
        ),
        field(legacy_version=0x0304),
        extension(E.EARLY_DATA, b""),
        both(extension(E.PSK_KEY_EXCHANGE_MODES, b"\1\1"), extension(E.PRE_SHARED_KEY, PSK)),
        extension(E.COOKIE, b"\x00\x01c"),
        extension(E.SERVER_NAME, None),
        extension(E.SERVER_NAME, write_server_name("192.0.2.1")),
        extension(0xFFA5, b"draft"),
        extension(E.SIGNATURE_ALGORITHMS, write_code_points([0x0A0A, 0x0201, 0x0403])),
    ],
)
def test_offers_that_are_tolerated(wire: Any, change: Change) -> None:
    server = wire.server()
    server.start()
    server.receive(Epoch.INITIAL, encode(change(hello_of(wire))))
    assert [data[0] for data in answers(server)] == [2, 8, 11, 15, 20]
    assert server.cipher_suite is not None
    assert server.cipher_suite.value == 0x1301


def test_a_client_hello_like_chromiums(wire: Any) -> None:
    """RFC 8701 everywhere, ALPS, certificate compression, ECH GREASE, in an unusual order, with two key shares."""
    hello = hello_of(wire, groups=available_groups())
    grease = {0x3A3A: b"", 0x7A7A: b"\x00"}
    extensions = {
        0x3A3A: grease[0x3A3A],
        0x39: hello.extensions[0x39] + b"",
        E.ALPS: b"\x00\x03\x02h3",
        E.KEY_SHARE: write_key_share_entries({0x2A2A: b"\x00"} | read_key_share_entries(hello.extensions[E.KEY_SHARE])),
        E.COMPRESS_CERTIFICATE: b"\x02\x00\x02",
        E.ENCRYPTED_CLIENT_HELLO: b"\x00\x00\x01\x00\x01\x0a\x00\x20" + bytes(32) + b"\x00\x10" + bytes(16),
        E.SUPPORTED_GROUPS: write_code_points([0x2A2A, *available_groups()]),
        E.SIGNATURE_ALGORITHMS: hello.extensions[E.SIGNATURE_ALGORITHMS],
        E.PSK_KEY_EXCHANGE_MODES: b"\x01\x01",
        E.SERVER_NAME: hello.extensions[E.SERVER_NAME],
        E.ALPN: write_alpn([b"\x0a\x0a", b"h3"]),
        E.SUPPORTED_VERSIONS: b"\x06\x5a\x5a\x03\x04\x03\x03",
        0x7A7A: grease[0x7A7A],
    }
    server = wire.server()
    server.start()
    server.receive(Epoch.INITIAL, replace(hello, cipher_suites=(0x4A4A, 0x1301), extensions=extensions).write())
    assert server.group == available_groups()[0]
    assert server.alpn_protocol == "h3"
    assert len(answers(server)) == 5


def test_the_servers_preference_decides(wire: Any) -> None:
    server = wire.server(alpn_protocols=("second", "first"), cipher_suites=(0x1303, 0x1301), groups=(SECP256R1, X25519))
    hello = hello_of(wire, alpn_protocols=("first", "second"), cipher_suites=(0x1301, 0x1302, 0x1303))
    shares = {X25519: bytes([9] + [0] * 31)}
    client = wire.client(groups=(SECP256R1,))
    client.start()
    shares |= read_key_share_entries(ClientHello.read(client.take_events()[0].data[4:]).extensions[E.KEY_SHARE])
    hello.extensions[E.KEY_SHARE] = write_key_share_entries(shares)
    server.start()
    server.receive(Epoch.INITIAL, hello.write())
    assert server.alpn_protocol == "second"
    assert server.group_name == "secp256r1"
    assert server.cipher_suite is not None
    assert server.cipher_suite.name == "TLS_CHACHA20_POLY1305_SHA256"


def test_what_the_server_sends(wire: Any) -> None:
    server = wire.server()
    server.start()
    server.receive(Epoch.INITIAL, hello_of(wire).write())
    sent = answers(server)
    server_hello = ServerHello.read(sent[0][4:])
    assert server_hello.legacy_session_id_echo == b""
    assert set(server_hello.extensions) == {E.SUPPORTED_VERSIONS, E.KEY_SHARE}
    extensions = EncryptedExtensions.read(sent[1][4:]).extensions
    assert extensions == {E.ALPN: b"\x00\x03\x02h3", 0x39: b"server's for client's"}
    assert Certificate.read(sent[2][4:]).context == b""
    assert CertificateVerify.read(sent[3][4:]).scheme == 0x0403
    assert server.server_name == "localhost"


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_scheme_follows_the_key(wire: Any, authority: Any, kind: str) -> None:
    schemes = {"p256": 0x0403, "p384": 0x0503, "ed25519": 0x0807, "rsa": 0x0805}
    server = wire.server(certificates=CertificateStore(authority.server(kind)[0]))
    server.start()
    only = extension(E.SIGNATURE_ALGORITHMS, write_code_points([0x0403, 0x0503, 0x0807, 0x0805]))
    server.receive(Epoch.INITIAL, encode(only(hello_of(wire))))
    assert CertificateVerify.read(answers(server)[3][4:]).scheme == schemes[kind]


# HelloRetryRequest


def retried(wire: Any) -> tuple[Any, ClientHello, ClientHello]:
    """A server that asked for secp384r1, the ClientHello it got, and the right second one."""
    client = wire.client(groups=(X25519, SECP384R1))
    server = wire.server(groups=(SECP384R1,))
    client.start()
    server.start()
    first = client.take_events()[0].data
    server.receive(Epoch.INITIAL, first)
    (request,) = answers(server)
    assert ServerHello.read(request[4:]).is_hello_retry_request
    client.receive(Epoch.INITIAL, request)
    second = client.take_events()[0].data
    return server, ClientHello.read(first[4:]), ClientHello.read(second[4:])


def test_a_second_client_hello(wire: Any) -> None:
    server, _, second = retried(wire)
    server.receive(Epoch.INITIAL, second.write())
    assert server.group_name == "secp384r1"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (field(random=bytes(32)), "random"),
        (field(cipher_suites=(0x1301,)), "cipher_suites"),
        (extension(E.ALPN, write_alpn([b"h3", b"h2"])), "ALPN"),
        (extension(E.SERVER_NAME, None), "server_name"),
        (extension(E.SUPPORTED_GROUPS, write_code_points([SECP384R1])), "supported_groups"),
        (extension(E.SIGNATURE_ALGORITHMS, write_code_points([0x0403])), "signature_algorithms"),
        (extension(E.KEY_SHARE, b"\x00\x00"), "key shares of none, expected exactly secp384r1"),
        (extension(E.KEY_SHARE, write_key_share_entries({X25519: bytes(32)})), "key shares of x25519"),
    ],
)
def test_a_second_client_hello_that_differs(wire: Any, change: Change, what: str) -> None:
    server, _, second = retried(wire)
    error = refuse(server, encode(change(second)))
    assert error.code == ILLEGAL_PARAMETER
    assert what in error.reason


def test_no_second_client_hello_without_a_request(wire: Any) -> None:
    server = wire.server()
    server.start()
    server.receive(Epoch.INITIAL, hello_of(wire).write())
    assert refuse(server, hello_of(wire).write()).code == TransportErrorCode.PROTOCOL_VIOLATION
    server = wire.server()
    server.start()
    assert refuse(server, hello_of(wire).write() * 2).code == UNEXPECTED_MESSAGE


# Finished and after


@pytest.mark.parametrize(
    ("verify_data", "code"),
    [
        pytest.param(bytes(32), DECRYPT_ERROR, marks=pytest.mark.conformance("TLS10"), id="wrong"),
        (bytes(31), DECODE_ERROR),
        (b"", DECODE_ERROR),
    ],
)
def test_wrong_finished(wire: Any, verify_data: bytes, code: int) -> None:
    server = wire.server(cipher_suites=(0x1301,))
    server.start()
    server.receive(Epoch.INITIAL, hello_of(wire).write())
    server.take_events()
    assert refuse(server, Finished(verify_data).write(), Epoch.HANDSHAKE).code == code
    assert not server.is_complete
    assert server.take_events() == []


def test_nothing_is_expected_after_the_handshake(wire: Any) -> None:
    _, server = wire.run(wire.client(), wire.server())
    error = refuse(server, handshake_message(T.NEW_SESSION_TICKET, b""), Epoch.ONE_RTT)
    assert error.code == UNEXPECTED_MESSAGE
    assert "expected was no further message" in error.reason


def test_refused_transport_parameters_end_the_handshake(wire: Any) -> None:
    def refuse_parameters(peer: bytes | None) -> bytes:
        assert peer == b"client's"
        raise TransportError(TransportErrorCode.TRANSPORT_PARAMETER_ERROR, "no good")

    server = wire.server(transport_parameters=refuse_parameters)
    server.start()
    assert refuse(server, hello_of(wire).write()).code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR


def test_a_server_needs_a_certificate() -> None:
    with pytest.raises(ConfigurationError, match="set certificates"):
        ServerHandshake(TlsSettings(("h3",)), random=bytes, wall_time=lambda: 0.0, transport_parameters=lambda _: b"")

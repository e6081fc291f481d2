"""TLS messages that break a rule, sent in CRYPTO frames: the alert comes back in CONNECTION_CLOSE (RFC 9001 §4.8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from peer import HANDSHAKE, INITIAL, TO_SERVER, Pair, long_packet, opens_long

from quicstack.errors import ConnectionClosed
from quicstack.tls.extensions import ExtensionType, write_key_share_entry
from quicstack.tls.groups import SECP256R1, SECP384R1, X25519
from quicstack.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    HandshakeType,
    ServerHello,
    handshake_message,
)
from quicstack.train import Train
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.wire import frame as f

E, T = ExtensionType, HandshakeType
READERS: dict[int, Any] = {
    T.CLIENT_HELLO: ClientHello,
    T.SERVER_HELLO: ServerHello,
    T.ENCRYPTED_EXTENSIONS: EncryptedExtensions,
    T.CERTIFICATE_VERIFY: CertificateVerify,
    T.FINISHED: Finished,
}
Change = Callable[[bytes], bytes]

UNEXPECTED_MESSAGE, ILLEGAL_PARAMETER, DECODE_ERROR = 0x10A, 0x12F, 0x132
DECRYPT_ERROR, MISSING_EXTENSION, UNSUPPORTED_EXTENSION = 0x133, 0x16D, 0x16E


def messages(data: bytes) -> Iterator[bytes]:
    while data:
        end = 4 + int.from_bytes(data[1:4], "big")
        yield data[:end]
        data = data[end:]


def plant(state: Any, space: int, target: int, change: Change) -> None:
    """Change one of the messages that wait to be sent at a level."""
    outgoing = state.spaces[space].crypto.outgoing
    flight = list(messages(bytes(outgoing.get(0, outgoing.end))))
    assert target in [message[0] for message in flight]
    state.spaces[space].crypto = crypto = CryptoStream()
    crypto.outgoing.write(b"".join(change(message) if message[0] == target else message for message in flight))


def by_server(target: int, change: Change) -> int:
    """What the client's CONNECTION_CLOSE says to the server whose message is changed."""
    pair = Pair()
    pair.to_server(pair.from_client())
    plant(pair.server._state, INITIAL if target == T.SERVER_HELLO else HANDSHAKE, target, change)
    pair.exchange()
    return heard(pair.server)


def by_client(target: int, change: Change) -> int:
    """The same the other way round."""
    pair = Pair()
    if target == T.FINISHED:
        pair.to_server(pair.from_client())
        pair.to_client(pair.from_server())
    plant(pair.client._state, HANDSHAKE if target == T.FINISHED else INITIAL, target, change)
    pair.exchange()
    return heard(pair.client)


def heard(liar: Any) -> int:
    error = liar.closed
    assert isinstance(error, ConnectionClosed) and error.by_peer
    return error.code


def fields(**values: Any) -> Change:
    return lambda message: bytes(replace(READERS[message[0]].read(message[4:]), **values).write())


def extension(key: int, body: bytes) -> Change:
    def change(message: bytes) -> bytes:
        parsed = READERS[message[0]].read(message[4:])
        last = {E.PRE_SHARED_KEY: parsed.extensions[E.PRE_SHARED_KEY]} if E.PRE_SHARED_KEY in parsed.extensions else {}
        rest = {known: value for known, value in parsed.extensions.items() if known not in {key, *last}}
        return bytes(replace(parsed, extensions=rest | {key: body} | last).write())

    return change


def doubled(key: int) -> Change:
    """One extension two times, the block and the message longer by that much."""

    def change(message: bytes) -> bytes:
        parsed = READERS[message[0]].read(message[4:])
        size = sum(4 + len(value) for value in parsed.extensions.values())
        head, block = message[4 : -size - 2], message[-size:]
        extra = key.to_bytes(2, "big") + len(parsed.extensions[key]).to_bytes(2, "big") + parsed.extensions[key]
        return handshake_message(message[0], head + (size + len(extra)).to_bytes(2, "big") + extra + block)

    return change


def without(key: int) -> Change:
    def change(message: bytes) -> bytes:
        parsed = READERS[message[0]].read(message[4:])
        rest = {known: value for known, value in parsed.extensions.items() if known != key}
        return bytes(replace(parsed, extensions=rest).write())

    return change


def instead(message: bytes) -> Change:
    return lambda _: message


def cut(message: bytes) -> bytes:
    """One byte less, and a header that says so: what is inside reaches beyond the end."""
    return handshake_message(message[0], message[4:-1])


def trailing(message: bytes) -> bytes:
    return handshake_message(message[0], message[4:] + b"\x00")


@pytest.mark.conformance("TLS04")
@pytest.mark.parametrize(
    ("target", "change", "codes"),
    [
        pytest.param(T.SERVER_HELLO, extension(0xABCD, b""), {UNSUPPORTED_EXTENSION}, id="unknown in ServerHello"),
        pytest.param(T.SERVER_HELLO, extension(E.COOKIE, b"\0\1c"), {UNSUPPORTED_EXTENSION, ILLEGAL_PARAMETER},
                     id="cookie in ServerHello"),
        pytest.param(T.SERVER_HELLO, doubled(E.KEY_SHARE), {ILLEGAL_PARAMETER, DECODE_ERROR}, id="key_share twice"),
        pytest.param(T.ENCRYPTED_EXTENSIONS, extension(0xABCD, b""), {UNSUPPORTED_EXTENSION}, id="unknown in EE"),
        pytest.param(T.ENCRYPTED_EXTENSIONS, extension(E.KEY_SHARE, b""), {ILLEGAL_PARAMETER}, id="key_share in EE"),
        pytest.param(T.ENCRYPTED_EXTENSIONS, doubled(E.ALPN), {ILLEGAL_PARAMETER, DECODE_ERROR}, id="ALPN twice"),
    ],
)  # fmt: skip
def test_extensions_that_a_server_may_not_send(target: int, change: Change, codes: set[int]) -> None:
    """RFC 8446 §4.2: not asked for, not for this message, or sent twice."""
    assert by_server(target, change) in codes


@pytest.mark.conformance("TLS04")
@pytest.mark.parametrize(
    "change",
    [pytest.param(doubled(E.ALPN), id="twice"), pytest.param(extension(E.OID_FILTERS, b"\0\0"), id="misplaced")],
)
def test_extensions_that_a_client_may_not_send(change: Change) -> None:
    """RFC 8446 §4.2."""
    assert by_client(T.CLIENT_HELLO, change) in {ILLEGAL_PARAMETER, DECODE_ERROR}


@pytest.mark.conformance("TLS04b")
@pytest.mark.parametrize("change", [cut, trailing], ids=["cut", "trailing"])
@pytest.mark.parametrize(
    "target",
    [T.SERVER_HELLO, T.ENCRYPTED_EXTENSIONS, T.COMPRESSED_CERTIFICATE, T.CERTIFICATE_VERIFY, T.FINISHED],
    ids=lambda kind: HandshakeType(kind).name,
)
def test_messages_of_a_server_that_cannot_be_parsed(target: int, change: Change) -> None:
    """RFC 8446 §6: decode_error."""
    assert by_server(target, change) == DECODE_ERROR


@pytest.mark.conformance("TLS04b")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(cut, id="cut"),
        pytest.param(trailing, id="trailing"),
        pytest.param(fields(cipher_suites=()), id="no cipher suite"),
        pytest.param(extension(E.SUPPORTED_GROUPS, b"\x00\x01\x00"), id="half a group"),
        pytest.param(extension(E.KEY_SHARE, b"\x00\x08\x00\x1d\x00\x20\x00\x00\x00\x00"), id="key share too short"),
        pytest.param(extension(E.SERVER_NAME, b"\x00\x09\x00\x00\x03abc"), id="list longer than its extension"),
    ],
)
def test_messages_of_a_client_that_cannot_be_parsed(change: Change) -> None:
    """RFC 8446 §6: inner lengths beyond the end, vectors shorter than they may be."""
    assert by_client(T.CLIENT_HELLO, change) == DECODE_ERROR


@pytest.mark.conformance("TLS10")
@pytest.mark.parametrize("side", [by_client, by_server], ids=["client", "server"])
def test_a_finished_that_does_not_match(side: Callable[[int, Change], int]) -> None:
    """RFC 8446 §4.4.4: one bit of it."""
    assert side(T.FINISHED, lambda message: message[:-1] + bytes([message[-1] ^ 1])) == DECRYPT_ERROR


ZERO_SHARE = write_key_share_entry(X25519, bytes(32))
SHORT_SHARE = write_key_share_entry(X25519, bytes(31))
OTHER_SHARE = write_key_share_entry(SECP256R1, b"\x04" + bytes(64))


@pytest.mark.parametrize(
    ("target", "change", "code"),
    [
        pytest.param(T.SERVER_HELLO, fields(cipher_suite=0x1305), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS01"), id="cipher suite not offered"),
        pytest.param(T.SERVER_HELLO, extension(E.KEY_SHARE, OTHER_SHARE), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS01"), id="group not offered"),
        pytest.param(T.SERVER_HELLO, fields(legacy_session_id_echo=b"x"), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS01a"), id="session ID"),
        pytest.param(T.ENCRYPTED_EXTENSIONS, instead(Finished(bytes(32)).write()), UNEXPECTED_MESSAGE,
                     marks=pytest.mark.conformance("TLS02a"), id="Finished first"),
        pytest.param(T.CERTIFICATE_VERIFY, instead(Finished(bytes(32)).write()), UNEXPECTED_MESSAGE,
                     marks=pytest.mark.conformance("TLS02a"), id="Finished before CertificateVerify"),
        pytest.param(T.SERVER_HELLO, extension(E.KEY_SHARE, SHORT_SHARE), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS05"), id="short share"),
        pytest.param(T.SERVER_HELLO, extension(E.KEY_SHARE, ZERO_SHARE), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS05"), id="zero share"),
        pytest.param(T.COMPRESSED_CERTIFICATE, instead(Certificate(()).write()), DECODE_ERROR,
                     marks=pytest.mark.conformance("TLS08"), id="empty Certificate"),
        pytest.param(T.CERTIFICATE_VERIFY, fields(signature=bytes(64)), DECRYPT_ERROR,
                     marks=pytest.mark.conformance("TLS09"), id="wrong signature"),
        pytest.param(T.CERTIFICATE_VERIFY, fields(scheme=0x0401), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS09"), id="RSA-PKCS1"),
        pytest.param(T.CERTIFICATE_VERIFY, fields(scheme=0x0203), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS09"), id="SHA-1"),
    ],
)  # fmt: skip
def test_messages_of_a_server_that_make_no_sense(target: int, change: Change, code: int) -> None:
    """RFC 8446 §4.1.3, §4.2.8, §4.4."""
    assert by_server(target, change) == code


def key_share(entry: bytes) -> Change:
    return extension(E.KEY_SHARE, len(entry).to_bytes(2, "big") + entry)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(fields(legacy_compression_methods=b"\x01\x00"), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS01b"), id="compression"),
        pytest.param(fields(legacy_compression_methods=b"\x00\x00"), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS01b"), id="no compression, twice"),
        pytest.param(lambda message: message + message, UNEXPECTED_MESSAGE,
                     marks=pytest.mark.conformance("TLS02a"), id="a second ClientHello"),
        pytest.param(without(E.SIGNATURE_ALGORITHMS), MISSING_EXTENSION,
                     marks=pytest.mark.conformance("TLS04a"), id="no signature_algorithms"),
        pytest.param(without(E.SUPPORTED_GROUPS), MISSING_EXTENSION,
                     marks=pytest.mark.conformance("TLS04a"), id="no supported_groups"),
        pytest.param(without(E.KEY_SHARE), MISSING_EXTENSION,
                     marks=pytest.mark.conformance("TLS04a"), id="no key_share"),
        pytest.param(key_share(SHORT_SHARE), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS05"), id="short share"),
        pytest.param(key_share(ZERO_SHARE), ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS05"), id="zero share"),
    ],
)  # fmt: skip
def test_messages_of_a_client_that_make_no_sense(change: Change, code: int) -> None:
    """RFC 8446 §4.1.2, §4.2.8, §9.2."""
    assert by_client(T.CLIENT_HELLO, change) == code


def hello_retry_request(group: int | None) -> bytes:
    extensions = {E.SUPPORTED_VERSIONS: b"\x03\x04"}
    if group is not None:
        extensions[E.KEY_SHARE] = group.to_bytes(2, "big")
    return ServerHello(HELLO_RETRY_REQUEST_RANDOM, 0x1301, dict(extensions)).write()


def server_hello(share: bytes) -> bytes:
    return ServerHello(bytes(32), 0x1301, {E.SUPPORTED_VERSIONS: b"\x03\x04", E.KEY_SHARE: share}).write()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param([hello_retry_request(SECP256R1)] * 2, UNEXPECTED_MESSAGE,
                     marks=pytest.mark.conformance("TLS02"), id="a second"),
        pytest.param([hello_retry_request(X25519)], ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS03"), id="a group with a share"),
        pytest.param([hello_retry_request(SECP384R1)], ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS03"), id="a group not offered"),
        pytest.param([hello_retry_request(None)], ILLEGAL_PARAMETER,
                     marks=pytest.mark.conformance("TLS03"), id="no change"),
        pytest.param([hello_retry_request(SECP256R1), server_hello(write_key_share_entry(X25519, bytes(31) + b"\x01"))],
                     ILLEGAL_PARAMETER, marks=pytest.mark.conformance("TLS01"), id="another group afterwards"),
    ],
)  # fmt: skip
def test_hello_retry_requests_that_make_no_sense(sent: list[bytes], code: int) -> None:
    """RFC 8446 §4.1.4, §4.2.8."""
    pair = Pair(client={"groups": (X25519, SECP256R1)})
    pair.to_server(pair.from_client())
    state = pair.server._state
    at = 0
    codes: list[object] = []
    for number, message in enumerate(sent):
        assert not codes
        data = long_packet(state, INITIAL, f.write_crypto(at, message), number=number)
        at += len(message)
        pair.to_client([Train(data, len(data), TO_SERVER)])
        for answer in pair.from_client():
            for _, frames in opens_long(state, answer.data):
                codes += [frame.fields["error_code"] for frame in frames if frame.name == "CONNECTION_CLOSE"]
    assert codes == [code]


def test_a_hello_retry_request_that_makes_sense() -> None:
    """RFC 8446 §4.1.4: is answered by another ClientHello, and that is all."""
    pair = Pair(client={"groups": (X25519, SECP256R1)})
    pair.to_server(pair.from_client())
    state = pair.server._state
    data = long_packet(state, INITIAL, f.write_crypto(0, hello_retry_request(SECP256R1)), number=0)
    pair.to_client([Train(data, len(data), TO_SERVER)])
    hellos = b""
    for sent in pair.from_client():
        for _, frames in opens_long(state, sent.data):
            hellos += b"".join(bytes(frame.fields["data"]) for frame in frames if frame.name == "CRYPTO")  # type: ignore[call-overload]
    assert hellos[0] == T.CLIENT_HELLO and len(list(messages(hellos))) == 1
    assert pair.client.closed is None

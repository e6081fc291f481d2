"""Attacks by way of TLS: messages cut and glued, keys and certificates that are none, names that are meant to mislead.

Where a message has to be altered the handshake runs without packets (``wire`` of ``tests/tls``); the rest over QUIC.
"""

from __future__ import annotations

import hashlib
import logging
import random
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from measure import calls
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet

from quicstack.config import Configuration
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import CertificateError, ConnectionClosed, TransportError, TransportErrorCode
from quicstack.tls import certificate_path
from quicstack.tls.alerts import Alert
from quicstack.tls.certificate import CertificateStore
from quicstack.tls.extensions import ExtensionType, write_alpn, write_key_share_entries
from quicstack.tls.groups import available_groups
from quicstack.tls.handshake import Handshake
from quicstack.tls.messages import (
    Certificate,
    CertificateEntry,
    ClientHello,
    CompressedCertificate,
    HandshakeType,
    NewSessionTicket,
)
from quicstack.tls.presentation import number
from quicstack.tls.trust import Trust
from quicstack.train import Train
from quicstack.wire import frame as f

E = TransportErrorCode
CRYPTO_ERROR = 0x100


def alert(error: object) -> int:
    code = getattr(error, "code", -1)
    return int(code) - CRYPTO_ERROR


def altered_hello(change: Callable[[ClientHello], None], **client: Any) -> Pair:
    """A server that has read the ClientHello of a client, changed by somebody."""
    pair = Pair(client=client)
    outgoing = pair.client._state.spaces[INITIAL].crypto.outgoing
    hello = ClientHello.read(bytes(outgoing.get(4, outgoing.end)))
    change(hello)
    data = hello.write()
    pieces = [f.write_crypto(start, data[start : start + 1000]) for start in range(0, len(data), 1000)]
    for n, piece in enumerate(pieces):
        packet = long_packet(pair.client._state, INITIAL, piece, number=10 + n, pad_to=1200)
        pair.to_server([Train(packet, len(packet), TO_CLIENT)])
    return pair


@pytest.mark.attack("GHSA-w7c8-wjx9-vvvv (CVE-2024-45402)", "fuzz-key-share-length")
@pytest.mark.parametrize("group", [0x1D, 0x17, 0x18, 0x11EC], ids=hex)
@pytest.mark.parametrize("length", [1, 31, 33, 64, 65, 66, 1215, 5000])
def test_key_shares_of_any_length(group: int, length: int) -> None:
    """RFC 8446 §4.2.8: illegal_parameter unless the length is the group's, and then unless the bytes are a key."""
    if group not in available_groups():
        pytest.skip("install a cryptography with ML-KEM")

    def change(hello: ClientHello) -> None:
        hello.extensions[ExtensionType.SUPPORTED_GROUPS] = b"\x00\x02" + group.to_bytes(2, "big")
        hello.extensions[ExtensionType.KEY_SHARE] = write_key_share_entries({group: b"\x04" * length})

    pair = altered_hello(change)
    assert alert(pair.server.closed) == Alert.ILLEGAL_PARAMETER
    if length != {0x17: 65}.get(group):
        assert f"key share is {length} bytes long" in str(pair.server.closed)
    assert pair.server.internal_error is None


@pytest.mark.attack("CVE-2024-11738")
@pytest.mark.parametrize("sender", ["client", "server"])
def test_hellos_cut_anywhere(sender: str) -> None:
    """RFC 8446 §5.1, RFC 9000 §19.6: two CRYPTO frames, with the cut anywhere, in either order."""
    whole = Pair()
    source = whole.client
    if sender == "server":
        whole.to_server(whole.from_client())
        source = whole.server
    outgoing = source._state.spaces[INITIAL].crypto.outgoing
    hello = bytes(outgoing.get(0, outgoing.end))
    for cut in range(1, len(hello), 3 if sender == "server" else 11):
        pair = Pair()
        packets = [f.write_crypto(0, hello[:cut]), f.write_crypto(cut, hello[cut:])]
        if sender == "server":
            pair.to_server(pair.from_client())
            pair.from_server()
        for n, frame in enumerate(packets if cut % 2 else packets[::-1]):
            state = pair.client._state if sender == "client" else pair.server._state
            packet = long_packet(state, INITIAL, frame, number=10 + n, pad_to=1200)
            (pair.to_server if sender == "client" else pair.to_client)([Train(packet, len(packet), TO_CLIENT)])
        receiver = pair.server if sender == "client" else pair.client
        assert receiver.closed is None
        assert receiver._state.spaces[HANDSHAKE].open_keys is not None, cut


@pytest.mark.attack("CVE-2023-39321")
def test_half_a_message_after_the_handshake() -> None:
    """RFC 8446 §4.6.1: it waits for its other half, and the connection goes on meanwhile."""
    peer = Peer("server")
    offset = peer.engine._state.spaces[ONE_RTT].crypto.incoming.end
    message = NewSessionTicket(7200, 0, b"", b"ticket", {}).write()
    for cut in range(1, len(message)):
        peer.sends(f.write_crypto(offset, message[:cut]))
        peer.sends(f.stream_header(3, 0, 0, False))
        assert peer.engine.closed is None
        peer.sends(f.write_crypto(offset + cut, message[cut:]))
        offset += len(message)
    peer.sends(f.write_crypto(offset, message[:-1]), f.write_connection_close(0, b"", 0))
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed) and error.by_peer and error.code == 0


@pytest.mark.attack("CVE-2025-61730")
@pytest.mark.parametrize("after", ["ClientHello", "ServerHello", "the server's Finished", "the client's Finished"])
def test_bytes_left_over_when_the_keys_change(wire: Any, after: str) -> None:
    """RFC 8446 §5.1, RFC 9001 §4.1.3: a message may neither span a change of keys nor follow it at the old level."""
    kind = {"ClientHello": HandshakeType.CLIENT_HELLO, "ServerHello": HandshakeType.SERVER_HELLO}.get(
        after, HandshakeType.FINISHED
    )
    client, server = wire.client(), wire.server()

    def alter(sender: Handshake, data: bytes) -> bytes:
        mine = sender is (client if "lient" in after else server)
        return data + b"\x04\x00" if mine and data[0] == kind else data

    with pytest.raises(TransportError) as raised:
        wire.run(client, server, alter=alter)
    assert alert(raised.value) == Alert.UNEXPECTED_MESSAGE or raised.value.code == E.PROTOCOL_VIOLATION
    assert "bytes follow" in str(raised.value)


@pytest.mark.attack("CVE-2025-61730")
def test_crypto_data_at_a_level_that_is_over() -> None:
    """RFC 9001 §4.1.3: an Initial may still come when the Handshake level is being read; nothing new may be in it."""
    pair = Pair()
    pair.to_server(pair.from_client())
    state = pair.client._state
    offset = pair.server._state.spaces[INITIAL].crypto.incoming.end
    packet = long_packet(state, INITIAL, f.write_crypto(offset, b"\x14\x00"), number=10, pad_to=1200)
    pair.to_server([Train(packet, len(packet), TO_CLIENT)])
    assert getattr(pair.server.closed, "code", None) == E.PROTOCOL_VIOLATION


@pytest.mark.attack("CVE-2025-58189")
def test_protocol_names_that_forge_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    """What a stranger wrote is printable in messages, and cut; on the wire the reason is short as well."""
    evil = b"h3\n2026-01-01 \x1b[31mroot logged in\x00"

    def change(hello: ClientHello) -> None:
        hello.extensions[ExtensionType.ALPN] = write_alpn([evil, *[bytes([65 + n]) * 255 for n in range(40)]])

    with caplog.at_level(logging.DEBUG):
        pair = altered_hello(change)
        error = pair.server.closed
        assert isinstance(error, ConnectionClosed) and alert(error) == Alert.NO_APPLICATION_PROTOCOL
    for text in (str(error), error.reason):
        assert text.isprintable() and len(text) < 700
    peer = Peer()
    peer.sends(f.write_connection_close(7, b"\nroot logged in\x1b[0m" + b"x" * 900, None))
    closed = peer.engine.closed
    assert isinstance(closed, ConnectionClosed) and closed.reason.startswith("\nroot")
    assert str(closed).isprintable() and len(str(closed)) < 700


def nested(depth: int, tag: int = 0x30) -> bytes:
    """SEQUENCEs in one another."""
    data = b"\x05\x00"
    for _ in range(depth):
        size = len(data)
        head = (
            bytes((size,)) if size < 128 else b"\x82" + size.to_bytes(2, "big") if size > 255 else bytes((0x81, size))
        )
        data = bytes((tag,)) + head + data
    return data


@pytest.mark.attack("CVE-2026-45271 + GHSA-w68q")
@pytest.mark.parametrize("where", ["instead of the certificate", "as an extension", "as a name", "indefinite lengths"])
def test_asn1_that_goes_deep(wire: Any, authority: Any, where: str) -> None:
    """Thousands of levels are an alert, in client and server alike: no recursion follows them."""
    key = authority.key()
    deep = nested(8000)
    if where == "as an extension":
        unknown = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, deep)
        data = authority.certificate(names=None, extensions=[(unknown, False)], key=key).public_bytes(Encoding.DER)
    elif where == "as a name":
        good = authority.certificate(key=key).public_bytes(Encoding.DER)
        at = good.index(b"\x30", 20)
        data = good[:at] + deep + good[at:]
    else:
        data = deep if where == "instead of the certificate" else b"\x30\x80" * 8000
    message = Certificate((CertificateEntry(data),)).write()

    def alter(sender: Handshake, sent: bytes) -> bytes:
        return message if sent[0] == HandshakeType.CERTIFICATE else sent

    with pytest.raises(TransportError) as raised:
        wire.run(wire.client(), wire.server(), alter=alter)
    assert alert(raised.value) in (Alert.BAD_CERTIFICATE, Alert.UNSUPPORTED_CERTIFICATE, Alert.DECODE_ERROR)


@pytest.mark.attack("CVE-2024-32650")
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE])
def test_a_close_in_the_middle_of_the_handshake(space: int) -> None:
    """RFC 9000 §10.2: it ends things for good, in silence, and whoever asks on gets the same answer at once."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    close = f.write_connection_close(CRYPTO_ERROR + Alert.CLOSE_NOTIFY, b"", 0)
    packet = long_packet(pair.client._state, space, close, number=40, pad_to=1200)
    server = pair.server
    pair.to_server([Train(packet, len(packet), TO_CLIENT)] * 3)
    assert isinstance(server.closed, ConnectionClosed) and server.closed.by_peer

    def ask() -> None:
        for _ in range(50):
            assert pair.from_server() == []
            pair.server_endpoint.handle_timeout(pair.now)

    assert calls(ask) < 5000
    pair.advance(20)
    assert not pair.server_endpoint.connections and pair.server_endpoint.next_timeout() is None


CA = (x509.BasicConstraints(True, None), True)


@pytest.mark.attack("RUSTSEC-2023-0053")
def test_certificates_that_all_issue_one_another(authority: Any, now: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work for a chain of at most 16 is bounded, also if each step can be made in as many ways as are allowed."""
    looked_at = 0
    permits = certificate_path._may_sign_certificates

    def counting(*arguments: Any) -> None:
        nonlocal looked_at
        looked_at += 1
        permits(*arguments)

    monkeypatch.setattr(certificate_path, "_may_sign_certificates", counting)
    usage = (x509.KeyUsage(True, False, False, False, False, True, False, False, False), True)
    keys = [authority.key("p256", f"cross {n}") for n in range(8)]
    issuer = authority.certificate("same", key=keys[0], names=None, extensions=[CA, usage])
    chain = []
    for level in range(7):
        for _ in range(2):
            chain.append(
                authority.certificate(
                    "same", key=keys[level], issuer=(issuer, keys[level + 1]), names=None, extensions=[CA, usage]
                )
            )
    leaf = authority.certificate("leaf", key=authority.key(), issuer=(issuer, keys[0]))
    root = authority.root()[0]
    with pytest.raises(CertificateError):
        Trust.roots(root).verify([leaf, *chain], "localhost", now)
    assert 0 < looked_at < 4000
    with pytest.raises(CertificateError, match="at most 15"):
        Trust.roots(root).verify([leaf, *chain, *[authority.certificate(f"{n}") for n in range(9)]], "localhost", now)


@pytest.mark.attack("GHSA-gv8r / CVE-2026-53622")
@pytest.mark.parametrize("name", ["secret.example", "SECRET.example", "Secret.Example.", "x.Wild.EXAMPLE"])
def test_names_in_any_case_find_the_same_settings(name: str, authority: Any) -> None:
    """RFC 6066 §3: one look-up for every transport, small letters, without the last dot, wildcards included."""
    plain, _ = authority.server()
    special, _ = authority.server(names=("secret.example", "*.wild.example"))
    asked: list[str | None] = []

    def remember(host: str | None) -> None:
        asked.append(host)

    store = CertificateStore(plain, by_name={"Secret.example": special, "*.wild.EXAMPLE": special},
                             select_by_name=remember)  # fmt: skip
    chosen, _ = store.select(name, tuple(plain.schemes))
    assert chosen is special
    assert asked == [name.lower().rstrip(".")]


PRIVATE_NAMES = ("127.0.0.1", "::1", "localhost", "example.org")
"""What the certificate of this test is for is one of these; the client asks for each."""


@pytest.mark.attack("CVE-2024-2379, CVE-2025-4947, CVE-2025-5025")
@pytest.mark.parametrize("covered", PRIVATE_NAMES)
def test_the_name_is_checked_for_hosts_and_addresses_alike(authority: Any, covered: str) -> None:
    """RFC 6125, RFC 9110 §4.3.4, over QUIC: the client goes on with the name that is covered, and with no other."""
    shown, root = authority.server(names=(covered,))
    for asked in (*PRIVATE_NAMES, "127.0.0.2", "localhost.example.org"):
        pair = connected(shown, Trust.roots(root), asked, authority_now(authority))
        if asked == covered:
            assert pair.client.handshake_confirmed, (asked, pair.client.closed)
        else:
            assert isinstance(pair.client.closed, CertificateError) and not pair.client.handshake_complete
            assert pair.client.closed.check == "name"
            assert alert(pair.server.closed) == Alert.BAD_CERTIFICATE


@pytest.mark.attack("CVE-2024-2379, CVE-2025-4947, CVE-2025-5025")
def test_pins_and_roots_are_checked(authority: Any) -> None:
    """A certificate of another authority, or with another hash than the one expected, is refused over QUIC."""
    shown, root = authority.server()
    stranger = authority.certificate("stranger", key=authority.key("p256", "stranger"), names=None)
    pin = hashlib.sha256(shown.chain[0]).digest()
    moment = authority_now(authority)
    for trust, good in (
        (Trust.roots(root), True),
        (Trust.roots(stranger), False),
        (Trust.hashes([pin]), True),
        (Trust.hashes([bytes(32), pin[:31] + bytes((pin[31] ^ 1,))]), False),
        (Trust.system(), False),
    ):
        pair = connected(shown, trust, "localhost", moment)
        assert pair.client.handshake_confirmed is good, trust
        assert good or isinstance(pair.client.closed, CertificateError)


def authority_now(authority: Any) -> float:
    """A moment at which what it issues is valid."""
    leaf: x509.Certificate = authority.certificate()
    return leaf.not_valid_before_utc.timestamp() + 86_400


def connected(shown: Any, trust: Trust, server_name: str, moment: float) -> Pair:
    """What a client makes of a server with this certificate, over QUIC."""
    pair = Pair()
    at = Environment(random.Random(3).randbytes, lambda: moment, simulation=True)
    pair.client_endpoint = Endpoint(client_configuration_with(trust, server_name), environment=at, server=False)
    pair.server_endpoint = Endpoint(
        Configuration(alpn_protocols=("test",), certificates=CertificateStore(shown)), environment=at, server=True
    )
    pair.client = pair.client_endpoint.connect(TO_SERVER, pair.now)
    pair.exchange()
    return pair


def client_configuration_with(trust: Trust, server_name: str) -> Configuration:
    return Configuration(alpn_protocols=("test",), trust=trust, server_name=server_name)


@pytest.mark.attack("c: large certificate / cert-compression bomb")
def test_certificates_without_end(wire: Any) -> None:
    """RFC 8446 §4.4.2, RFC 8879 §5: ten megabytes of chain are refused by their header; a bomb, when it explodes."""
    chain = number(HandshakeType.CERTIFICATE, 1) + number(10 << 20, 3) + bytes(1000)
    body = Certificate(tuple(CertificateEntry(bytes(60_000)) for _ in range(70))).write()[4:]
    packed = zlib.compress(body)
    lies = CompressedCertificate(1, 1000, packed).write()
    honest = CompressedCertificate(1, len(body), packed).write()
    assert len(lies) < 20_000 and len(body) > 4 << 20

    for message, code in (
        (chain, E.CRYPTO_BUFFER_EXCEEDED),
        (lies, CRYPTO_ERROR + Alert.BAD_CERTIFICATE),
        (honest, CRYPTO_ERROR + Alert.BAD_CERTIFICATE),
    ):
        client, server = wire.client(certificate_compression=(1,)), wire.server()

        def alter(sender: Handshake, sent: bytes, message: bytes = message) -> bytes:
            return message if sent[0] in (HandshakeType.CERTIFICATE, HandshakeType.COMPRESSED_CERTIFICATE) else sent

        tracemalloc.start()
        try:
            with pytest.raises(TransportError) as raised:
                wire.run(client, server, alter=alter)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert raised.value.code == code
        assert peak < 2 << 20

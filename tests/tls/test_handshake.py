"""Both sides together: every combination, any cut of the bytes, the order of events, and garbage."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes

from quicstack.errors import ConfigurationError, TransportError, TransportErrorCode
from quicstack.tls.certificate import CertificateStore
from quicstack.tls.epoch import Epoch
from quicstack.tls.groups import X25519MLKEM768, available_groups, group_name
from quicstack.tls.handshake import (
    MAX_MESSAGE,
    Handshake,
    HandshakeComplete,
    NewKeys,
    Output,
    PeerTransportParameters,
    TlsEvent,
)
from quicstack.tls.key_schedule import CIPHER_SUITES
from quicstack.tls.messages import HandshakeType, handshake_message
from quicstack.tls.trust import Trust

SUITES = sorted(CIPHER_SUITES)
CLASSIC = tuple(group for group in available_groups() if group != X25519MLKEM768)


def secrets(events: list[TlsEvent]) -> set[tuple[Epoch, bool, bytes]]:
    return {(event.epoch, event.is_write, event.secret) for event in events if isinstance(event, NewKeys)}


def check_agreement(wire: Any, client: Handshake, server: Handshake) -> None:
    assert client.is_complete
    assert server.is_complete
    mirrored = {(epoch, not is_write, secret) for epoch, is_write, secret in secrets(wire.events[server])}
    assert secrets(wire.events[client]) == mirrored
    assert len(mirrored) == 4
    assert (client.cipher_suite, client.group, client.alpn_protocol, client.client_random) == (
        server.cipher_suite,
        server.group,
        server.alpn_protocol,
        server.client_random,
    )


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
@pytest.mark.parametrize("group", available_groups(), ids=group_name)
@pytest.mark.parametrize("suite", SUITES)
def test_every_combination(wire: Any, authority: Any, suite: int, group: int, kind: str) -> None:
    certificate_key, root = authority.server(kind)
    client = wire.client(cipher_suites=(suite,), groups=(group,), trust=Trust.roots(root))
    server = wire.server(certificates=CertificateStore(certificate_key))
    wire.run(client, server)
    check_agreement(wire, client, server)
    assert client.cipher_suite == CIPHER_SUITES[suite]
    assert client.group_name == group_name(group)
    assert client.peer_certificates == certificate_key.certificates


@pytest.mark.parametrize(("client_groups", "server_groups"), [(CLASSIC, CLASSIC[::-1]), (CLASSIC[::-1], CLASSIC)])
def test_hello_retry_request(wire: Any, client_groups: tuple[int, ...], server_groups: tuple[int, ...]) -> None:
    wanted = server_groups[:1]
    client, server = wire.run(wire.client(groups=client_groups), wire.server(groups=wanted))
    check_agreement(wire, client, server)
    assert client.group == wanted[0]
    kinds = [message[0] for message in wire.messages]
    assert kinds[:4] == [
        HandshakeType.CLIENT_HELLO,
        HandshakeType.SERVER_HELLO,
        HandshakeType.CLIENT_HELLO,
        HandshakeType.SERVER_HELLO,
    ]


def test_no_retry_when_a_lesser_group_has_a_share(wire: Any) -> None:
    client, server = wire.run(wire.client(groups=CLASSIC), wire.server(groups=CLASSIC[::-1]))
    check_agreement(wire, client, server)
    assert client.group == CLASSIC[0]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_messages_in_pieces(wire: Any, chunk: int) -> None:
    client, server = wire.run(wire.client(), wire.server(), chunk=chunk)
    check_agreement(wire, client, server)


def test_events_of_the_client(wire: Any) -> None:
    client, _ = wire.run(wire.client(), wire.server())
    shape = [describe(event) for event in wire.events[client]]
    assert shape == [
        "send INITIAL",
        "write HANDSHAKE",
        "read HANDSHAKE",
        "parameters",
        "send HANDSHAKE",
        "write ONE_RTT",
        "read ONE_RTT",
        "complete",
    ]
    assert PeerTransportParameters(b"server's for client's") in wire.events[client]


def test_events_of_the_server(wire: Any) -> None:
    """RFC 9001 §5.7: 1-RTT data can be sent with the Finished, and read after the client's."""
    _, server = wire.run(wire.client(), wire.server())
    shape = [describe(event) for event in wire.events[server]]
    assert shape == [
        "send INITIAL",
        "write HANDSHAKE",
        "read HANDSHAKE",
        *["send HANDSHAKE"] * 4,
        "write ONE_RTT",
        "read ONE_RTT",
        "complete",
    ]


def describe(event: TlsEvent) -> str:
    match event:
        case Output(epoch=epoch):
            return f"send {epoch.name}"
        case NewKeys(epoch=epoch, is_write=is_write):
            return f"{'write' if is_write else 'read'} {epoch.name}"
        case PeerTransportParameters():
            return "parameters"
        case HandshakeComplete():
            return "complete"


def test_same_randomness_same_bytes(authority: Any, wire: Any) -> None:
    """What the simulator stands on; ML-KEM encapsulation is the exception that the groups module names."""
    runs = []
    for _ in range(2):
        wire.messages.clear()
        wire.run(wire.client(groups=CLASSIC), wire.server())
        runs.append(list(wire.messages))
    assert runs[0] == runs[1]
    assert wire.client_hello() == wire.client_hello()
    assert wire.client_hello() != wire.client_hello(seed=7)


def test_key_log(wire: Any) -> None:
    """RFC 9850 §2: what a packet analyser needs, the same on both sides."""
    logs: list[list[str]] = [[], []]
    client, server = wire.client(keylog=logs[0].append), wire.server(keylog=logs[1].append)
    wire.run(client, server)
    assert logs[0] == logs[1]
    assert [line.split()[0] for line in logs[0]] == [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    ]
    logged = {line.split()[2] for line in logs[0][:4]}
    assert logged == {secret.hex() for _, _, secret in secrets(wire.events[client])}
    assert all(line.split()[1] == client.client_random.hex() for line in logs[0])


def failure(handshake: Handshake, epoch: Epoch, data: bytes) -> TransportError:
    with pytest.raises(TransportError) as caught:
        handshake.receive(epoch, data)
    return caught.value


def test_data_at_another_level(wire: Any) -> None:
    client, server = wire.run(wire.client(), wire.server())
    for handshake in (client, server):
        error = failure(handshake, Epoch.INITIAL, b"\x01")
        assert error.code == TransportErrorCode.PROTOCOL_VIOLATION
        assert error.reason == "CRYPTO data at level INITIAL, expected at ONE_RTT"
    fresh = wire.server()
    fresh.start()
    fresh.receive(Epoch.HANDSHAKE, b"")
    assert failure(fresh, Epoch.EARLY_DATA, b"\x01").code == TransportErrorCode.PROTOCOL_VIOLATION


@pytest.mark.conformance("C04")
def test_bytes_left_over_when_keys_change(wire: Any) -> None:
    """RFC 8446 §5.1: a message may not span a key change. CVE-2025-61730 is what happens otherwise."""
    server = wire.server()
    server.start()
    error = failure(server, Epoch.INITIAL, wire.client_hello() + b"\x14")
    assert error.code == 0x10A
    assert "expected them at HANDSHAKE" in error.reason


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_message_out_of_order_is_refused_by_its_type_alone(wire: Any, side: str) -> None:
    handshake = getattr(wire, side)()
    handshake.start()
    error = failure(handshake, Epoch.INITIAL, handshake_message(HandshakeType.FINISHED, b"")[:4])
    assert error.code == 0x10A
    assert error.reason.startswith("Finished was sent, expected was ")
    assert failure(handshake, Epoch.INITIAL, b"") is error


@pytest.mark.conformance("TLS12")
def test_a_huge_message_is_refused_by_its_length_alone(wire: Any) -> None:
    server = wire.server()
    server.start()
    server.receive(Epoch.INITIAL, b"\x01" + (MAX_MESSAGE - 4).to_bytes(3, "big"))
    server = wire.server()
    server.start()
    error = failure(server, Epoch.INITIAL, b"\x01" + (MAX_MESSAGE - 3).to_bytes(3, "big"))
    assert error.code == TransportErrorCode.CRYPTO_BUFFER_EXCEEDED


@pytest.mark.parametrize(
    "message_type",
    [
        pytest.param(HandshakeType.KEY_UPDATE, marks=pytest.mark.conformance("C20"), id="KeyUpdate"),
        HandshakeType.END_OF_EARLY_DATA,
        77,
    ],
)
@pytest.mark.parametrize("completed", [False, True])
def test_messages_that_quic_forbids(wire: Any, completed: bool, message_type: int) -> None:
    """RFC 9001 §6, §8.3."""
    client, server = wire.client(), wire.server()
    if completed:
        wire.run(client, server)
    else:
        client.start()
        server.start()
        wire.carry(client, server)
    data = handshake_message(message_type, b"\x00")
    error = failure(server, Epoch.ONE_RTT if completed else Epoch.HANDSHAKE, data)
    assert error.code == 0x10A


@pytest.mark.parametrize("message", range(7))
def test_mutated_bytes_raise_transport_error_and_nothing_else(wire: Any, authority: Any, message: int) -> None:
    """Flip, cut, insert and double bytes in each message in turn, so that every reader sees garbage."""
    chance = random.Random(message)
    certificate_key, root = authority.server("rsa" if message % 2 else "p256")
    leaf = certificate_key.certificates[0]
    trusts = [Trust.roots(root), Trust.insecure(), Trust.hashes([leaf.fingerprint(hashes.SHA256())])]
    refused = 0
    for round_number in range(120):
        seen = itertools.count()

        def alter(sender: Handshake, data: bytes, seen: itertools.count[int] = seen, target: int = message) -> bytes:
            return mutate(data, chance) if next(seen) == target else data

        client = wire.client(groups=CLASSIC, trust=trusts[round_number % 3])
        server = wire.server(certificates=CertificateStore(certificate_key))
        try:
            wire.run(client, server, alter=alter)
            refused += not (client.is_complete and server.is_complete)
        except TransportError:
            refused += 1
    assert refused == 120


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One to three edits; the length in the header is mostly mended, so that the body is read."""
    changed = bytearray(data)
    while changed == data:
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(min(len(changed), 120) if chance.random() < 0.5 else len(changed))
            match chance.randrange(4):
                case 0:
                    changed[at] ^= 1 << chance.randrange(8)
                case 1:
                    changed[at] = chance.choice([0, 1, 0x7F, 0xFF])
                case 2:
                    changed[at:at] = chance.randbytes(chance.randint(1, 4))
                case 3 if len(changed) > 8:
                    del changed[at : at + chance.randint(1, 4)]
        if chance.random() < 0.7 and len(changed) >= 4:
            changed[1:4] = (len(changed) - 4).to_bytes(3, "big")
    return bytes(changed)


def test_export(wire: Any) -> None:
    """RFC 8446 §7.5: the same on both sides, another for every label, context and length, and for every connection."""
    client, server = wire.run(wire.client(), wire.server())
    exported = client.export("EXPORTER-test", b"context", 32)
    assert server.export("EXPORTER-test", b"context", 32) == exported
    others = [
        client.export("EXPORTER-tesu", b"context", 32),
        client.export("EXPORTER-test", b"", 32),
        client.export("EXPORTER-test", b"context", 33)[:32],
        wire.run(wire.client(3), wire.server(4))[0].export("EXPORTER-test", b"context", 32),
    ]
    assert len({exported, *others}) == 5
    assert len(client.export("EXPORTER-test", b"", 255 * 32)) == 255 * 32


@pytest.mark.parametrize(("label", "length"), [("", 32), ("x" * 250, 32), ("ä", 32), ("x", 0), ("x", 255 * 32 + 1)])
def test_what_cannot_be_exported(wire: Any, label: str, length: int) -> None:
    client, _ = wire.run(wire.client(), wire.server())
    with pytest.raises(ConfigurationError, match="export"):
        client.export(label, b"", length)


def test_nothing_is_exported_before_the_end(wire: Any) -> None:
    client, server = wire.client(), wire.server()
    client.start()
    server.start()
    wire.carry(client, server)
    for side in (client, server):
        with pytest.raises(ConfigurationError, match="only when the handshake is complete"):
            side.export("EXPORTER-test", b"", 32)


def test_a_server_with_many_certificates(wire: Any, authority: Any) -> None:
    """Name and signature schemes of the ClientHello decide which certificate the client sees."""
    (ecdsa, _), (rsa, _) = authority.server("p256"), authority.server("rsa")
    other, _ = authority.server("ed25519", names=("any.example",))
    store = CertificateStore([ecdsa, rsa], by_name={"*.example": other})
    for settings, expected in (
        ({}, ecdsa),
        ({"signature_schemes": (0x0804, 0x0403)}, ecdsa),
        ({"signature_schemes": (0x0804, 0x0401)}, rsa),
        ({"server_name": "any.example"}, other),
    ):
        client, _ = wire.run(wire.client(**settings), wire.server(certificates=store))
        assert client.is_complete
        assert client.peer_certificates == expected.certificates

"""Sessions, tickets and pre-shared keys (RFC 8446 §2.2, §4.2.9-§4.2.11, §4.6.1, §8): both sides against each other, and
against the vectors of RFC 8448 §4."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.replay_guard import WINDOW, MemoryReplayGuard
from quicstack.tls.alerts import Alert
from quicstack.tls.client import ClientHandshake
from quicstack.tls.epoch import Epoch
from quicstack.tls.extensions import ExtensionType as E
from quicstack.tls.extensions import OfferedPsks, read_pre_shared_key
from quicstack.tls.handshake import EarlyDataSettled, Handshake, NewKeys, NewSession
from quicstack.tls.key_schedule import CIPHER_SUITES, KeySchedule, Transcript
from quicstack.tls.messages import ClientHello, EncryptedExtensions, NewSessionTicket, ServerHello, handshake_message
from quicstack.tls.presentation import number, vector
from quicstack.tls.psk import check_binder, early_secrets, resumption_psk, write_pre_shared_key
from quicstack.tls.server import ServerHandshake
from quicstack.tls.session import MAX_LIFETIME, Session, usable_session
from quicstack.tls.settings import TlsSettings
from quicstack.tls.tickets import Ticket, TicketKeys
from quicstack.tls.trust import Trust

DAY = 86400.0
ECH_KEY = X25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw()
ECH_CONFIG = number(1, 1) + number(0x20, 2) + vector(2, ECH_KEY) + vector(2, b"\0\1\0\1") + b"\0"
ECH_CONFIG += vector(1, b"public.example") + vector(2, b"")
ECH_LIST = vector(2, number(0xFE0D, 2) + vector(2, ECH_CONFIG))
AES_128, AES_256, CHACHA = CIPHER_SUITES


class Policy:
    """A transport that has nothing against anything, but takes each ticket once."""

    def __init__(self, now: float) -> None:
        self.guard = MemoryReplayGuard(now)
        self.now = now

    def may_resume(self, context: bytes) -> bool:
        return context == b"context"

    def may_take_early_data(self, ticket: Ticket) -> bool:
        return self.guard.is_first_use(ticket.id, ticket.issued_at, self.now)

    def new_context(self) -> bytes:
        return b"context"


class World:
    """A client and a server that have met; ``meet`` lets them meet again, with other settings or at another time."""

    def __init__(self, wire: Any, now: float, **settings: Any) -> None:
        self.wire, self.now = wire, now
        self.keys = TicketKeys(bytes(32), random.Random(1).randbytes, lambda: self.now, 7 * DAY)
        self.policy = Policy(now)
        self.client_settings: dict[str, Any] = {
            "alpn_protocols": ("h3",), "server_name": "localhost", "trust": wire.trust, "early_data": True,
        }  # fmt: skip
        self.server_settings: dict[str, Any] = {
            "alpn_protocols": ("h3",), "certificates": wire.certificates, "early_data": True,
        }  # fmt: skip
        self.client_settings |= settings.pop("client", {})
        self.server_settings |= settings.pop("server", {})
        client, _ = self.meet()
        self.session = next(event.session for event in wire.events[client] if isinstance(event, NewSession))

    def usable(self, **settings: Any) -> Session | None:
        return usable_session(self.session.write(), TlsSettings(**self.client_settings | settings), self.now)

    def meet(
        self,
        session: Session | None = None,
        *,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        alter: Callable[[Handshake, bytes], bytes] | None = None,
        make: type[ClientHandshake] = ClientHandshake,
    ) -> tuple[ClientHandshake, ServerHandshake]:
        world: dict[str, Any] = {"random": random.Random(5).randbytes, "wall_time": lambda: self.now}
        ours = make(
            TlsSettings(**self.client_settings | (client or {})),
            transport_parameters=lambda _: b"c", session=session, **world,
        )  # fmt: skip
        theirs = ServerHandshake(
            TlsSettings(**self.server_settings | (server or {})),
            transport_parameters=lambda _: b"s", ticket_keys=self.keys, policy=self.policy, **world,
        )  # fmt: skip
        self.wire.events |= {ours: [], theirs: []}
        self.wire.run(ours, theirs, alter=alter)
        return ours, theirs


@pytest.fixture
def world(wire: Any, now: float) -> World:
    return World(wire, now)


def test_resumed_with_early_data(world: World) -> None:
    client, server = world.meet(world.usable())
    assert client.session_resumed and server.session_resumed and client.is_complete and server.is_complete
    assert client.early_data_accepted and server.early_data_accepted
    assert client.peer_certificates and client.peer_certificates[0] == world.session.certificates()[0]
    early = [
        event.secret
        for side in (client, server)
        for event in world.wire.events[side]
        if isinstance(event, NewKeys) and event.epoch is Epoch.EARLY_DATA
    ]
    assert len(early) == 2 and early[0] == early[1]
    assert client.export("x", b"", 16) == server.export("x", b"", 16)


def test_key_log(world: World) -> None:
    lines: dict[str, list[str]] = {"client": [], "server": []}
    world.meet(world.usable(), client={"keylog": lines["client"].append}, server={"keylog": lines["server"].append})
    assert sorted(lines["client"]) == sorted(lines["server"])
    labels = [line.split()[0] for line in lines["client"]]
    assert {"CLIENT_EARLY_TRAFFIC_SECRET", "EARLY_EXPORTER_SECRET", "EXPORTER_SECRET"} <= set(labels)


# -- RFC 8448 §4 -------------------------------------------------------------------------------------------------------


def test_the_vectors_of_a_resumed_handshake(trace: Any) -> None:
    resumed = trace("resumed_0rtt")
    (psk,) = {f["IKM"] for who, step, f in resumed.steps if step == 'extract secret "early"' and "IKM" in f}
    (hello,) = {f["payload"] for _, step, f in resumed.steps[:6] if step == "send handshake record"}
    schedule = KeySchedule(CIPHER_SUITES[AES_128], psk)
    check_binder(schedule, Transcript(), hello, read_offer_of(hello), 0)
    with pytest.raises(TransportError):
        check_binder(KeySchedule(CIPHER_SUITES[AES_128], bytes(32)), Transcript(), hello, read_offer_of(hello), 0)
    transcript = Transcript()
    transcript.add(hello)
    assert early_secrets(schedule, transcript) == (resumed.secret("c e traffic"), resumed.secret("e exp master"))


def read_offer_of(hello: bytes) -> OfferedPsks:
    return read_pre_shared_key(ClientHello.read(hello[4:]).extensions[E.PRE_SHARED_KEY])


def test_the_vector_of_a_ticket(trace: Any) -> None:
    """The PSK of the second handshake from the first one's ``res master``."""
    first, resumed = trace("simple_1rtt"), trace("resumed_0rtt")
    (psk,) = {f["IKM"] for who, step, f in resumed.steps if step == 'extract secret "early"' and "IKM" in f}
    assert resumption_psk(CIPHER_SUITES[AES_128], first.secret("res master"), b"\0\0") == psk


# -- the client decides ------------------------------------------------------------------------------------------------


@pytest.mark.conformance("TLS11a")
@pytest.mark.parametrize("lifetime", [30 * 86400, 3600])
def test_a_session_gets_old(world: World, lifetime: int) -> None:
    """A ticket of 30 days is kept for 7, and one of an hour for an hour."""
    world.session = dataclasses.replace(world.session, lifetime=lifetime)
    limit = min(lifetime, MAX_LIFETIME)
    start = world.now
    trust = Trust.insecure()
    for age, is_usable in ((0, True), (limit - 1, True), (limit, False), (-1, False)):
        world.now = start + age
        assert (world.usable(trust=trust) is not None) == is_usable, age


@pytest.mark.conformance("TLS11a")
def test_lifetime_of_our_tickets_and_unknown_extensions(world: World) -> None:
    assert world.session.lifetime == 604800
    client, _ = world.meet()
    ticket = NewSessionTicket(100, 0, b"", b"t", {0x5A5A: b"?"})
    client.receive(Epoch.ONE_RTT, ticket.write())
    assert isinstance(client.take_events()[-1], NewSession)


@pytest.mark.attack("CVE-2025-68121")
def test_whom_we_do_not_believe_any_more(world: World, authority: Any) -> None:
    other, _ = authority.root("another root")
    assert world.usable() is not None
    assert world.usable(trust=Trust.roots(other)) is None
    assert world.usable(server_name="example.org") is None
    world.session = dataclasses.replace(world.session, server_name="example.org")
    assert world.usable(server_name="example.org") is None  # the chain is not for that name
    world.session = dataclasses.replace(world.session, server_name="localhost", lifetime=MAX_LIFETIME)
    world.now += 6 * DAY
    assert world.usable() is None  # the certificate is over


@pytest.mark.attack("CVE-2025-68121")
def test_whom_the_server_does_not_believe_any_more(wire: Any, authority: Any, now: float) -> None:
    shown, root = authority.client()
    asks = {"client_authentication": "required", "client_trust": Trust.roots(root)}
    world = World(wire, now, client={"client_certificate": shown}, server=asks)
    _, server = world.meet(world.usable())
    assert server.session_resumed and server.peer_certificates == shown.certificates
    other, _ = authority.root("another root")
    with pytest.raises(TransportError):
        world.meet(world.usable(), server={"client_trust": Trust.roots(other)})
    _, server = world.meet(world.usable(), server={"client_authentication": "none", "client_trust": None})
    assert not server.session_resumed
    assert world.usable(client_certificate=None) is None


def test_a_client_that_showed_nothing_is_asked_again(world: World, authority: Any) -> None:
    _, root = authority.client()
    asks = {"client_authentication": "optional", "client_trust": Trust.roots(root)}
    _, server = world.meet(world.usable(), server=asks)
    assert not server.session_resumed and server.is_complete


@pytest.mark.parametrize(
    "settings", [{"alpn_protocols": ("hq",)}, {"cipher_suites": (CHACHA,)}, {"server_name": None}], ids=str
)
def test_other_settings(world: World, settings: dict[str, Any]) -> None:
    assert world.usable(**settings) is None


@pytest.mark.parametrize("data", [b"", b"quicstack session 1\n", b"x" * 100])
def test_what_is_no_session(world: World, data: bytes) -> None:
    assert usable_session(data, TlsSettings(**world.client_settings), world.now) is None


# -- the server decides ------------------------------------------------------------------------------------------------


@pytest.mark.conformance("TLS11")
@pytest.mark.parametrize("change", ["alpn", "cipher", "age", "switched off", "second identity"])
def test_early_data_is_not_taken(world: World, change: str) -> None:
    """The handshake goes on, and EncryptedExtensions has no early_data."""
    session = world.usable()
    server: dict[str, Any] = {}
    alter = None
    if change == "alpn":
        server = {"alpn_protocols": ("hq",)}
    elif change == "cipher":
        server = {"cipher_suites": (CHACHA,)}
    elif change == "age":
        assert session is not None
        session = dataclasses.replace(session, received_at=session.received_at - 11)
    elif change == "switched off":
        server = {"early_data": False}
    else:
        session = dataclasses.replace(session, ticket=b"unknown") if session else None
    client, theirs = world.meet(session, client={"alpn_protocols": ("h3", "hq")}, server=server, alter=alter)
    assert client.early_data_accepted is False and client.is_complete and theirs.is_complete
    assert EarlyDataSettled(False) in world.wire.events[client]
    extensions = _messages(world, 8)[-1]
    assert E.EARLY_DATA not in EncryptedExtensions.read(extensions[4:]).extensions


def _messages(world: World, kind: int) -> list[bytes]:
    return [data for data in world.wire.messages if data[0] == kind]


@pytest.mark.conformance("TLS11")
def test_only_once(world: World) -> None:
    session = world.usable()
    assert world.meet(session)[0].early_data_accepted
    client, _ = world.meet(session)
    assert client.early_data_accepted is False and client.session_resumed


def test_tickets_get_old_and_cannot_be_changed(world: World) -> None:
    ticket = world.session.ticket
    assert world.keys.open(ticket) is not None
    for position in range(len(ticket)):
        changed = bytearray(ticket)
        changed[position] ^= 1
        assert world.keys.open(bytes(changed)) is None
    world.now += 7 * DAY
    assert world.keys.open(ticket) is None
    other = TicketKeys(bytes(31) + b"\1", bytes, lambda: world.now - DAY, 7 * DAY)
    assert other.open(ticket) is None and other.open(b"") is None


def test_a_large_ticket_is_not_made(world: World) -> None:
    ticket = world.keys.open(world.session.ticket)
    assert ticket is not None
    assert world.keys.seal(dataclasses.replace(ticket, chain=(bytes(9000),))) is None


def test_a_full_register_refuses() -> None:
    guard = MemoryReplayGuard(100.0, capacity=2)
    assert guard.is_first_use(b"a", 100.0, 100.0) and guard.is_first_use(b"b", 100.0, 101.0)
    assert not guard.is_first_use(b"a", 100.0, 102.0)
    assert not guard.is_first_use(b"c", 100.0, 100.0 + WINDOW - 0.1)
    assert guard.is_first_use(b"c", 100.0, 100.0 + WINDOW)
    assert not guard.is_first_use(b"d", 99.0, 100.5)  # older than the register


# -- messages that are wrong -------------------------------------------------------------------------------------------


def _hello(change: Callable[[dict[int, bytes]], dict[int, bytes]]) -> Callable[[Handshake, bytes], bytes]:
    def alter(sender: Handshake, data: bytes) -> bytes:
        if data[0] != 1:
            return data
        hello = ClientHello.read(data[4:])
        return dataclasses.replace(hello, extensions=change(hello.extensions)).write()

    return alter


def _wrong_binder(extensions: dict[int, bytes]) -> dict[int, bytes]:
    psks = read_pre_shared_key(extensions[E.PRE_SHARED_KEY])
    wrong = OfferedPsks(psks.identities, (bytes(len(psks.binders[0])),))
    return extensions | {E.PRE_SHARED_KEY: write_pre_shared_key(wrong)}


def _not_last(extensions: dict[int, bytes]) -> dict[int, bytes]:
    body = extensions.pop(E.PRE_SHARED_KEY)
    return {E.PRE_SHARED_KEY: body} | extensions


def _second_binder_missing(extensions: dict[int, bytes]) -> dict[int, bytes]:
    psks = read_pre_shared_key(extensions[E.PRE_SHARED_KEY])
    return extensions | {E.PRE_SHARED_KEY: write_pre_shared_key(OfferedPsks(psks.identities * 2, psks.binders))}


@pytest.mark.conformance("TLS07")
@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (_wrong_binder, Alert.DECRYPT_ERROR),
        (_not_last, Alert.ILLEGAL_PARAMETER),
        (_second_binder_missing, Alert.ILLEGAL_PARAMETER),
    ],
)
def test_a_wrong_offer(world: World, change: Any, alert: int) -> None:
    with pytest.raises(TransportError) as caught:
        world.meet(world.usable(), alter=_hello(change))
    assert caught.value.code == 0x100 + alert


def _server_hello(change: Callable[[ServerHello], ServerHello]) -> Callable[[Handshake, bytes], bytes]:
    def alter(sender: Handshake, data: bytes) -> bytes:
        return change(ServerHello.read(data[4:])).write() if data[0] == 2 else data

    return alter


def _selects(index: int) -> Callable[[ServerHello], ServerHello]:
    return lambda hello: dataclasses.replace(
        hello, extensions=hello.extensions | {E.PRE_SHARED_KEY: index.to_bytes(2, "big")}
    )


@pytest.mark.conformance("TLS07a")
@pytest.mark.parametrize(
    "change", [_selects(1), lambda hello: dataclasses.replace(hello, cipher_suite=AES_256)], ids=["index", "hash"]
)
def test_a_wrong_choice(world: World, change: Any) -> None:
    with pytest.raises(TransportError) as caught:
        world.meet(world.usable(), client={"early_data": False}, alter=_server_hello(change))
    assert caught.value.code == 0x100 + Alert.ILLEGAL_PARAMETER


class Eager(ServerHandshake):
    """Says that it takes early data, whatever it resumed."""

    def _send_encrypted_extensions(self, offer: Any) -> None:
        self.early_data_accepted = True
        super()._send_encrypted_extensions(offer)


@pytest.mark.conformance("TLS07a")
@pytest.mark.parametrize("reason", ["no PSK", "another ALPN"])
def test_early_data_taken_without_reason(world: World, reason: str) -> None:
    session = world.usable()
    assert session is not None
    if reason == "no PSK":
        session = dataclasses.replace(session, ticket=b"unknown")
    else:
        session = dataclasses.replace(session, alpn_protocol="hq")
    made: dict[str, Any] = {"random": random.Random(5).randbytes, "wall_time": lambda: world.now}
    client = ClientHandshake(
        TlsSettings(**world.client_settings | {"alpn_protocols": ("h3", "hq")}),
        transport_parameters=lambda _: b"c", session=session, **made,
    )  # fmt: skip
    server = Eager(
        TlsSettings(**world.server_settings),
        transport_parameters=lambda _: b"s", ticket_keys=world.keys, policy=world.policy, **made,
    )  # fmt: skip
    world.wire.events |= {client: [], server: []}
    with pytest.raises(TransportError) as caught:
        world.wire.run(client, server)
    assert caught.value.code == 0x100 + Alert.ILLEGAL_PARAMETER


@pytest.mark.conformance("C08")
@pytest.mark.parametrize("size", [0, 0x4000, 0xFFFFFFFE])
def test_a_ticket_with_another_size(world: World, size: int) -> None:
    client, _ = world.meet()
    ticket = NewSessionTicket(100, 0, b"", b"t", {E.EARLY_DATA: size.to_bytes(4, "big")})
    with pytest.raises(TransportError) as caught:
        client.receive(Epoch.ONE_RTT, ticket.write())
    assert caught.value.code == TransportErrorCode.PROTOCOL_VIOLATION


@pytest.mark.conformance("TLS06")
def test_after_a_hello_retry_request(world: World) -> None:
    session = world.usable()
    groups = {"groups": (0x1D, 0x17)}
    client, server = world.meet(session, client=groups, server={"groups": (0x17,)})
    assert client.session_resumed and client.early_data_accepted is False and server.early_data_accepted is False
    first, second = (ClientHello.read(data[4:]).extensions for data in _messages(world, 1)[-2:])
    assert E.EARLY_DATA in first and E.EARLY_DATA not in second
    assert list(second)[-1] == E.PRE_SHARED_KEY
    assert read_pre_shared_key(first[E.PRE_SHARED_KEY]).binders != read_pre_shared_key(second[E.PRE_SHARED_KEY]).binders


class Stubborn(ClientHandshake):
    """Offers early_data whatever it was told."""

    def _send_hello(self, hello: ClientHello) -> None:
        hello.extensions = {E.EARLY_DATA: b""} | hello.extensions
        super()._send_hello(hello)


@pytest.mark.conformance("TLS06")
def test_early_data_offered_after_a_hello_retry_request(world: World) -> None:
    _, server = world.meet(world.usable(), client={"groups": (0x1D, 0x17)}, server={"groups": (0x17,)}, make=Stubborn)
    assert server.session_resumed and server.early_data_accepted is False
    assert E.EARLY_DATA not in EncryptedExtensions.read(_messages(world, 8)[-1][4:]).extensions


@pytest.mark.conformance("C33", "h3spec-33")
def test_end_of_early_data(world: World) -> None:
    def insert(sender: Handshake, data: bytes) -> bytes:
        return handshake_message(5, b"") + data if data[0] == 20 and sender.is_client else data

    with pytest.raises(TransportError) as caught:
        world.meet(world.usable(), alter=insert)
    assert caught.value.code == 0x100 + Alert.UNEXPECTED_MESSAGE


@pytest.mark.attack("CVE-2026-42505")
@pytest.mark.parametrize("is_retried", [False, True], ids=["at once", "after HelloRetryRequest"])
def test_no_identity_outside_of_an_encrypted_hello(world: World, is_retried: bool) -> None:
    """The outer ClientHello has a PSK of the same size and shape, and nothing of the real one (RFC 9849 §6.1.2)."""
    session = world.usable()
    assert session is not None
    server = {"groups": (0x17,)} if is_retried else {}
    ticket, hellos = session.ticket, len(_messages(world, 1))
    with pytest.raises(TransportError):  # our server does not know ECH, so the client gives up in the end
        world.meet(session, client={"ech_config_list": ECH_LIST, "groups": (0x1D, 0x17)}, server=server)
    sent = _messages(world, 1)[hellos:]
    assert len(sent) == 1 + is_retried
    for data in sent:
        assert ticket not in data
    outer = ClientHello.read(sent[0][4:]).extensions
    assert E.EARLY_DATA in outer and list(outer)[-1] == E.PRE_SHARED_KEY
    ((identity, age),) = read_pre_shared_key(outer[E.PRE_SHARED_KEY]).identities
    assert len(identity) == len(ticket) and age != session.obfuscated_age(world.now)
    assert all(ticket[i : i + 8] not in sent[0] for i in range(0, len(ticket) - 8))

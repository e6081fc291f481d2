"""Retry and address validation tokens (RFC 9000 §8.1, §17.2.5; RFC 9369 §5)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from peer import TO_CLIENT, TO_SERVER, Pair, server_configuration

from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import TransportErrorCode
from quicstack.train import Path, Train
from quicstack.transport.packet_protection import INITIAL_SUITE, PacketKeys, initial_secrets
from quicstack.wire.frame_study import parse_frames
from quicstack.wire.packet import LongHeader, read_long_header
from quicstack.wire.version import QUIC_V2, VERSIONS, PacketType

OTHER_PORT = Path((TO_CLIENT.remote[0], 50001))
ELSEWHERE = Path(("203.0.113.9", 50000))


def header(train: Train) -> LongHeader:
    return read_long_header(train.data, 0, VERSIONS[1])


class World(Pair):
    """A pair whose server has a clock that the test sets."""

    def __init__(self, **server: object) -> None:
        super().__init__()
        self.wall = 1_800_000_000.0
        env = Environment(random.Random(5).randbytes, lambda: self.wall, simulation=True)
        self.server_endpoint = Endpoint(server_configuration(**server), environment=env, server=True)

    def reconnect(self, **settings: object) -> None:
        """The same client comes again."""
        configuration = replace(self.client_endpoint.configuration, **settings)  # type: ignore[arg-type]
        self.client_endpoint.close(self.now)
        self.from_client()
        self.client = self.client_endpoint.connect(TO_SERVER, self.now, configuration=configuration)


def close_code(train: Train, dcid: bytes) -> object:
    """What the Initial of a server says that keeps no connection."""
    _, secret = initial_secrets(VERSIONS[1], dcid)
    keys = PacketKeys(INITIAL_SUITE, secret, VERSIONS[1])
    found = header(train)
    plain, length = keys.unmask(train.data, 0, found.pn_offset)
    (frame,) = parse_frames(keys.open(plain, 0, train.data[found.pn_offset + length : found.end]))
    return frame.fields["error_code"]


def retried(pair: World) -> list[Train]:
    """The Initials with which the client answers a Retry."""
    pair.to_server(pair.from_client())
    (answer,) = pair.from_server()
    assert header(answer).packet_type == PacketType.RETRY
    assert not pair.server_endpoint.connections
    pair.to_client([answer])
    return pair.from_client()


@pytest.mark.conformance("T50a", "T51", "T51a", "T36")
def test_a_retry_and_what_follows() -> None:
    """§17.2.5: another connection ID, the token in every Initial, the same ClientHello, packet numbers go on."""
    pair = World(retry="always")
    first = pair.from_client()
    (before,) = first
    pair.to_server([Train(before.data + before.data, 2 * len(before.data), TO_CLIENT)])
    (answer,) = pair.from_server()
    assert header(answer).packet_type == PacketType.RETRY and len(answer.data) < len(before.data)
    assert header(answer).scid != header(before).dcid
    pair.to_client([answer])
    (after,) = pair.from_client()
    assert header(after).token == header(answer).token[:-16]
    assert header(after).dcid == header(answer).scid and header(after).scid == header(before).scid
    assert _initial(after)[0] == _initial(before)[0] + 1
    assert _initial(after)[1] == _initial(before)[1]
    pair.advance(2.0)
    pair.client_endpoint.handle_timeout(pair.now)
    pair.to_server([after])
    pair.exchange()
    assert pair.client.handshake_confirmed
    assert pair.client.peer_transport_parameters is not None
    assert pair.client.peer_transport_parameters.retry_source_connection_id == header(answer).scid


def _initial(train: Train) -> tuple[int, bytes]:
    """Packet number and CRYPTO bytes of a client's Initial."""
    found = header(train)
    keys = PacketKeys(INITIAL_SUITE, initial_secrets(VERSIONS[1], found.dcid)[0], VERSIONS[1])
    plain, length = keys.unmask(train.data, 0, found.pn_offset)
    number = int.from_bytes(plain[-length:], "big")
    frames = parse_frames(keys.open(plain, number, train.data[found.pn_offset + length : found.end]))
    return number, b"".join(bytes(frame.fields["data"]) for frame in frames if frame.name == "CRYPTO")  # type: ignore[call-overload]


@pytest.mark.conformance("T33")
def test_a_connection_id_of_the_server_may_be_short() -> None:
    """§7.2: eight bytes is what the client's own first choice has to have."""
    pair = World(retry="always", connection_id_length=4)
    (sent,) = retried(pair)
    assert len(header(sent).dcid) == 4
    pair.to_server([sent])
    pair.exchange()
    assert pair.client.handshake_confirmed


@pytest.mark.conformance("T49", "T50b")
@pytest.mark.parametrize("policy", ["always", "never", "auto"])
@pytest.mark.parametrize("how", ["damaged", "late", "other port", "other address", "short"])
def test_an_invalid_retry_token(how: str, policy: str) -> None:
    """§8.1.2: INVALID_TOKEN, no state, and no other Retry; the same whether we ask for tokens or not."""
    pair = World(retry="always")
    (sent,) = retried(pair)
    found = header(sent)
    strict = pair.server_endpoint
    pair.server_endpoint.configuration = replace(strict.configuration, retry=policy)  # type: ignore[arg-type]
    data, path = bytearray(sent.data), TO_CLIENT
    if how == "damaged":
        data[data.index(found.token) + len(found.token) - 1] ^= 1
    if how == "short":  # the length says 2 of the bytes; what follows cannot be a packet for us
        at = data.index(found.token)
        data[at - 2 : at + len(found.token)] = b"\x40\x02" + found.token[:2]
        data += bytes(1200 - len(data))
    if how == "late":
        pair.wall += 11.0
    if how == "other port":
        path = OTHER_PORT
    if how == "other address":
        path = ELSEWHERE
    pair.to_server([Train(bytes(data), len(data), path)], path)
    (answer,) = pair.from_server()
    assert not pair.server_endpoint.connections
    assert len(answer.data) < 100 and answer.path == path
    assert close_code(answer, found.dcid) == TransportErrorCode.INVALID_TOKEN


def served(pair: World, path: Path = TO_CLIENT) -> int:
    """Bytes that the server sends to a first Initial before it hears more."""
    pair.to_server(pair.from_client(), path)
    total = 0
    for _ in range(4):
        total += sum(len(train.data) for train in pair.from_server())
        deadline = pair.server_endpoint.next_timeout()
        if deadline is None:
            break  # it has given up
        pair.now = max(pair.now, deadline)
        pair.server_endpoint.handle_timeout(pair.now)
    return total


@pytest.mark.conformance("T52", "T54")
@pytest.mark.parametrize("how", ["same", "other port", "other address", "late", "twice", "damaged"])
def test_a_token_for_the_next_connection(how: str) -> None:
    """§8.1.3, §8.1.4: it lifts the amplification limit for this address, any port, for a time, once."""
    pair = World()
    pair.exchange()
    store = pair.client_endpoint.configuration.token_store
    key = "localhost 192.0.2.1 443 0x00000001"
    token = store.take(key)
    assert token is not None and store.take(key) is None
    if how == "damaged":
        token = token[:-1] + bytes([token[-1] ^ 1])
    store.put(key, token)
    path = {"other port": OTHER_PORT, "other address": ELSEWHERE}.get(how, TO_CLIENT)
    if how == "late":
        pair.wall += 8 * 86400
    pair.reconnect()
    assert store.take(key) is None  # used once
    if how == "twice":
        pair.to_server(pair.from_client())
        pair.from_server()
        store.put(key, token)
        pair.reconnect()
    for connection in pair.server_endpoint.connections:
        connection.abandon(pair.now)
    total = served(pair, path)
    assert pair.client._state.token == token
    assert (total > 3600) == (how in ("same", "other port"))


@pytest.mark.conformance("T53")
def test_a_foreign_token_is_no_token() -> None:
    pair = World()
    pair.client._state.token = b"\x00 something that another server made"
    pair.exchange()
    assert pair.client.handshake_confirmed


def test_a_foreign_token_asks_for_a_retry() -> None:
    pair = World(retry="always")
    pair.client._state.token = b"\x00 something that another server made"
    pair.to_server(pair.from_client())
    assert header(pair.from_server()[0]).packet_type == PacketType.RETRY


@pytest.mark.conformance("T54a")
def test_tokens_differ() -> None:
    pair = World()
    tokens = {pair.server_endpoint._tokens.seal_new_token(TO_CLIENT.remote, 1) for _ in range(1000)}
    assert len(tokens) == 1000


@pytest.mark.conformance("V2-10")
def test_tokens_stay_with_their_version() -> None:
    """RFC 9369 §5, both sides."""
    pair = World(versions=(1, QUIC_V2))
    pair.exchange()
    pair.reconnect(versions=(QUIC_V2,))
    assert not pair.client._state.token
    token = pair.client_endpoint.configuration.token_store.take("localhost 192.0.2.1 443 0x00000001")
    assert token is not None
    tokens = pair.server_endpoint._tokens
    assert not tokens.accept_new_token(token, TO_CLIENT.remote, QUIC_V2)
    assert tokens.accept_new_token(token, TO_CLIENT.remote, 1)


def test_retry_under_load() -> None:
    pair = World(retry_threshold=1)
    others = [Pair(seed=50), Pair(seed=60)]
    pair.to_server(others[0].from_client())
    pair.from_server()
    pair.to_server(others[1].from_client())
    (answer,) = pair.from_server()
    assert header(answer).packet_type == PacketType.RETRY and len(pair.server_endpoint.connections) == 1

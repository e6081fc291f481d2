"""What a connection keeps, and when it goes: an idle one holds nothing of its handshake, one that is over nothing."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, GeneratorType, ModuleType
from typing import Any

import pytest
from peer import Pair

from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.tls.ech import EchOffer
from quicstack.tls.key_schedule import KeySchedule, Transcript
from quicstack.tls.messages import ClientHello
from quicstack.tls.offer import Offer
from quicstack.tls.psk import PskOffer
from quicstack.tls.resumption import Resumption
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.transport.packet_protection import PacketKeys

OF_THE_HANDSHAKE = (
    GeneratorType, KeySchedule, Transcript, ClientHello, Offer, PskOffer, EchOffer, Resumption,
)  # fmt: skip
SHARED = (type, ModuleType, CodeType, BuiltinFunctionType, Endpoint)


def held_by(root: object) -> list[Any]:
    """Everything that can be reached from ``root``, but code and what an endpoint has."""
    seen: dict[int, object] = {}
    todo = [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, SHARED):
            continue
        seen[id(item)] = item
        todo += (item.__closure__ or ()) if isinstance(item, FunctionType) else gc.get_referents(item)
    return list(seen.values())


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def pair() -> Pair:
    pair = Pair()
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.handshake_confirmed
    return pair


@pytest.mark.parametrize("side", ["client", "server"])
def test_nothing_of_the_handshake_stays(pair: Pair, side: str) -> None:
    held = held_by(getattr(pair, side))
    assert [item for item in held if isinstance(item, OF_THE_HANDSHAKE)] == []
    keys = [item for item in held if isinstance(item, PacketKeys)]
    assert len(keys) == 3  # one to seal, one to open, and those of the next key phase
    assert sum(hasattr(key, "_seal") for key in keys if "_seal" in vars_of(key)) == 2
    streams = {id(item) for item in held if isinstance(item, CryptoStream)}
    assert len(streams) == 2  # its own for 1-RTT, and the one that all spaces share whose keys are gone


@pytest.mark.parametrize("side", ["client", "server"])
def test_an_idle_connection_is_small(pair: Pair, side: str) -> None:
    """15 KiB of Python objects, besides what it shares with others, and four ciphers of 7 KiB together."""
    connection = getattr(pair, side)
    state = connection._state
    shared = {
        id(item) for root in (state.configuration, state.environment, state.replay_guard) for item in held_by(root)
    }
    own = [item for item in held_by(connection) if id(item) not in shared]
    assert sum(map(sys.getsizeof, own)) < 24_000
    assert sum(map(gc.is_tracked, own)) < 180


def vars_of(keys: PacketKeys) -> list[str]:
    """The attributes that are set, without setting others by asking for them."""
    found = []
    for name in PacketKeys.__slots__:
        try:
            object.__getattribute__(keys, name)
        except AttributeError:
            continue
        found.append(name)
    return found


def test_what_was_negotiated_stays(pair: Pair) -> None:
    assert pair.client.alpn_protocol == pair.server.alpn_protocol is not None
    assert pair.client.cipher_suite_name == pair.server.cipher_suite_name is not None
    assert pair.client.peer_certificates
    assert pair.client.export_keying_material("label", b"", 32) == pair.server.export_keying_material("label", b"", 32)


def test_the_space_that_is_shared_stays_empty(pair: Pair) -> None:
    shared = {id(space.crypto) for side in (pair.client, pair.server) for space in side._state.spaces[:2]}
    assert len(shared) == 1
    crypto = pair.client._state.spaces[0].crypto
    assert (crypto.incoming.end, crypto.outgoing.end, crypto.outgoing.has_data, crypto.incoming.gaps) == (
        0,
        0,
        False,
        0,
    )


def over(endpoint: Endpoint, connection: Connection) -> weakref.ref[Connection]:
    """Its closing or draining state has passed, and the driver has heard of it."""
    while (deadline := endpoint.next_timeout()) is not None:
        endpoint.handle_timeout(deadline)
    for changed in endpoint.take_ready():
        changed.take_ready()
    while endpoint.next_train(1e9) is not None:
        pass
    assert connection.terminated
    return weakref.ref(connection)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_that_is_over_goes_at_once(pair: Pair, side: str, without_collector: None) -> None:
    """No circle is left that only the garbage collector could find."""
    pair.client.open_stream().write(b"hello")
    pair.to_server(pair.from_client())
    (pair.server if side == "server" else pair.client).close(now=pair.now)
    gc.collect()
    gone = over(getattr(pair, f"{side}_endpoint"), getattr(pair, side))
    del pair.client
    assert gone() is None
    assert gc.collect() == 0


@pytest.mark.parametrize("side", ["client", "server"])
def test_so_does_one_whose_frames_nobody_acknowledged(side: str, without_collector: None) -> None:
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    pair.from_server()
    connection: Connection | None = pair.client if side == "client" else pair.server
    assert connection is not None and connection.handshake_complete
    connection.close(now=pair.now)
    gc.collect()
    gone = over(getattr(pair, f"{side}_endpoint"), connection)
    connection = None
    del pair.client
    assert gone() is None
    assert gc.collect() == 0


@pytest.mark.parametrize("side", ["client", "server"])
def test_so_does_one_that_was_never_complete(side: str, without_collector: None) -> None:
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.from_server()
    connection: Connection | None = pair.client if side == "client" else pair.server
    assert connection is not None
    connection.close(now=pair.now)
    gc.collect()
    gone = over(getattr(pair, f"{side}_endpoint"), connection)
    connection = None
    del pair.client
    assert gone() is None
    assert gc.collect() == 0

"""Stateless reset: sent by a server that knows nothing, found by a peer that does (RFC 9000 §10.3)."""

from __future__ import annotations

import random

import pytest
from peer import TO_SERVER, Pair, Peer

from quicstack.errors import ConnectionClosed
from quicstack.train import Path, Train
from quicstack.wire import frame as f

ELSEWHERE = Path(("203.0.113.9", 443))
KEY = bytes(range(32))


def train(datagram: bytes, path: Path = TO_SERVER) -> Train:
    return Train(datagram, len(datagram), path)


def answers(pair: Pair, datagram: bytes) -> list[bytes]:
    pair.to_server([train(datagram)])
    return [sent.data for sent in pair.from_server()]


def is_reset(peer: Peer) -> bool:
    """The engine takes the connection for lost: it drains, and says no more."""
    error = peer.engine.closed
    if error is None:
        return False
    assert isinstance(error, ConnectionClosed) and error.by_peer and "stateless reset" in str(error)
    assert peer.advance(0.02) == []
    return True


def token(peer: Peer) -> bytes:
    """Of the connection ID that the engine puts on its packets."""
    found = peer.engine._state.peer_cids.current.reset_token
    assert found is not None
    return found


# -- sent ----------------------------------------------------------------------------------------------------------


@pytest.mark.conformance("T78")
def test_a_reset_is_smaller_than_what_it_answers() -> None:
    """§10.3.3: by one byte up to 43, and then not more than it has to be; nothing for what is too small."""
    pair = Pair(server={"stateless_reset_key": KEY})
    for size in (1, 9, 20, 21):
        assert answers(pair, b"\x40" * size) == []
    for size in range(22, 60):
        (reset,) = answers(pair, b"\x40" + bytes(size - 1))
        assert len(reset) == min(size - 1, 42) >= 21
    (reset,) = answers(pair, b"\x7f" + bytes(1199))
    assert len(reset) == 42


@pytest.mark.conformance("T78")
def test_a_reset_looks_like_a_short_header_and_ends_with_the_token() -> None:
    """§10.3, Figure 10: the rest is different each time."""
    pair = Pair(server={"stateless_reset_key": KEY})
    pair.exchange()
    parameters = pair.client.peer_transport_parameters
    assert parameters is not None and parameters.stateless_reset_token is not None
    reborn = Pair(server={"stateless_reset_key": KEY}, seed=50)
    datagram = b"\x55" + pair.server._state.local_cids.first + bytes(91)
    resets = [answers(reborn, datagram)[0] for _ in range(40)]
    assert {reset[0] & 0xC0 for reset in resets} == {0x40}
    assert {reset[-16:] for reset in resets} == {parameters.stateless_reset_token}
    assert len({reset[0] for reset in resets}) > 10 and len({reset[1:-16] for reset in resets}) == 40


@pytest.mark.conformance("T81")
def test_each_connection_id_has_a_token_of_its_own() -> None:
    """§10.3.2: by a key that only this endpoint knows; what comes in a reset is what was promised."""
    keys: list[dict[str, object]] = [{"stateless_reset_key": KEY}, {"stateless_reset_key": bytes(32)}, {}]
    tokens = []
    for seed, settings in enumerate([*keys, {}]):
        pair = Pair(server=settings, seed=1 if seed < 3 else 9)
        pair.exchange()
        parameters = pair.client.peer_transport_parameters
        assert parameters is not None
        known = {pair.server._state.local_cids.first: parameters.stateless_reset_token}
        known |= {spare.cid: spare.reset_token for spare in pair.client._state.peer_cids.spare}
        assert len(known) == 4
        tokens += list(known.values())
        if "stateless_reset_key" in settings:
            reborn = Pair(server=settings, seed=70)
            for cid, promised in known.items():
                assert answers(reborn, b"\x40" + cid + bytes(40))[0][-16:] == promised
    assert len(set(tokens)) == 16


@pytest.mark.conformance("T82")
def test_resets_of_resets_come_to_an_end() -> None:
    """§10.3.3: two servers that know nothing of each other's connection."""
    one, other = Pair(seed=3), Pair(seed=30)
    datagram, count = b"\x40" + bytes(1199), 0
    while found := answers(one if count % 2 else other, datagram):
        (reset,) = found
        assert len(reset) < len(datagram)
        datagram, count = reset, count + 1
        assert count < 30
    assert count == 22  # from 42 bytes down to 21


# -- received ------------------------------------------------------------------------------------------------------


@pytest.mark.conformance("T79", "T80")
@pytest.mark.parametrize("size", [21, 43, 200])
def test_a_live_token_ends_the_connection_in_silence(size: int) -> None:
    """§10.3.1: draining, whatever was waiting to be sent and whatever comes."""
    peer = Peer("server")
    peer.hears(ack=True)
    peer.engine.open_stream().write(bytes(3000))
    peer.delivers(b"\x41" + bytes(size - 17) + token(peer))
    assert is_reset(peer)
    for _ in range(8):
        peer.sends(b"\x01")
        assert peer.hears() == []
    assert peer.advance(30) == []
    assert peer.engine.terminated and not peer.endpoint.connections


@pytest.mark.conformance("T79")
@pytest.mark.parametrize("what", ["last byte", "first byte", "too short", "from elsewhere"])
def test_what_is_no_reset(what: str) -> None:
    """§10.3.1: the token of a connection ID in use at the address that uses it, whole."""
    peer = Peer("server")
    value = bytearray(token(peer))
    if what.endswith("byte"):
        value[0 if what.startswith("first") else 15] ^= 1
    datagram = b"\x41" + bytes(3 if what == "too short" else 30) + bytes(value)
    peer.delivers(datagram, ELSEWHERE if what == "from elsewhere" else None)
    assert peer.engine.closed is None
    peer.engine.ping()
    assert "PING" in [frame.name for frame in peer.hears()]


@pytest.mark.conformance("T79")
@pytest.mark.parametrize("number", ["any", "of a packet seen before"])
def test_a_reset_under_a_connection_id_of_ours(number: str) -> None:
    """§10.3.1: it reaches the connection, and does not decrypt; random bytes may even spell an old packet number."""
    peer = Peer("server")
    for _ in range(5):
        peer.sends(b"\x01")
    cid, keys = peer.state.peer_cids.current.cid, peer.engine._state.spaces[2].open_keys
    assert keys is not None
    rng = random.Random(4)
    largest = peer.engine._state.spaces[2].acks.largest
    for _ in range(100_000):
        datagram = bytes([0x40 | rng.randrange(64)]) + cid + rng.randbytes(30) + token(peer)
        header, length = keys.unmask(datagram, 0, 9)
        if number == "any" or (length == 1 and header[-1] == largest):
            break
    peer.delivers(datagram)
    assert is_reset(peer)


@pytest.mark.conformance("T79a")
@pytest.mark.parametrize("first", [0xC0, 0x80, 0xFF, 0x00])
@pytest.mark.parametrize("body", ["noise", "a version 1 header", "a header with our connection ID"])
def test_any_datagram_that_ends_in_a_live_token(first: int, body: str) -> None:
    """§10.3: other versions may reset with long headers."""
    peer = Peer("server")
    cid = peer.state.peer_cids.current.cid
    middle = {
        "noise": random.Random(first).randbytes(30),
        "a version 1 header": b"\x00\x00\x00\x01\x08" + bytes(8) + b"\x08" + bytes(8) + bytes(20),
        "a header with our connection ID": b"\x00\x00\x00\x01\x08" + cid + b"\x08" + bytes(8) + bytes(20),
    }[body]
    peer.delivers(bytes([first]) + middle + token(peer))
    assert is_reset(peer)


@pytest.mark.conformance("T79a")
@pytest.mark.parametrize("form", ["short", "long", "under our connection ID"])
@pytest.mark.parametrize("whose", ["never used", "retired"])
def test_tokens_that_count_no_more_or_not_yet(whose: str, form: str) -> None:
    """§10.3.1: only those of connection IDs that we send to."""
    peer = Peer("server")
    cids = peer.engine._state.peer_cids
    value = token(peer) if whose == "retired" else cids.spare[0].reset_token
    assert value is not None
    if whose == "retired":
        peer.sends(f.write_new_connection_id(4, 1, b"fourfour", bytes(range(16))))
        assert [frame.fields["sequence_number"] for frame in peer.retirements()] == [0]
    head = {"short": b"\x41", "long": b"\xc0"}.get(form, b"\x41" + peer.state.peer_cids.current.cid) + bytes(40)
    peer.delivers(head + value)
    assert peer.engine.closed is None
    peer.delivers(head + token(peer))
    assert is_reset(peer)


@pytest.mark.conformance("T79")
def test_a_reset_that_was_read_together_with_a_good_packet() -> None:
    """§10.3.1: the network stack joins datagrams of one size and sender; each is looked at."""
    peer = Peer("server")
    good, _ = peer.packet(b"\x01" + bytes(100))
    reset = b"\x41" + peer.state.peer_cids.current.cid + bytes(len(good) - 25) + token(peer)
    peer.endpoint.receive(Train(good + reset, len(good), TO_SERVER), peer.now)
    assert is_reset(peer)

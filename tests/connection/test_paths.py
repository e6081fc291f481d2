"""Addresses that change, connections that are lost, keys that are updated (RFC 9000 §9, §10.3; RFC 9001 §6)."""

from __future__ import annotations

import random

import pytest
from peer import TO_CLIENT, TO_SERVER, Pair, Peer

from quicstack.connection import key_update
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Path, Train
from quicstack.wire import frame as f

REBOUND = Path((TO_CLIENT.remote[0], 61000))
ELSEWHERE = Path(("203.0.113.9", 50000))


def names(frames: list[object]) -> list[str]:
    return [frame.name for frame in frames]  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [REBOUND, ELSEWHERE], ids=["port", "address"])
def test_the_peer_moves(path: Path) -> None:
    """§9.3: data goes to the new address at once, within the amplification limit, and the address is proven."""
    peer = Peer()
    stream = peer.engine.open_stream(unidirectional=True)
    peer.sends(b"\x01", path=path)
    assert peer.engine.path == path
    challenges = {}
    for _ in range(3):
        peer.pair.now += 0.01
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            for frame in peer.opens(train.data)[1]:
                if frame.name == "PATH_CHALLENGE":
                    challenges[train.path] = frame.fields["data"]
    stream.write(bytes(50_000))
    sent = 0
    while (train := peer.endpoint.next_train(peer.now)) is not None:
        assert train.path == path
        sent += len(train.data)
    assert sent <= 3 * 1200
    data = challenges[path]
    assert isinstance(data, bytes)
    peer.sends(b"\x1b" + data, path=path)
    assert peer.engine._state.path.validated


@pytest.mark.conformance("T65")
def test_a_spoofed_move_is_undone() -> None:
    """§9.3.2: the old address answers, the new one never does."""
    peer = Peer()
    peer.sends(b"\x01", path=ELSEWHERE)
    answer = None
    for _ in range(5):
        peer.pair.now += 0.01
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            for frame in peer.opens(train.data)[1]:
                if frame.name == "PATH_CHALLENGE" and train.path == TO_CLIENT:
                    answer = frame.fields["data"]
    assert isinstance(answer, bytes)
    peer.sends(b"\x1b" + answer, path=TO_CLIENT)
    assert peer.engine.path == TO_CLIENT
    assert peer.engine.closed is None


@pytest.mark.conformance("T62")
def test_probing_packets_do_not_move_a_connection() -> None:
    """§9.1, §9.2: PATH_CHALLENGE and padding alone are answered where they came from, and change nothing."""
    peer = Peer()
    peer.sends(b"\x1a12345678" + bytes(1000), path=ELSEWHERE)
    assert peer.engine.path == TO_CLIENT
    train = peer.endpoint.next_train(peer.now)
    assert train is not None and train.path == ELSEWHERE
    assert "PATH_RESPONSE" in names(peer.opens(train.data)[1])


@pytest.mark.conformance("T64")
def test_old_packets_do_not_move_a_connection() -> None:
    """§9.3: only the packet with the highest number does."""
    peer = Peer()
    late, _ = peer.packet(b"\x01")
    peer.sends(b"\x01")
    peer.delivers(late, ELSEWHERE)
    assert peer.engine.path == TO_CLIENT


@pytest.mark.conformance("T60a")
def test_a_server_that_answers_from_elsewhere_is_not_heard() -> None:
    """§9: servers do not migrate."""
    peer = Peer("server")
    peer.sends(f.write_connection_close(1, b"", None), path=Path(("192.0.2.66", 443)))
    assert peer.engine.closed is None


def test_stateless_reset_is_sent_and_understood() -> None:
    """§10.3: a server that lost its state answers with a token that the client knows."""
    pair = Pair(server={"stateless_reset_key": bytes(32)})
    pair.exchange()
    reborn = Pair(server={"stateless_reset_key": bytes(32)}, seed=77)
    stream = pair.client.open_stream()
    stream.write(bytes(100))
    reborn.now = pair.now
    reborn.to_server(pair.from_client())
    (reset,) = reborn.from_server()
    assert len(reset.data) < 100 + 40
    assert reset.data[0] & 0xC0 == 0x40
    pair.to_client([reset])
    error = pair.client.closed
    assert isinstance(error, ConnectionClosed) and error.by_peer
    assert "stateless reset" in str(error)
    assert not pair.from_client()


def test_small_packets_get_no_reset() -> None:
    """§10.3.3: a reset is smaller than what it answers, so two endpoints cannot go on for ever."""
    pair = Pair()
    sizes = []
    for size in range(20, 60):
        pair.to_server([Train(b"\x40" + bytes(size - 1), size, TO_CLIENT)])
        answers = pair.from_server()
        assert all(len(answer.data) < size for answer in answers)
        sizes += [len(answer.data) for answer in answers]
    assert sizes and min(sizes) >= 21


def test_a_client_sends_no_reset() -> None:
    pair = Pair()
    pair.from_client()
    pair.to_client([Train(b"\x40" + bytes(100), 101, TO_SERVER)])
    assert not pair.from_client()


@pytest.mark.conformance("C22", "C23")
@pytest.mark.parametrize("initiator", ["client", "server"])
def test_key_update(initiator: str) -> None:
    """RFC 9001 §6.1, §6.2: either side starts, the other follows, and nothing is lost on the way."""
    pair = Pair()
    pair.exchange()
    side = getattr(pair, initiator)
    for generation in range(1, 4):
        assert side.update_keys(pair.now)
        assert not side.update_keys(pair.now)  # §6.1: not before the peer has acknowledged the new keys
        pair.exchange()
        for each in (pair.client, pair.server):
            assert each._state.key_phase.generation == generation
            assert each.closed is None
            assert each.stats().counters.key_updates == generation


@pytest.mark.conformance("C22")
def test_keys_are_not_updated_before_the_handshake_is_confirmed() -> None:
    """RFC 9001 §6.1."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    assert pair.client.handshake_complete and not pair.client.handshake_confirmed
    assert not pair.client.update_keys(pair.now)


@pytest.mark.conformance("C27")
def test_packets_of_the_old_keys_arrive_late() -> None:
    """RFC 9001 §6.5."""
    peer = Peer()
    late, _ = peer.packet(f.stream_header(0, 0, 4, False) + b"late")
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    assert peer.engine._state.key_phase.generation == 1
    peer.delivers(late)
    stream = peer.engine.stream(0)
    assert stream is not None and stream.read() == b"late"


@pytest.mark.conformance("C26")
def test_a_flipped_key_phase_bit_is_noise() -> None:
    """RFC 9001 §6.4: a packet that opens with no keys changes nothing."""
    peer = Peer()
    datagram, _ = peer.packet(b"\x01", first_byte=0x44)
    phase, space = peer.engine._state.key_phase, peer.engine._state.spaces[2]
    current, following = space.open_keys, phase.next_open
    peer.delivers(datagram)
    # The bit is protected, so a forger needs the keys for it; what he seals with the old ones opens with none.
    assert phase.generation == 0
    # §6.3: the next keys were there before and still are, so that nobody sees from the time that they were derived.
    assert following is not None and phase.next_open is following and space.open_keys is current
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    assert space.open_keys is following
    assert peer.engine.closed is None


@pytest.mark.conformance("C24")
def test_two_updates_at_once_are_an_error() -> None:
    """RFC 9001 §6.2."""
    peer = Peer()
    for _ in range(2):
        key_update.update_send_keys(peer.state, peer.now)
        peer.sends(b"\x00")
        peer.state.key_phase.receive_bit = peer.state.key_phase.send_bit
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed)
    assert error.code == TransportErrorCode.KEY_UPDATE_ERROR


@pytest.mark.conformance("T117")
@pytest.mark.parametrize("bits", [0x08, 0x10, 0x18])
def test_reserved_bits(bits: int) -> None:
    """§17.3.1."""
    peer = Peer()
    datagram, _ = peer.packet(b"\x01", first_byte=0x40 | bits)
    peer.delivers(datagram)
    assert peer.closed_with() == TransportErrorCode.PROTOCOL_VIOLATION


def test_without_the_fixed_bit_a_packet_is_dropped() -> None:
    """§17.3.1, unless we have said that we take it (RFC 9287)."""
    peer = Peer(grease=False)
    datagram, _ = peer.packet(f.write_connection_close(1, b"", None), first_byte=0x00)
    peer.delivers(datagram)
    assert peer.engine.closed is None


@pytest.mark.conformance("C17")
def test_garbage_changes_nothing() -> None:
    """§5.2: what cannot be opened is dropped, whoever sent it."""
    peer = Peer()
    rng = random.Random(3)
    cid = peer.state.peer_cids.current.cid
    for _ in range(300):
        peer.delivers(rng.randbytes(rng.randrange(1, 200)))
        peer.delivers(bytes([rng.randrange(128)]) + cid + rng.randbytes(rng.randrange(60)))
        peer.delivers(bytes([rng.randrange(128, 256)]) + rng.randbytes(rng.randrange(200)))
    peer.delivers(bytes(20), ELSEWHERE)
    assert peer.engine.closed is None
    peer.sends(b"\x01\x01")
    assert peer.engine.internal_error is None


def test_connection_ids_change_hands() -> None:
    """§5.1.1, §5.1.2: asked back, replaced, and routed."""
    peer = Peer()
    state = peer.engine._state
    assert len(state.local_cids.active) == 4
    peer.sends(f.write_limit(f.RETIRE_CONNECTION_ID, 1))
    issued = [frame.fields for frame in peer.hears() if frame.name == "NEW_CONNECTION_ID"]
    assert [fields["sequence_number"] for fields in issued] == [4]
    cid = issued[0]["connection_id"]
    assert isinstance(cid, bytes)
    peer.state.peer_cids.current.cid = cid
    peer.sends(f.stream_header(0, 0, 2, False) + b"hi")
    assert peer.engine.stream(0) is not None
    peer.sends(f.write_new_connection_id(4, 4, b"four" * 2, bytes(16)))
    retired = [frame.fields["sequence_number"] for frame in peer.retirements()]
    assert sorted(retired) == [0, 1, 2, 3]


def test_retirements_that_are_never_acknowledged_are_bounded() -> None:
    """CVE-2024-22189."""
    peer = Peer()
    for n in range(4, 200):
        peer.sends(f.write_new_connection_id(n, n, n.to_bytes(8, "big"), bytes(16)))
        if peer.engine.closed is not None:
            break
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed)
    assert error.code == TransportErrorCode.CONNECTION_ID_LIMIT_ERROR
    assert len(peer.engine._state.peer_cids._retiring) <= 20

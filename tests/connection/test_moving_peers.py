"""A client that comes from another address, packet by packet (RFC 9000 §8.2.2, §9.1, §9.3, §9.5)."""

from __future__ import annotations

import pytest
from peer import TO_CLIENT, Peer

from quicstack.train import Path, Train
from quicstack.wire import frame as f

ELSEWHERE = Path(("203.0.113.9", 50000))


def says(peer: Peer, rounds: int = 3) -> list[Train]:
    """What the engine sends in the next moments, train by train."""
    trains = []
    for _ in range(rounds):
        peer.pair.now += 0.01
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            trains.append(train)
    return trains


@pytest.mark.conformance("T56")
@pytest.mark.parametrize("path", [TO_CLIENT, ELSEWHERE], ids=["the path in use", "another path"])
def test_a_challenge_is_answered_where_it_came_from(path: Path) -> None:
    """§8.2.2: at once, once, with its data, in a full datagram, and again only when it is asked again."""
    peer = Peer()
    for data in (b"12345678", b"abcdefgh"):
        peer.sends(b"\x1a" + data + bytes(1200), path=path)
        answers = []
        for train in says(peer, 1):
            for frame in peer.opens(train.data)[1]:
                if frame.name == "PATH_RESPONSE":
                    answers.append((frame.fields["data"], train.path, len(train.data) >= 1200))
        assert answers == [(data, path, True)]
    later = [frame.name for train in says(peer, 50) for frame in peer.opens(train.data[: train.segment_size])[1]]
    assert "PATH_RESPONSE" not in later


PROBES = {
    "PATH_CHALLENGE": b"\x1a12345678",
    "PATH_RESPONSE": b"\x1b12345678",
    "NEW_CONNECTION_ID": f.write_new_connection_id(4, 1, b"idfour!!", bytes(16)),
    "PADDING": bytes(20),
}
NO_PROBES = {
    "PING": b"\x01",
    "STREAM": f.stream_header(0, 0, 1, False) + b"x",
    "ACK": f.write_ack([(0, 0)], 0),
    "MAX_DATA": f.write_limit(f.MAX_DATA, 5),
    "RETIRE_CONNECTION_ID": f.write_limit(f.RETIRE_CONNECTION_ID, 1),
    "a probe and a PING": b"\x1a12345678\x01",
}


@pytest.mark.conformance("T62")
@pytest.mark.parametrize(
    ("name", "moves"), [*((name, False) for name in PROBES), *((name, True) for name in NO_PROBES)]
)
def test_what_moves_a_connection(name: str, moves: bool) -> None:
    """§9.1: a packet of nothing but probing frames does not; one other frame in it is enough."""
    peer = Peer()
    peer.sends((PROBES | NO_PROBES)[name] + bytes(1200), path=ELSEWHERE)
    peer.engine.open_stream().write(b"data")
    used = {train.path for train in says(peer) for frame in peer.opens(train.data)[1] if frame.name == "STREAM"}
    assert used == {ELSEWHERE if moves else TO_CLIENT}


@pytest.mark.conformance("T64")
def test_an_old_packet_from_the_old_address() -> None:
    """§9.3: it was overtaken, and does not bring the connection back."""
    peer = Peer()
    late = [peer.packet(b"\x01")[0] for _ in range(3)]
    peer.sends(b"\x01" + bytes(1200), path=ELSEWHERE)
    for datagram in late:
        peer.delivers(datagram, TO_CLIENT)
    peer.engine.open_stream().write(b"data")
    used = {train.path for train in says(peer) for frame in peer.opens(train.data)[1] if frame.name == "STREAM"}
    assert used == {ELSEWHERE}


@pytest.mark.conformance("T68")
def test_another_address_another_connection_id() -> None:
    """§9.5: what is sent to the new one bears an ID that the old one never saw, and the other way round."""
    peer = Peer()
    peer.engine.open_stream().write(bytes(100))
    (old,) = {train.data[1:9] for train in says(peer)}
    peer.state.peer_cids.current.cid = peer.state.peer_cids.spare[0].cid
    peer.sends(b"\x01" + bytes(1200), path=ELSEWHERE)
    peer.engine.open_stream().write(bytes(100))
    found: dict[Path, set[bytes]] = {TO_CLIENT: set(), ELSEWHERE: set()}
    for train in says(peer):
        found[train.path].add(train.data[1:9])
    assert found[ELSEWHERE] and old not in found[ELSEWHERE]
    assert found[TO_CLIENT] == {old}

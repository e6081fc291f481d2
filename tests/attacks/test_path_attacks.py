"""Attacks by way of addresses, connection IDs, stateless resets and ICMP: mounted, and seen to fail."""

from __future__ import annotations

import pytest
from peer import TO_CLIENT, TO_SERVER, Pair, Peer

from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Path, SendError, Train
from quicstack.wire import frame as f

VICTIM = Path(("203.0.113.9", 50000))


@pytest.mark.conformance("T63")
@pytest.mark.attack("c: spoofed migration", "CVE-2026-40460")
def test_a_copied_packet_from_a_victims_address() -> None:
    """RFC 9000 §9.3.1: the victim gets three times what was sent in its name, and the peer its connection back."""
    peer = Peer()
    peer.engine.open_stream(unidirectional=True).write(bytes(100_000))
    spoofed, _ = peer.packet(b"\x01")
    peer.delivers(spoofed, VICTIM)
    assert peer.engine.path == VICTIM and peer.engine.proven_path == TO_CLIENT
    towards_victim = 0
    answer = None
    for _ in range(20):
        peer.pair.now += 0.02
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            if train.path == VICTIM:
                towards_victim += len(train.data)
            elif answer is None:
                found = peer.opens(train.data)[1]
                answer = next((frame.fields["data"] for frame in found if frame.name == "PATH_CHALLENGE"), None)
    assert 0 < towards_victim <= 3 * len(spoofed)
    assert isinstance(answer, bytes)
    peer.sends(b"\x1b" + answer)
    assert peer.engine.path == TO_CLIENT and peer.engine.closed is None


@pytest.mark.attack("CVE-2024-53259")
def test_no_message_of_the_network_lowers_the_size_below_the_base() -> None:
    """RFC 9000 §14.2.1: what a router may have said about a probe or a packet ends at 1200, and closes nothing."""
    pair = Pair(client={"path_mtu_discovery": True}, server={"path_mtu_discovery": True})
    pair.exchange()
    for error in (SendError.REFUSED, SendError.UNREACHABLE):
        pair.client.send_failed(error, 1200, pair.now)
    pair.client.send_failed(SendError.TOO_BIG, 1400, pair.now)
    assert pair.client.stats().max_datagram_size == 1200
    assert pair.client.closed is None


@pytest.mark.attack("CVE-2026-44434")
@pytest.mark.parametrize("source", [TO_SERVER, VICTIM], ids=["right address, wrong token", "right token elsewhere"])
def test_a_stateless_reset_needs_token_and_address(source: Path) -> None:
    """RFC 9000 §10.3.1."""
    pair = Pair()
    pair.exchange()
    (token, *_) = pair.client._state.peer_cids.reset_tokens
    wrong = token if source is VICTIM else bytes((token[0] ^ 1,)) + token[1:]
    datagram = b"\x41" + bytes(40) + wrong
    pair.client_endpoint.receive(Train(datagram, len(datagram), source), pair.now)
    assert pair.client.closed is None


@pytest.mark.attack("c: reset loop")
def test_resets_get_smaller_until_they_end() -> None:
    """RFC 9000 §10.3.3: two endpoints that know nothing of each other's packets fall silent."""
    one, two = Pair(), Pair(seed=9)
    datagram = b"\x41" + bytes(60)
    rounds = 0
    while datagram:
        pair = (one, two)[rounds % 2]
        pair.to_server([Train(datagram, len(datagram), TO_CLIENT)])
        answers = pair.from_server()
        assert len(answers) <= 1 and all(21 <= len(answer.data) < len(datagram) for answer in answers)
        datagram = answers[0].data if answers else b""
        rounds += 1
    assert rounds < 60


@pytest.mark.attack("quant #68")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_one_connection_id_under_two_numbers(plays: str) -> None:
    """RFC 9000 §19.15."""
    peer = Peer(plays, active_connection_id_limit=8)
    frames = [f.write_new_connection_id(sequence, 0, b"samesame", bytes(16)) for sequence in (10, 11)]
    peer.sends(*frames)
    assert peer.closed_with() == TransportErrorCode.PROTOCOL_VIOLATION


@pytest.mark.attack("xquic M6")
def test_a_one_rtt_packet_and_a_reset_before_the_handshake() -> None:
    """RFC 9001 §5.7, RFC 9000 §10.3: what cannot be opened yet waits or goes; nothing that is gone is looked up."""
    pair = Pair()
    pair.to_server(pair.from_client())
    for datagram in (b"\x41" + bytes(60), b"\x41" + pair.server.local_cids[0] + bytes(60)):
        pair.to_server([Train(datagram, len(datagram), TO_CLIENT)])
    pair.exchange()
    assert pair.client.handshake_confirmed and pair.server.closed is None
    pair.client.close(0, now=pair.now)
    last = pair.from_client()
    pair.to_server(last)
    server = pair.server
    pair.advance(60)
    assert server not in pair.server_endpoint.connections and not pair.server_endpoint._by_cid
    pair.to_server(last)
    assert isinstance(server.closed, ConnectionClosed) and server.closed.by_peer


@pytest.mark.attack("CVE-2025-23020, 24946, 24947, 29908")
def test_connections_are_found_by_keyed_hashes() -> None:
    """Tables are keyed by bytes, whose hash an attacker cannot compute, and by nothing else."""
    pair = Pair()
    pair.exchange()
    for table in (pair.server_endpoint._by_cid, pair.client_endpoint._by_token):
        assert table and all(type(key) is bytes for key in table)


@pytest.mark.attack("c: zero-length UDP datagrams")
def test_empty_datagrams_reach_no_connection() -> None:
    pair = Pair()
    pair.exchange()
    before = pair.server.stats().counters.trains_received
    for _ in range(100):
        pair.to_server([Train(b"", 0, TO_CLIENT)])
    assert pair.server.stats().counters.trains_received == before and pair.server.closed is None

"""How a connection ends, as the other side sees it (RFC 9000 §10.1, §10.2)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet
from wire import Listener

from quicstack.errors import ConnectionTimeout, TransportErrorCode
from quicstack.train import Train
from quicstack.wire import frame as f

E = TransportErrorCode


def train(datagram: bytes) -> Train:
    return Train(datagram, len(datagram), TO_CLIENT)


def life(peer: Peer, until: float) -> tuple[float | None, list[object]]:
    """Let every deadline pass up to ``until``: when the engine was gone, and the frames that it sent."""
    heard: list[object] = []
    for _ in range(100):
        deadline = peer.endpoint.next_timeout()
        if deadline is None or deadline > until:
            break
        peer.pair.now = max(peer.now, deadline)
        peer.endpoint.handle_timeout(peer.now)
        if peer.engine.terminated:
            return peer.now, heard
        heard += peer.hears()
    return None, heard


# -- idle (§10.1) --------------------------------------------------------------------------------------------------


@pytest.mark.conformance("T71", "T72")
@pytest.mark.parametrize(("ours", "theirs", "least"), [(4, 9, 4), (9, 4, 4), (0, 5, 5), (5, 0, 5)])
def test_idle_at_the_smaller_of_both_values(ours: float, theirs: float, least: float) -> None:
    """§10.1: 0 is absent. The end is silent, also for who comes later."""
    pair = Pair(client={"max_idle_timeout": ours}, server={"max_idle_timeout": theirs})
    pair.exchange()
    start = pair.now
    sides = [(pair.client_endpoint, pair.client), (pair.server_endpoint, pair.server)]
    for endpoint, connection in sides:
        pair.now = start
        for _ in range(100):
            deadline = endpoint.next_timeout()
            if deadline is None or connection.terminated:
                break
            assert endpoint.next_train(max(pair.now, deadline)) is None
            pair.now = max(pair.now, deadline)
            endpoint.handle_timeout(pair.now)
            assert endpoint.next_train(pair.now) is None
        assert least - 0.5 < pair.now - start <= least
        assert connection.terminated and isinstance(connection.closed, ConnectionTimeout)


@pytest.mark.conformance("T71")
def test_idle_starts_anew_with_what_is_received() -> None:
    """§10.1: each packet that is processed, and nothing that is not."""
    peer = Peer(max_idle_timeout=4.0)
    peer.hears(ack=True)
    peer.pair.now += 3
    peer.sends(b"\x00")
    start = peer.now
    noise, _ = peer.packet(b"\x01")
    peer.pair.now += 3
    peer.delivers(noise[:-1] + bytes([noise[-1] ^ 1]))
    end, heard = life(peer, start + 20)
    assert end == pytest.approx(start + 4.0) and heard == []


@pytest.mark.conformance("T71")
def test_idle_starts_anew_with_the_first_question() -> None:
    """§10.1: a packet that asks for an ACK, the first since one was received."""
    peer = Peer(max_idle_timeout=4.0)
    peer.hears(ack=True)
    peer.pair.now += 3
    asked = peer.now
    peer.engine.ping()
    assert [frame.name for frame in peer.hears() if frame.name == "PING"] == ["PING"]
    peer.pair.now += 2
    peer.engine.ping()
    end, _ = life(peer, asked + 20)
    assert end is not None and asked + 4.0 <= end < asked + 4.1


@pytest.mark.conformance("T71")
def test_idle_lasts_three_probe_timeouts_at_least() -> None:
    """§10.1: so that a lost packet has a chance, however short both sides want it."""
    peer = Peer(max_idle_timeout=0.001)
    start = peer.now
    peer.sends(b"\x00")
    rtt = peer.engine._state.recovery.rtt
    pto = rtt.smoothed_rtt + max(4 * rtt.rttvar, 0.001) + 0.025
    end, _ = life(peer, start + 20)
    assert end is not None and end - start >= 3 * pto - 1e-6 > 0.1


# -- closing and draining (§10.2) ----------------------------------------------------------------------------------


@pytest.mark.conformance("T73")
def test_closing_answers_less_and_less_often_for_three_probe_timeouts() -> None:
    """§10.2.1: after 1, 2, 4, 8 ... packets; and then nobody is there any more."""
    peer = Peer()
    peer.hears(ack=True)
    pto = peer.engine._state.recovery.pto_duration(ONE_RTT)
    peer.engine.close(3, "done", now=peer.now)
    start = peer.now
    answered = [[frame.frame_type for frame in peer.hears() if frame.frame_type in (0x1C, 0x1D)]]
    for _ in range(16):
        peer.sends(b"\x01")
        answered.append([frame.frame_type for frame in peer.hears() if frame.frame_type in (0x1C, 0x1D)])
    assert [index for index, types in enumerate(answered) if types == [0x1D]] == [0, 1, 2, 4, 8, 16]
    assert sum(map(len, answered)) == 6
    end, heard = life(peer, start + 60)
    assert end is not None and start + 3 * pto <= end < start + 5 * pto and heard == []
    assert not peer.endpoint.connections


@pytest.mark.conformance("T74")
def test_closing_at_an_unproven_address_stays_within_three_times_what_came() -> None:
    """§10.2.1, §8.1: a server whose budget is spent closes in silence, and says so when there is room again."""
    pair = Pair()
    first = pair.from_client()
    received = sum(len(sent.data) for sent in first)
    pair.to_server(first)
    total = sum(len(sent.data) for sent in pair.from_server())
    while pair.now < 108 and total <= 3 * received - 40:
        deadline = pair.server_endpoint.next_timeout()
        assert deadline is not None
        pair.now = max(pair.now, deadline)
        pair.server_endpoint.handle_timeout(pair.now)
        total += sum(len(sent.data) for sent in pair.from_server())
    budget = pair.server._state.path.budget()
    pair.server._state.path.bytes_sent += max(0, budget - 40)  # what is left is less than a close takes
    pair.server.close(1, now=pair.now)
    assert pair.from_server() == []
    pair.to_server([train(long_packet(pair.client._state, INITIAL, b"\x01", number=9, pad_to=1200))])
    (sent,) = pair.from_server()
    assert Listener(pair.server).reads([sent])[0].closes
    assert total + len(sent.data) <= 3 * (received + 1200)


@pytest.mark.conformance("T75")
def test_draining_is_silent_for_three_probe_timeouts() -> None:
    """§10.2.2: whatever comes, and whatever was waiting to be sent."""
    peer = Peer()
    peer.hears(ack=True)
    pto = peer.engine._state.recovery.pto_duration(ONE_RTT)
    peer.engine.open_stream().write(bytes(5000))
    peer.sends(b"\x01")
    peer.sends(b"\x01", f.write_connection_close(9, b"", None))
    start = peer.now
    assert peer.hears() == []
    for _ in range(20):
        peer.sends(b"\x01")
        peer.sends(f.write_connection_close(9, b"", None))
        assert peer.hears() == []
    peer.engine.close(1, now=peer.now)
    end, heard = life(peer, start + 60)
    assert end is not None and start + 3 * pto <= end < start + 5 * pto and heard == []


# -- CONNECTION_CLOSE and the handshake (§10.2.3) ------------------------------------------------------------------


@pytest.mark.conformance("T76")
def test_a_server_closes_at_every_level_before_the_handshake_is_confirmed() -> None:
    """§10.2.3: the application's own code and words only in the 1-RTT packet."""
    pair = Pair()
    pair.to_server(pair.from_client())
    listener = Listener(pair.server)
    pair.from_server()
    pair.server.close(7, "secret", now=pair.now)
    (sent,) = pair.from_server()
    packets = listener.reads([sent])
    assert [(packet.level, packet.closes) for packet in packets] == [
        ("initial", [(0x1C, E.APPLICATION_ERROR, b"")]),
        ("handshake", [(0x1C, E.APPLICATION_ERROR, b"")]),
        ("1RTT", [(0x1D, 7, b"secret")]),
    ]


@pytest.mark.conformance("T76")
@pytest.mark.parametrize("heard", [False, True], ids=["before the server's flight", "after it"])
def test_a_client_closes_at_every_level_before_the_handshake_is_confirmed(heard: bool) -> None:
    """§10.2.3, §14.1: an Initial with a full datagram, or what comes after it."""
    pair = Pair()
    listener = Listener(pair.client)
    first = pair.from_client()
    if heard:
        pair.to_server(first)
        pair.to_client(pair.from_server())
        listener.learn()
    pair.client.close(7, "secret", now=pair.now)
    (sent,) = pair.from_client()
    found = [(packet.level, packet.closes) for packet in listener.reads([sent])]
    said = [(0x1C, E.APPLICATION_ERROR, b"")]
    assert found[0] == ("initial", said) and len(sent.data) >= 1200
    assert found[1:] == ([("handshake", said), ("1RTT", [(0x1D, 7, b"secret")])] if heard else [])


@pytest.mark.conformance("T76")
def test_a_transport_error_keeps_its_words_at_every_level() -> None:
    """§10.2.3: only the application's close is disguised."""
    pair = Pair()
    pair.to_server(pair.from_client())
    listener = Listener(pair.server)
    pair.from_server()
    pair.to_server([train(long_packet(pair.client._state, INITIAL, b"\x3f", number=9, pad_to=1200))])
    packets = listener.reads(pair.from_server())
    assert [packet.level for packet in packets] == ["initial", "handshake", "1RTT"]
    assert {close[:2] for packet in packets for close in packet.closes} == {(0x1C, E.FRAME_ENCODING_ERROR)}


@pytest.mark.conformance("T76a")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_a_close_after_the_handshake_is_one_short_packet(plays: str) -> None:
    """§10.2.3."""
    peer = Peer(plays)
    peer.engine.close(5, "bye", now=peer.now)
    sent = peer.endpoint.next_train(peer.now)
    assert sent is not None and peer.endpoint.next_train(peer.now) is None
    (packet,) = Listener(peer.engine).reads([sent])
    assert (packet.level, packet.closes) == ("1RTT", [(0x1D, 5, b"bye")])


@pytest.mark.conformance("T77")
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
@pytest.mark.parametrize("to", ["server", "client"])
def test_an_applications_close_before_there_is_an_application(to: str, space: int) -> None:
    """§12.5, §17.2.4: 0x1d in an Initial or Handshake packet is PROTOCOL_VIOLATION, and closes nothing by itself."""
    pair = Pair()
    pair.to_server(pair.from_client())
    flight = pair.from_server()
    if to == "client":
        target, endpoint, puppet = pair.client, pair.client_endpoint, pair.server
        if space == HANDSHAKE:
            pair.to_client(flight)
            pair.from_client()
    else:
        target, endpoint, puppet = pair.server, pair.server_endpoint, pair.client
        if space == HANDSHAKE:
            pair.to_client(flight)
    listener = Listener(target)
    packet = long_packet(puppet._state, space, f.write_connection_close(5, b"", None), number=40, pad_to=1200)
    endpoint.receive(Train(packet, len(packet), TO_SERVER if to == "client" else TO_CLIENT), pair.now)
    sent = endpoint.next_train(pair.now)
    assert sent is not None
    closes = [close for found in listener.reads([sent]) for close in found.closes]
    assert closes and {close[:2] for close in closes} == {(0x1C, E.PROTOCOL_VIOLATION)}

"""What goes out again when it is lost, and as what (RFC 9000 §13.3)."""

from __future__ import annotations

import pytest
from peer import Pair, Peer
from wire import Listener

from quicstack.wire import frame as f


def lose(peer: Peer) -> None:
    """What was sent last is declared lost: three newer packets are acknowledged."""
    for _ in range(3):
        peer.engine.ping()
        peer.hears()
    peer.acknowledges(max(peer.received))


def named(peer: Peer, name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in peer.hears() if frame.name == name]


@pytest.mark.conformance("T101")
def test_data_is_repeated_in_new_packets_and_not_packets() -> None:
    """§13.3: what was in two packets may come in one, under a new number."""
    peer = Peer()
    peer.hears(ack=True)
    stream = peer.engine.open_stream(unidirectional=True)
    for part in (b"one ", b"two"):
        stream.write(part)
        assert len(named(peer, "STREAM")) == 1
    before = max(peer.received)
    lose(peer)
    frames = [frame for frame in peer.hears() if frame.name == "STREAM"]
    assert [(frame.offset, frame.data) for frame in frames] == [(0, b"one two")]
    assert min(number for number in peer.received if number > before) > before


@pytest.mark.conformance("T101")
@pytest.mark.parametrize("newest", ["lost too", "acknowledged"])
@pytest.mark.parametrize("what", ["MAX_DATA", "MAX_STREAM_DATA", "MAX_STREAMS"])
def test_a_limit_is_repeated_as_it_is_now(what: str, newest: str) -> None:
    """§13.3: the newest value, unless that is acknowledged, and the old one never again."""
    peer = Peer(initial_max_data=2000, initial_max_stream_data_bidi_remote=2000, initial_max_streams_uni=4)
    peer.hears(ack=True)
    sent = 0

    def use() -> None:
        nonlocal sent
        if what == "MAX_STREAMS":
            for _ in range(2):
                peer.sends(f.stream_header(2 + 4 * sent, 0, 1, True) + b"x")
                sent += 1
            for stream in peer.engine.take_ready().streams:
                stream.read()
        else:
            peer.sends(f.stream_header(0, sent, 1100, False) + bytes(1100))
            sent += 1100
            reader = peer.engine.stream(0)
            assert reader is not None
            reader.read()

    def next_limit() -> dict[str, object]:
        for _ in range(10):
            use()
            if found := named(peer, what):
                return found[0]
        raise AssertionError("no credit was given")

    first, second = next_limit(), next_limit()
    assert int(str(second["maximum"])) > int(str(first["maximum"]))
    if newest == "acknowledged":
        peer.acknowledges(max(peer.received))
    lose(peer)
    again = [frame["maximum"] for frame in named(peer, what)]
    assert again == ([] if newest == "acknowledged" else [second["maximum"]])


@pytest.mark.conformance("T101")
def test_a_challenge_is_repeated_with_new_data() -> None:
    """§13.3, §8.2.1: each time other data that nobody can guess."""
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(b"\x01" + bytes(1200), path=peer.path._replace(remote=("203.0.113.77", 4000)))
    asked: list[object] = []
    for _ in range(12):
        asked += named(peer, "PATH_CHALLENGE")
        deadline = peer.endpoint.next_timeout()
        assert deadline is not None
        peer.pair.now = max(peer.now, deadline)
        peer.endpoint.handle_timeout(peer.now)
    data = [str(challenge["data"]) for challenge in asked]  # type: ignore[index]
    assert len(data) >= 4 and len(set(data)) == len(data)


@pytest.mark.conformance("T101")
@pytest.mark.parametrize("found_by", ["ACK", "PTO"])
def test_what_is_never_repeated(found_by: str) -> None:
    """§13.3, RFC 9221 §5.2: PATH_RESPONSE, DATAGRAM, PADDING; PING only as a probe."""
    peer = Peer()
    peer.hears(ack=True)
    peer.engine.send_datagram(b"once")
    peer.sends(b"\x1a12345678")
    assert {"DATAGRAM", "PATH_RESPONSE"} <= {frame.name for frame in peer.hears()}
    if found_by == "ACK":
        lose(peer)
    later = {frame.name for frame in peer.advance(5)}
    assert not later & {"DATAGRAM", "PATH_RESPONSE"}


@pytest.mark.conformance("T101a")
def test_handshake_done_until_it_is_acknowledged() -> None:
    """§13.3: the first two packets with it are lost; the third arrives and is the last."""
    pair = Pair()
    for _ in range(2):
        pair.to_server(pair.from_client())
        flight = pair.from_server()
        listener = Listener(pair.server)
        if not pair.server.handshake_confirmed:
            pair.to_client(flight)
    times: list[float] = []

    def carry(trains: list[object], listener: Listener) -> None:
        for train in trains:
            found = [packet for packet in listener.reads([train]) if packet.named("HANDSHAKE_DONE")]  # type: ignore[list-item]
            times.extend([pair.now] * len(found))
            if not found or len(times) > 2:
                pair.to_client([train])  # type: ignore[list-item]

    carry(list(flight), listener)
    for _ in range(300):
        carry(list(pair.from_server()), listener)
        pair.to_server(pair.from_client())
        pair.now += 0.02
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
        assert pair.client.handshake_confirmed == (len(times) > 2)
        if pair.client.handshake_confirmed:
            break
    pair.exchange(rounds=50)
    before = len(times)
    for _ in range(100):
        carry(list(pair.from_server()), listener)
        pair.to_server(pair.from_client())
        pair.now += 0.02
        pair.server_endpoint.handle_timeout(pair.now)
    assert len(times) == before >= 3


@pytest.mark.conformance("T101a")
def test_a_reset_is_repeated_as_it_was() -> None:
    """§13.3: the first two packets with it are lost; stream, code and final size stay the same."""
    peer = Peer()
    peer.hears(ack=True)
    stream = peer.engine.open_stream()
    stream.write(b"part")
    peer.hears()
    stream.reset(7)
    resets = []
    for attempt in range(3):
        resets += named(peer, "RESET_STREAM")
        peer.sends(f.write_stop_sending(stream.id, 9))  # asks for what is done already, and changes no code
        if attempt < 2:
            lose(peer)
    assert len(resets) == 3 and all(reset == resets[0] for reset in resets)
    assert resets[0] == {"stream_id": stream.id, "error_code": 7, "final_size": 4}
    peer.acknowledges(*peer.received)
    assert not [frame for frame in peer.advance(20) if frame.name == "RESET_STREAM"]

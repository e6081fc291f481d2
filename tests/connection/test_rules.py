"""Rules of RFC 9000, RFC 9001 and RFC 9221 one by one, as a peer can observe them. The peer is scripted."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.connection import key_update
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Path, Train
from quicstack.wire import frame as f
from quicstack.wire.packet import read_long_header, write_version_negotiation
from quicstack.wire.version import VERSIONS

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def train(datagram: bytes, path: Path = TO_CLIENT, ecn: int = 0) -> Train:
    return Train(datagram, len(datagram), path, ecn)


def named(peer: Peer, name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in peer.hears() if frame.name == name]


# -- streams (§2 to §4) --------------------------------------------------------------------------------------------


def test_stream_ids() -> None:
    """§2.1: 0 and 2 first from a client, 1 and 3 from a server, then by fours."""
    pair = Pair()
    pair.exchange()
    for side, first in ((pair.client, 0), (pair.server, 1)):
        for unidirectional, kind in ((False, 0), (True, 2)):
            ids = [side.open_stream(unidirectional=unidirectional).id for _ in range(3)]
            assert ids == [first + kind + 4 * n for n in range(3)]


def test_data_never_changes() -> None:
    """§2.2: what came first counts."""
    peer = Peer()
    peer.sends(stream(0, b"cd", 2))
    peer.sends(stream(0, b"abXY"))
    received = peer.engine.stream(0)
    assert received is not None and received.read() == b"abcd"


def test_an_empty_frame_with_fin() -> None:
    """§19.8: it opens the stream and ends it; the reader learns of both."""
    peer = Peer()
    peer.sends(stream(0, b"", fin=True))
    (received,) = peer.engine.take_ready().streams
    assert received.read() == b"" and received.at_end


def test_fin_alone_after_the_data() -> None:
    """§19.8: the end is news for a reader who has read everything."""
    peer = Peer()
    peer.sends(stream(0, b"all"))
    (received,) = peer.engine.take_ready().streams
    assert received.read() == b"all" and not received.at_end
    peer.sends(stream(0, b"", 3, fin=True))
    assert peer.engine.take_ready().streams == [received]
    assert received.at_end


def test_no_credit_for_a_stream_whose_size_is_known() -> None:
    """§3.2."""
    peer = Peer(initial_max_stream_data_bidi_remote=1000)
    peer.sends(stream(0, bytes(900), fin=True))
    received = peer.engine.stream(0)
    assert received is not None
    received.read()
    assert not named(peer, "MAX_STREAM_DATA")


def test_no_stop_sending_after_a_reset() -> None:
    """§3.5."""
    peer = Peer()
    peer.sends(f.write_reset_stream(0, 1, 0))
    received = peer.engine.stream(0)
    assert received is not None
    received.stop_sending(5)
    assert not named(peer, "STOP_SENDING")


def test_nothing_follows_a_reset() -> None:
    """§3.1, §3.3: no STREAM, no STREAM_DATA_BLOCKED, and no retransmission either."""
    peer = Peer()
    ours = peer.engine.open_stream()
    assert ours.send is not None
    ours.send.limit = 1000
    ours.write(bytes(2000))
    peer.hears()
    ours.reset(4)
    frames = [frame.name for frame in peer.hears() + peer.advance(5)]
    assert "RESET_STREAM" in frames
    assert not {"STREAM", "STREAM_DATA_BLOCKED"} & set(frames)


def test_max_stream_data_opens_a_stream() -> None:
    """§3.2: with all lower ones of its type."""
    peer = Peer()
    peer.sends(f.write_limit(f.MAX_STREAM_DATA, 8, 1 << 30))
    (opened,) = peer.engine.take_ready().streams
    assert opened.id == 8 and opened.writable
    assert peer.engine._state.streams.peer[0].opened == 3


def test_reset_beyond_connection_credit() -> None:
    """§4.5, §19.9."""
    peer = Peer(initial_max_data=1000)
    peer.sends(f.write_reset_stream(0, 1, 1001))
    assert peer.closed_with() == E.FLOW_CONTROL_ERROR


def test_frames_for_a_stream_that_is_gone() -> None:
    """§3: late copies of anything are no news."""
    peer = Peer()
    peer.sends(stream(2, b"x", fin=True))
    peer.engine.take_ready().streams[0].read()
    peer.hears(ack=True)
    assert peer.engine.stream(2) is None
    peer.sends(stream(2, b"x", fin=True), f.write_reset_stream(2, 5, 1), f.write_limit(f.STREAM_DATA_BLOCKED, 2, 9))
    assert peer.engine.closed is None
    assert peer.engine.take_ready().streams == []


def test_the_handshake_needs_no_credit() -> None:
    """§4: CRYPTO frames are not flow controlled."""
    pair = Pair(client={"initial_max_data": 0}, server={"initial_max_data": 0})
    pair.exchange()
    assert pair.client.handshake_confirmed


def test_limits_are_seen_from_who_sets_them() -> None:
    """§18.2: bidi_local is for streams of the side that sends the parameter."""
    sizes = {f"initial_max_stream_data_{name}": size for name, size in
             (("bidi_local", 1000), ("bidi_remote", 2000), ("uni", 3000))}  # fmt: skip
    pair = Pair(server=sizes)
    pair.exchange()
    for unidirectional, expected in ((False, 2000), (True, 3000)):
        ours = pair.client.open_stream(unidirectional=unidirectional)
        assert ours.send is not None and ours.send.limit == expected
    pair.server.open_stream().write(b"x")
    pair.exchange()
    theirs = pair.client.stream(1)
    assert theirs is not None and theirs.send is not None and theirs.send.limit == 1000


# -- connection IDs (§5.1) -----------------------------------------------------------------------------------------


def test_sequence_numbers_rise_by_one() -> None:
    """§5.1.1, §10.3.2: and no ID or token is given twice."""
    peer = Peer()
    seen = [(n, cid) for n, cid in peer.engine._state.local_cids.active.items()]
    tokens = set()
    for n in range(1, 20):
        peer.sends(f.write_limit(f.RETIRE_CONNECTION_ID, n))
        for fields in named(peer, "NEW_CONNECTION_ID"):
            seen.append((fields["sequence_number"], fields["connection_id"]))  # type: ignore[arg-type]
            tokens.add(fields["stateless_reset_token"])
    assert [n for n, _ in seen] == list(range(23))
    assert len({cid for _, cid in seen}) == 23 and len(tokens) == 19


def test_more_ids_if_some_are_asked_back() -> None:
    """§5.1.1: the limit counts what is active after Retire Prior To."""
    peer = Peer()
    peer.sends(f.write_new_connection_id(4, 1, b"fourfour", bytes(16)))
    assert peer.engine.closed is None
    peer.sends(f.write_new_connection_id(5, 0, b"fivefive", bytes(16)))
    assert peer.closed_with() == E.CONNECTION_ID_LIMIT_ERROR


def test_the_same_id_again() -> None:
    """§19.15: three times, and then a frame with a smaller Retire Prior To."""
    peer = Peer()
    frame = f.write_new_connection_id(4, 2, b"fourfour", bytes(16))
    peer.sends(frame, frame, frame)
    peer.sends(f.write_new_connection_id(5, 0, b"fivefive", bytes(16)))
    assert peer.engine.closed is None
    retired = [fields["sequence_number"] for fields in
               (frame.fields for frame in peer.hears_on(peer.engine._state.peer_cids.current.cid))]  # fmt: skip
    assert sorted(retired) == [0, 1]  # type: ignore[type-var]


def test_one_id_under_two_numbers() -> None:
    """§19.15."""
    peer = Peer()
    cid = peer.engine._state.peer_cids.spare[0].cid
    peer.sends(f.write_new_connection_id(7, 4, cid, bytes(16)))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


def test_new_ids_for_a_peer_that_has_none() -> None:
    """§19.15, §5.1.1: a zero-length ID stays; we may issue to such a peer, it may not issue to us."""
    pair = Pair(client={"connection_id_length": 0})
    pair.exchange()
    assert pair.server.closed is None and len(pair.client._state.peer_cids.spare) == 3
    assert not pair.server._state.peer_cids.spare
    pair.client._state.outbox.push(_value(f.write_new_connection_id(1, 0, b"abcdefgh", bytes(16))))
    pair.exchange(rounds=2)
    assert getattr(pair.server.closed, "code", None) == E.PROTOCOL_VIOLATION


def test_retiring_the_id_of_an_endpoint_that_has_none() -> None:
    """§19.16."""
    pair = Pair(client={"connection_id_length": 0})
    pair.exchange()
    pair.server._state.outbox.push(_value(f.write_limit(f.RETIRE_CONNECTION_ID, 0)))
    pair.exchange(rounds=2)
    assert getattr(pair.client.closed, "code", None) == E.PROTOCOL_VIOLATION


def _value(frame: bytes) -> object:
    from quicstack.transport.outbox import SentValue

    return SentValue(lambda: frame)


def test_every_id_is_good_at_any_time() -> None:
    """§5.1.1: a peer that changes it without moving."""
    peer = Peer()
    for cid in list(peer.engine._state.local_cids.active.values()):
        peer.state.peer_cids.current.cid = cid
        peer.sends(b"\x01")
        peer.hears()
    assert peer.engine._state.spaces[ONE_RTT].acks.largest >= 4
    assert peer.engine.path == TO_CLIENT


# -- the handshake (§6 to §8, §17) ---------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0x80, 0xFF])
def test_any_first_byte_of_version_negotiation(first: int) -> None:
    """RFC 8999 §6."""
    pair = Pair()
    pair.from_client()
    state = pair.client._state
    answer = write_version_negotiation(state.local_cids.first, state.original_dcid, [0x1A2A3A4A])
    pair.to_client([train(bytes([first]) + answer[1:])])
    assert pair.client.closed is not None


def test_version_negotiation_is_never_coalesced() -> None:
    """§12.2: it has no length."""
    pair = Pair()
    pair.from_client()
    state = pair.client._state
    cids = b"\x08" + state.local_cids.first + b"\x08" + state.original_dcid
    noise = b"\xe0\x00\x00\x00\x01" + cids + b"\x20" + bytes(32)
    answer = write_version_negotiation(state.local_cids.first, state.original_dcid, [0x1A2A3A4A])
    pair.to_client([train(noise + answer)])
    assert pair.client.closed is None


def test_long_connection_ids_in_version_1() -> None:
    """§17.2: dropped, not answered."""
    pair = Pair()
    packet = b"\xc0\x00\x00\x00\x01\x15" + bytes(21) + b"\x08" + bytes(8) + b"\x00\x44\x00"
    pair.to_server([train(packet.ljust(1200, b"\0"))])
    assert not pair.from_server() and not pair.server_endpoint.connections


def test_packets_of_another_version() -> None:
    """§5.2.1: in the middle of a connection."""
    pair = Pair()
    pair.to_server(pair.from_client())
    (sent, *_) = pair.from_server()
    pair.to_client([train(sent.data[:1] + b"\x6b\x33\x43\xcf" + sent.data[5:])])
    assert pair.client._state.peer_scid is None and pair.client.closed is None


def test_a_length_beyond_the_datagram() -> None:
    """§12.2."""
    pair = Pair()
    pair.to_server(pair.from_client())
    (sent, *_) = pair.from_server()
    header = read_long_header(sent.data, 0, VERSIONS[1])
    pair.to_client([train(sent.data[: header.end - 1])])
    assert pair.client._state.peer_scid is None


def test_a_packet_for_another_id_in_the_same_datagram() -> None:
    """§12.2: ignored, although we would know the ID."""
    pair = Pair()
    pair.exchange()
    state = pair.client._state
    cids = list(pair.server._state.local_cids.active.values())
    first = b"\xe0\x00\x00\x00\x01\x08" + cids[1] + b"\x08" + bytes(8) + b"\x20" + bytes(32)
    space = state.spaces[ONE_RTT]
    short = space.seal_keys.seal(b"\x43" + cids[2] + (900).to_bytes(4, "big"), 4, 900, bytes(3) + b"\x01")  # type: ignore[union-attr]
    pair.to_server([train(first + short)])
    assert pair.server._state.spaces[ONE_RTT].acks.largest < 900
    pair.to_server([train(first.replace(cids[1], cids[2]) + short)])
    assert pair.server._state.spaces[ONE_RTT].acks.largest == 900


def test_a_token_in_an_initial_of_the_server() -> None:
    """§17.2.2."""
    pair = Pair()
    pair.to_server(pair.from_client())
    packet = long_packet(pair.server._state, INITIAL, b"\x01", number=40, token=b"token")
    pair.to_client([train(packet)])
    assert pair.client._state.spaces[INITIAL].acks.largest < 40


@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE])
def test_reserved_bits_of_long_headers(space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """§17.2: looked at only in packets that open."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    state = pair.server._state
    import peer as peer_module

    write = peer_module.write_long_header
    monkeypatch.setattr(peer_module, "write_long_header", lambda *args: bytes([(h := write(*args))[0] | 0x0C]) + h[1:])
    if space == INITIAL:  # the client has thrown its keys away by then
        pair = Pair(seed=7)
        pair.to_server(pair.from_client())
        state = pair.server._state
    packet = long_packet(state, space, b"\x01", number=40)
    pair.to_client([train(packet[:-1] + bytes([packet[-1] ^ 1]))])
    assert pair.client.closed is None
    pair.to_client([train(packet)])
    assert getattr(pair.client.closed, "code", None) == E.PROTOCOL_VIOLATION


def test_an_application_close_before_the_application() -> None:
    """§12.5: 0x1d in a Handshake packet."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    packet = long_packet(pair.server._state, HANDSHAKE, f.write_connection_close(5, b"", None), number=40)
    pair.to_client([train(packet)])
    assert getattr(pair.client.closed, "code", None) == E.PROTOCOL_VIOLATION


def test_packets_of_levels_that_are_gone() -> None:
    """RFC 9001 §4.9: Initials and Handshake packets of old change nothing, an injected close least of all."""
    pair = Pair()
    pair.to_server(pair.from_client())
    state = pair.server._state
    initial = long_packet(state, INITIAL, f.write_connection_close(2, b"", 0), number=90)
    pair.to_client(pair.from_server())
    first_reply = pair.from_client()
    handshake = long_packet(state, HANDSHAKE, f.write_connection_close(2, b"", 0), number=90)
    pair.to_client([train(initial)])
    pair.to_server(first_reply)
    pair.exchange()
    pair.to_client([train(handshake)])
    assert pair.client.closed is None and pair.server.closed is None


def test_no_initial_after_the_first_handshake_packet() -> None:
    """RFC 9001 §4.9.1."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.from_client()
    pair.client.close(5, now=pair.now)
    for sent in pair.from_client():
        assert all(kind != INITIAL for kind, _ in opens_long(pair.server._state, sent.data))


def test_one_rtt_packets_wait_for_the_handshake() -> None:
    """RFC 9001 §5.7: neither delivered nor acknowledged by the server before Finished."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    (finished, *_) = pair.from_client()
    early = pair.client.open_stream()
    early.write(b"early")
    pair.now += 0.01
    packets = pair.from_client()
    short = [sent.data[read_long_header(sent.data, 0, VERSIONS[1]).end :] if sent.data[0] & 0x80 else sent.data
             for sent in packets]  # fmt: skip
    pair.to_server([train(datagram) for datagram in short])
    assert pair.server.stream(0) is None
    assert pair.server._state.spaces[ONE_RTT].acks.largest == -1
    pair.to_server([finished])
    received = pair.server.stream(0)
    assert received is not None and received.read() == b"early"


def test_waiting_packets_are_few_and_small() -> None:
    """RFC 9001 §5.7: what is kept for keys to come has a bound in bytes too."""
    pair = Pair()
    pair.to_server(pair.from_client())
    cid = pair.server._state.local_cids.first
    for _ in range(40):
        pair.to_server([train(b"\x40" + cid + bytes(9000))])
    assert sum(len(packet.data) for packet in pair.server._state.spaces[ONE_RTT].waiting) <= 1 << 15


def test_a_client_without_anything_to_say_keeps_the_server_going() -> None:
    """§8.1: the anti-deadlock probe: Handshake if there are keys, else a padded Initial."""
    pair = Pair()
    pair.to_server(pair.from_client())
    trains = pair.from_server()
    header = read_long_header(trains[0].data, 0, VERSIONS[1])
    pair.to_client([train(trains[0].data[: header.end])])
    pair.from_client()
    for _ in range(3):
        deadline = pair.client_endpoint.next_timeout()
        assert deadline is not None
        pair.now = max(pair.now, deadline)
        pair.client_endpoint.handle_timeout(pair.now)
    sent = pair.from_client()
    assert sent and all(one.data[0] & 0x80 for one in sent)
    assert all(kind == 2 or len(one.data) >= 1200 for one in sent
               for kind, _ in opens_long(pair.server._state, one.data))  # fmt: skip


# -- packets and acknowledgements (§12, §13) -----------------------------------------------------------------------


def test_a_replayed_packet() -> None:
    """§12.3."""
    peer = Peer()
    datagram, _ = peer.packet(f.write_datagram(b"once"))
    for _ in range(3):
        peer.delivers(datagram)
    assert peer.engine.receive_datagram() == b"once"
    assert peer.engine.receive_datagram() is None
    assert peer.engine.stats().counters.packets_duplicate == 2


def test_a_packet_that_fails_is_not_acknowledged() -> None:
    """§13.1."""
    peer = Peer()
    peer.hears(ack=True)
    before = peer.engine._state.spaces[ONE_RTT].acks.largest
    peer.sends(b"\x01", b"\x3f")
    assert peer.engine._state.spaces[ONE_RTT].acks.largest == before


def test_acknowledgements_of_acknowledgements() -> None:
    """§13.2.1: two peers go quiet."""
    pair = Pair()
    pair.exchange(rounds=50)
    for _ in range(20):
        pair.now += 0.05
        for endpoint in (pair.client_endpoint, pair.server_endpoint):
            endpoint.handle_timeout(pair.now)
            assert endpoint.next_train(pair.now) is None


def test_one_packet_waits_two_do_not() -> None:
    """§13.2.1, §13.2.2."""
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(b"\x01")
    assert peer.endpoint.next_train(peer.now) is None
    assert any(frame.name.startswith("ACK") for frame in peer.advance(0.026))
    peer.sends(b"\x01")
    peer.sends(b"\x01")
    assert peer.endpoint.next_train(peer.now) is not None


@pytest.mark.parametrize("what", ["gap", "late", "CE"])
def test_acknowledged_at_once(what: str) -> None:
    """§13.2.1: what tells of loss or congestion."""
    peer = Peer()
    peer.hears(ack=True)
    if what == "late":
        late, _ = peer.packet(b"\x01")
        peer.sends(b"\x01")
        peer.hears()
        peer.delivers(late)
    elif what == "gap":
        peer.packet(b"\x01")
        peer.sends(b"\x01")
    else:
        peer.sends(b"\x01", ecn=3)
    assert peer.endpoint.next_train(peer.now) is not None


def test_ecn_counts_are_reported() -> None:
    """§13.4.1: once for each packet, not for duplicates."""
    peer = Peer()
    peer.hears(ack=True)
    before = list(peer.engine._state.spaces[ONE_RTT].acks.ecn)
    datagram, _ = peer.packet(b"\x01")
    peer.delivers(datagram, ecn=2)
    peer.delivers(datagram, ecn=2)
    peer.sends(b"\x01", ecn=3)
    (ack,) = named(peer, "ACK_ECN")
    assert ack["ecn"] == (before[0] + 1, before[1], before[2] + 1)


def test_every_second_packet_number() -> None:
    """§13.2.3: ranges are forgotten, the lowest first, and the frame fits a packet."""
    peer = Peer()
    for _ in range(2000):
        peer.packet(b"\x01")
        peer.sends(b"\x01")
        peer.pair.now += 0.001
        while (sent := peer.endpoint.next_train(peer.now)) is not None:
            assert all(len(datagram) <= 1200 for datagram in sent.datagrams())
    assert len(peer.engine._state.spaces[ONE_RTT].acks._ranges) <= 256
    assert peer.engine.closed is None


def test_the_wait_for_keys_is_part_of_the_ack_delay() -> None:
    """§13.2.5."""
    pair = Pair()
    pair.to_server(pair.from_client())
    trains = pair.from_server()
    header = read_long_header(trains[0].data, 0, VERSIONS[1])
    pair.to_client([train(trains[0].data[header.end :])])
    pair.now += 0.2
    pair.to_client([train(trains[0].data[: header.end])])
    acks = [frame.fields["ack_delay"] for sent in pair.from_client()
            for kind, frames in opens_long(pair.server._state, sent.data) if kind == 2
            for frame in frames if frame.name.startswith("ACK")]  # fmt: skip
    assert acks and acks[0] == int(0.2 * 1e6) >> 3


def test_a_peer_that_acknowledges_nothing_is_asked() -> None:
    """§13.2.4: so that ACK ranges can be forgotten, and not in every packet."""
    peer = Peer()
    kinds = []
    for _ in range(300):
        peer.sends(b"\x01", b"\x01")
        peer.sends(b"\x01")
        kinds += [frame.name for frame in peer.hears()]
    assert 1 <= kinds.count("PING") <= 10


def test_varints_may_be_longer_than_they_need() -> None:
    """§16: everywhere but in frame types."""
    peer = Peer()
    peer.sends(b"\x0a\x40\x00\x80\x00\x00\x02hi")
    received = peer.engine.stream(0)
    assert received is not None and received.read() == b"hi"


@pytest.mark.parametrize(("size", "opens"), [(2, False), (3, True)])
def test_packets_too_short_for_a_sample(size: int, opens: bool) -> None:
    """RFC 9001 §5.4.2: 19 bytes behind the connection ID are dropped, 20 are processed."""
    peer = Peer()
    space = peer.state.spaces[ONE_RTT]
    number = space.next_packet_number
    assert space.seal_keys is not None
    header = b"\x40" + peer.state.peer_cids.current.cid + bytes([number])
    body = space.seal_keys._seal((space.seal_keys.iv ^ number).to_bytes(12, "big"), b"\x01" * size, header)
    sample = body[3:19].ljust(16, b"\0")
    mask = space.seal_keys.masks(sample)
    peer.delivers(bytes([header[0] ^ mask[0] & 0x1F]) + header[1:-1] + bytes([number ^ mask[1]]) + body)
    assert (peer.engine._state.spaces[ONE_RTT].acks.largest == number) == opens
    assert peer.engine.closed is None


# -- key update (RFC 9001 §6) --------------------------------------------------------------------------------------


def test_old_keys_are_not_kept_for_long() -> None:
    """RFC 9001 §6.5: three PTOs, then what is late is dropped without an error."""
    peer = Peer()
    late, _ = peer.packet(stream(0, b"late"))
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    peer.pair.now += 10
    peer.delivers(late)
    assert peer.engine.stream(0) is None and peer.engine.closed is None


def test_header_protection_stays() -> None:
    """RFC 9001 §5.4, §6.1."""
    pair = Pair()
    pair.exchange()
    masks = pair.client._state.spaces[ONE_RTT].seal_keys.masks  # type: ignore[union-attr]
    pair.client.update_keys(pair.now)
    pair.exchange()
    assert pair.client._state.spaces[ONE_RTT].seal_keys.masks is masks  # type: ignore[union-attr]


# -- the end (§10) -------------------------------------------------------------------------------------------------


def test_only_sending_that_asks_for_an_answer_keeps_alive_once() -> None:
    """§10.1: the timer restarts with the first ack-eliciting packet after one was received, and no later one."""
    peer = Peer(max_idle_timeout=10.0)
    peer.hears(ack=True)
    start = peer.now
    for _ in range(8):
        if peer.engine.closed is None:
            peer.engine.ping()
            peer.hears()
            peer.advance(2)
    assert peer.engine.closed is not None
    deadline = peer.engine._state.idle_deadline
    assert deadline is not None and start + 10 <= deadline <= start + 10.2


def test_idle_is_never_less_than_three_ptos() -> None:
    """§10.1."""
    peer = Peer(max_idle_timeout=0.001)
    state = peer.engine._state
    assert state.idle_deadline is not None
    assert state.idle_deadline - peer.now > 2 * state.recovery.pto_duration(ONE_RTT)


def test_close_once_confirmed_goes_in_one_packet() -> None:
    """§10.2.3."""
    peer = Peer()
    peer.engine.close(5, "bye", now=peer.now)
    sent = peer.endpoint.next_train(peer.now)
    assert sent is not None and not sent.data[0] & 0x80
    (close,) = [frame for frame in peer.opens(sent.data)[1] if frame.name.startswith("CONNECTION_CLOSE")]
    assert close.fields["error_code"] == 5 and close.fields["reason"] == b"bye"


def test_closing_ends_draining() -> None:
    """§10.2.2: when the peer's close crosses ours, nothing more is said."""
    peer = Peer()
    peer.engine.close(5, now=peer.now)
    peer.hears()
    peer.sends(f.write_connection_close(9, b"", None))
    peer.sends(b"\x01")
    assert peer.hears() == []
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed) and not error.by_peer


def test_a_long_reason_is_cut() -> None:
    """§19.19: the frame fits a packet, and the text stays UTF-8."""
    peer = Peer()
    peer.engine.close(5, "ä" * 5000, now=peer.now)
    sent = peer.endpoint.next_train(peer.now)
    assert sent is not None and len(sent.data) <= 1200
    (close,) = [frame for frame in peer.opens(sent.data)[1] if frame.name.startswith("CONNECTION_CLOSE")]
    reason = close.fields["reason"]
    assert isinstance(reason, bytes) and reason.decode()


def test_a_wrong_path_response_is_ignored() -> None:
    """§19.18."""
    peer = Peer()
    peer.sends(b"\x1b12345678")
    assert peer.engine.closed is None


def test_a_server_keeps_its_address_in_the_handshake() -> None:
    """§9: packets from elsewhere before the handshake is complete go nowhere."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client(), Path(("203.0.113.9", 50000)))
    assert not pair.server.handshake_complete
    assert pair.server.path == TO_CLIENT
    assert TO_SERVER not in (sent.path for sent in pair.from_server())


# -- datagrams (RFC 9221) ------------------------------------------------------------------------------------------


def test_datagrams_to_the_end_of_the_packet_and_empty_ones() -> None:
    """RFC 9221 §4."""
    peer = Peer()
    peer.sends(f.write_datagram(b""), b"\x30to the end")
    assert [peer.engine.receive_datagram() for _ in range(3)] == [b"", b"to the end", None]


def test_a_datagram_longer_than_its_packet() -> None:
    """RFC 9221 §4."""
    peer = Peer()
    peer.sends(b"\x31\x10short")
    assert peer.closed_with() == E.FRAME_ENCODING_ERROR

"""Classes of bugs that fuzzing has found in QUIC stacks, each looked for on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from measure import size_of
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer, long_packet, opens_long

from quicstack.endpoint import Endpoint
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Train
from quicstack.wire import frame as f
from quicstack.wire.transport_parameters import read_transport_parameters
from quicstack.wire.varint import encode_varint

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def train(datagram: bytes) -> Train:
    return Train(datagram, len(datagram), TO_CLIENT)


@pytest.mark.attack("fuzz-ack-in-draining")
@pytest.mark.parametrize("where", ["the same packet", "another packet", "another packet of the same train"])
def test_frames_after_a_close(where: str) -> None:
    """RFC 9000 §10.2.2: draining is the end, for what stands behind the close as for what comes later."""
    peer = Peer()
    unread = peer.engine.open_stream()
    unread.write(b"unread")
    peer.hears()
    largest = peer.engine._state.spaces[ONE_RTT].next_packet_number - 1
    close = f.write_connection_close(9, b"", None)
    after = f.write_ack([(0, largest)], 0) + stream(0, b"data") + f.write_connection_close(5, b"", None)
    if where == "the same packet":
        peer.sends(close, after)
    else:
        datagrams = [peer.packet(close.ljust(60, b"\0"))[0], peer.packet(after.ljust(60, b"\0"))[0]]
        if where == "another packet":
            for datagram in datagrams:
                peer.delivers(datagram)
        else:
            peer.endpoint.receive(Train(b"".join(datagrams), len(datagrams[0]), TO_CLIENT), peer.now)
    error = peer.engine.closed
    assert isinstance(error, ConnectionClosed) and error.by_peer and error.code == 9
    assert peer.engine.stream(0) is None and peer.hears() == [] and peer.engine.internal_error is None


REQUIRED = {
    f.PADDING: b"\x00", f.PING: b"\x01", f.ACK: f.write_ack([(0, 0)], 0),
    f.ACK_ECN: f.write_ack([(0, 0)], 0, (1, 0, 0)),
    f.RESET_STREAM: f.write_reset_stream(0, 0, 0), f.STOP_SENDING: f.write_stop_sending(0, 0),
    f.CRYPTO: f.write_crypto(5000, b"x"), f.NEW_TOKEN: f.write_new_token(b"token"),
    **{f.STREAM | bits: bytes((f.STREAM | bits, 0)) + (b"\0" if bits & 4 else b"") + (b"\0" if bits & 2 else b"")
       for bits in range(8)},
    f.MAX_DATA: f.write_limit(f.MAX_DATA, 5), f.MAX_STREAM_DATA: f.write_limit(f.MAX_STREAM_DATA, 0, 5),
    f.MAX_STREAMS_BIDI: f.write_limit(f.MAX_STREAMS_BIDI, 5), f.MAX_STREAMS_UNI: f.write_limit(f.MAX_STREAMS_UNI, 5),
    f.DATA_BLOCKED: f.write_limit(f.DATA_BLOCKED, 5), f.STREAM_DATA_BLOCKED: f.write_limit(f.STREAM_DATA_BLOCKED, 0, 5),
    f.STREAMS_BLOCKED_BIDI: f.write_limit(f.STREAMS_BLOCKED_BIDI, 5),
    f.STREAMS_BLOCKED_UNI: f.write_limit(f.STREAMS_BLOCKED_UNI, 5),
    f.NEW_CONNECTION_ID: f.write_new_connection_id(9, 9, b"nineteen", bytes(16)),
    f.RETIRE_CONNECTION_ID: f.write_limit(f.RETIRE_CONNECTION_ID, 1), f.PATH_CHALLENGE: b"\x1a12345678",
    f.PATH_RESPONSE: b"\x1b12345678", f.CONNECTION_CLOSE: f.write_connection_close(0, b"", 0),
    f.CONNECTION_CLOSE_APP: f.write_connection_close(0, b"", None), f.HANDSHAKE_DONE: b"\x1e",
    f.IMMEDIATE_ACK: b"\x1f", f.RESET_STREAM_AT: f.write_reset_stream_at(0, 0, 0, 0), f.DATAGRAM: b"\x30",
    f.DATAGRAM_LEN: b"\x31\x00", f.ACK_FREQUENCY: f.write_ack_frequency(1, 2, 25_000, 2),
}  # fmt: skip
PERMITTED = {
    INITIAL: {"PADDING", "PING", "ACK", "ACK_ECN", "CRYPTO", "CONNECTION_CLOSE"},
    HANDSHAKE: {"PADDING", "PING", "ACK", "ACK_ECN", "CRYPTO", "CONNECTION_CLOSE"},
}
"""RFC 9000 §12.4, Table 3, without looking at the table of the code."""


@pytest.mark.attack("fuzz-frame-at-wrong-level")
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
@pytest.mark.parametrize("frame_type", REQUIRED, ids=lambda kind: f"{f.FRAMES[kind].name} {kind:#x}")
def test_every_frame_at_every_level(frame_type: int, space: int) -> None:
    """RFC 9000 §12.4: the table decides, and the peer is told so."""
    pair = Pair()
    pair.to_server(pair.from_client())
    state = pair.client._state
    sent = pair.from_server()
    if space == HANDSHAKE:
        pair.to_client(sent)
    frame = REQUIRED[frame_type]
    content = frame if frame_type in (0x30, 0x08, 0x09, 0x0C, 0x0D) else b"\x01" + frame
    pair.to_server([train(long_packet(state, space, content, number=50, pad_to=1200))])
    name = f.FRAMES[frame_type].name
    if frame_type != f.CONNECTION_CLOSE_APP and name in PERMITTED[space]:
        assert pair.server.closed is None or name == "CONNECTION_CLOSE"
    else:
        assert getattr(pair.server.closed, "code", None) == E.PROTOCOL_VIOLATION
        assert not pair.server.closed.by_peer  # type: ignore[union-attr]


@pytest.mark.attack("fuzz-frame-at-wrong-level")
@pytest.mark.parametrize("frame_type", REQUIRED, ids=lambda kind: f"{f.FRAMES[kind].name} {kind:#x}")
def test_every_frame_of_a_client_in_1_rtt(frame_type: int) -> None:
    """RFC 9000 §12.4, §19.7, §19.20: all but what servers alone send."""
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(REQUIRED[frame_type])
    code = getattr(peer.engine.closed, "code", 0)
    assert code == (E.PROTOCOL_VIOLATION if frame_type in (f.NEW_TOKEN, f.HANDSHAKE_DONE) else 0)
    assert peer.engine.internal_error is None


@pytest.mark.attack("fuzz-state-after-close")
@pytest.mark.parametrize("who", ["we", "the peer"])
def test_a_thousand_packets_after_the_close(who: str) -> None:
    """RFC 9000 §10.2: nothing is kept of them, and nothing but the close is said, less and less often."""
    peer = Peer()
    if who == "we":
        peer.engine.close(3, now=peer.now)
        peer.hears()
    else:
        peer.sends(f.write_connection_close(3, b"", None))
    before = size_of(peer.engine._state)
    answers = 0
    for n in range(1000):
        frame = stream(4 * (n % 100), bytes(100)) + f.write_new_connection_id(9 + n, n, n.to_bytes(8), bytes(16))
        peer.sends(frame, b"\x1a" + n.to_bytes(8, "big"))
        while (answer := peer.endpoint.next_train(peer.now)) is not None:
            answers += 1
            names = {frame.name for frame in peer.opens(answer.data)[1]}
            assert {name for name in names if not name.startswith("CONNECTION_CLOSE")} <= {"PADDING"}
    assert answers == (10 if who == "we" else 0)
    assert size_of(peer.engine._state) - before < 500
    assert not peer.engine._state.streams.streams
    peer.advance(20)
    assert not peer.endpoint.connections and not peer.endpoint._by_cid and not peer.endpoint._deadlines._heap


SEMANTICS = {
    "data on a stream that we send only": (stream(3, b"x"), E.STREAM_STATE_ERROR),
    "data on a stream of ours that is not open": (stream(1, b"x"), E.STREAM_STATE_ERROR),
    "STOP_SENDING for a stream that we receive only": (f.write_stop_sending(2, 0), E.STREAM_STATE_ERROR),
    "MAX_STREAM_DATA for a stream that we receive only": (
        f.write_limit(f.MAX_STREAM_DATA, 2, 5), E.STREAM_STATE_ERROR),
    "RESET_STREAM of a stream that we send only": (f.write_reset_stream(3, 0, 0), E.STREAM_STATE_ERROR),
    "STREAM_DATA_BLOCKED on a stream that we send only": (
        f.write_limit(f.STREAM_DATA_BLOCKED, 3, 5), E.STREAM_STATE_ERROR),
    "a stream beyond the limit": (stream(4 * 128, b"x"), E.STREAM_LIMIT_ERROR),
    "data beyond the stream's limit": (stream(0, b"x", 1 << 18), E.FLOW_CONTROL_ERROR),
    "2^60 + 1 streams": (f.write_limit(f.MAX_STREAMS_UNI, (1 << 60) + 1), E.FRAME_ENCODING_ERROR),
    "2^60 + 1 streams blocked": (f.write_limit(f.STREAMS_BLOCKED_UNI, (1 << 60) + 1), E.FRAME_ENCODING_ERROR),
    "an ID of no bytes": (b"\x18\x09\x00\x00" + bytes(16), E.FRAME_ENCODING_ERROR),
    "an ID of 21 bytes": (b"\x18\x09\x00\x15" + bytes(37), E.FRAME_ENCODING_ERROR),
    "retire_prior_to above its sequence number": (
        b"\x18\x09\x0a\x08" + bytes(24), E.FRAME_ENCODING_ERROR),
    "an ID retired that was never issued": (f.write_limit(f.RETIRE_CONNECTION_ID, 99), E.PROTOCOL_VIOLATION),
    "an ACK of a range below zero": (b"\x02\x02\x00\x00\x05", E.FRAME_ENCODING_ERROR),
    "an ACK from the future": (f.write_ack([(5000, 5000)], 0), E.PROTOCOL_VIOLATION),
    "a packet without frames": (b"", E.PROTOCOL_VIOLATION),
    "a reliable size above the final size": (f.write_reset_stream_at(0, 0, 4, 5), E.FRAME_ENCODING_ERROR),
    "a delay below min_ack_delay": (f.write_ack_frequency(0, 1, 1, 1), E.PROTOCOL_VIOLATION),
}  # fmt: skip


@pytest.mark.attack("fuzz-semantic-rules", "fuzz-error-codes-sent")
@pytest.mark.parametrize("rule", SEMANTICS)
def test_a_rule_is_broken(rule: str) -> None:
    """RFC 9000 §11.1, §20.1: the code of the rule stands in a CONNECTION_CLOSE on the wire; nobody falls silent."""
    frame, code = SEMANTICS[rule]
    peer = Peer()
    peer.hears(ack=True)
    peer.sends(frame)
    assert peer.closed_with() == code
    assert peer.engine.internal_error is None


@pytest.mark.attack("fuzz-error-codes-sent")
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
def test_a_rule_is_broken_during_the_handshake(space: int) -> None:
    """RFC 9000 §10.2.3: the close goes out at a level that the peer can read."""
    pair = Pair()
    pair.to_server(pair.from_client())
    if space == HANDSHAKE:
        pair.to_client(pair.from_server())
    pair.to_server([train(long_packet(pair.client._state, space, b"\x1e", number=50, pad_to=1200))])
    answers = pair.from_server()
    found = [frame for answer in answers for _, frames in opens_long(pair.client._state, answer.data)
             for frame in frames if frame.name == "CONNECTION_CLOSE"]  # fmt: skip
    assert found and all(frame.fields["error_code"] == E.PROTOCOL_VIOLATION for frame in found)
    pair.to_client(answers)
    error = pair.client.closed
    assert isinstance(error, ConnectionClosed) and error.by_peer and error.code == E.PROTOCOL_VIOLATION


@pytest.mark.attack("fuzz-connection-id-limits")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_connection_ids_beyond_the_limit_and_again(plays: str) -> None:
    """RFC 9000 §5.1.1, §19.15: one too many is an error of its own kind; the same once more is none, and kept once."""
    peer = Peer(plays, active_connection_id_limit=4)
    cids = peer.engine._state.peer_cids
    again = [f.write_new_connection_id(known.sequence, 0, known.cid, known.reset_token) for known in cids.spare]
    before = size_of(peer.engine._state)
    for _ in range(50):
        peer.sends(*again)
    assert peer.engine.closed is None and len(cids.spare) == 3
    assert size_of(peer.engine._state) - before < 500
    peer.sends(f.write_new_connection_id(77, 0, b"one more", bytes(16)))
    assert peer.closed_with() == E.CONNECTION_ID_LIMIT_ERROR
    for change in (b"another!", None):
        other = Peer(plays, active_connection_id_limit=4)
        known = other.engine._state.peer_cids.spare[0]
        sequence, cid = (known.sequence, change) if change else (99, known.cid)
        other.sends(f.write_new_connection_id(sequence, 0, cid, bytes(16)))
        assert other.closed_with() == E.PROTOCOL_VIOLATION


@pytest.mark.attack("fuzz-ack-of-ack")
def test_packets_of_nothing_but_acks() -> None:
    """RFC 9000 §13.2.1: a thousand of them are answered by nothing at all, however many gaps they leave."""
    peer = Peer()
    for _ in range(3):
        peer.hears(ack=True)
    number = peer.engine._state.spaces[ONE_RTT].next_packet_number - 1
    for n in range(1000):
        if n % 3 == 0:
            peer.packet(b"\x01")  # a gap
        peer.sends(f.write_ack([(0, number)], 0))
        assert peer.hears() == []
    assert peer.advance(1.0) == []
    assert peer.engine.closed is None


OVERLAPS: dict[str, list[tuple[int, bytes]]] = {
    "the same twice": [(2, b"cd"), (2, b"XX"), (0, b"ab"), (4, b"ef")],
    "in the middle": [(1, b"bcde"), (2, b"XX"), (0, b"a"), (5, b"f")],
    "around it": [(2, b"cd"), (0, b"abXXef")],
    "at its beginning": [(2, b"cdef"), (0, b"abXX")],
    "at its end": [(0, b"abcd"), (2, b"XXef")],
    "two holes at once": [(1, b"b"), (3, b"d"), (0, b"aXcXef")],
    "what was read": [(0, b"abc"), (0, b"XXXdef")],
    "byte by byte backwards": [(5, b"f"), (4, b"eX"), (3, b"dXX"), (2, b"cXXX"), (1, b"bXXXX"), (0, b"aXXXXX")],
}


@pytest.mark.attack("fuzz-overlapping-data")
@pytest.mark.parametrize("case", OVERLAPS)
def test_different_data_at_the_same_place(case: str) -> None:
    """RFC 9000 §2.2: what was there first stays, so the application reads what a censor or a scanner saw first."""
    peer = Peer()
    read = b""
    for offset, data in OVERLAPS[case]:
        peer.sends(stream(0, data, offset))
        received = peer.engine.stream(0)
        assert received is not None
        if case == "what was read":
            read += received.read()
    received = peer.engine.stream(0)
    assert received is not None
    assert read + received.read() == b"abcdef"
    assert received.bytes_received == 6


@pytest.mark.attack("fuzz-hash-collisions")
def test_tables_that_a_stranger_fills_are_keyed_by_bytes() -> None:
    """Python's hash of bytes has a secret key, that of an integer is the integer. Integers key small tables alone."""
    pair = Pair()
    pair.exchange()
    for endpoint in (pair.client_endpoint, pair.server_endpoint):
        assert isinstance(endpoint, Endpoint)
        for table in (endpoint._by_cid, endpoint._by_token, endpoint._tokens._used, endpoint._fresh_cids):
            assert all(type(key) is bytes for key in table)
    peer = Peer(initial_max_streams_bidi=16)
    for n in range(16):
        peer.sends(stream(4 * n, b"x"))
    peer.sends(f.write_new_connection_id(1 << 40, 1 << 40, b"far away", bytes(16)))
    state = peer.engine._state
    assert len(state.streams.streams) == 16 and len(state.peer_cids._seen) <= 4
    assert [len(state.peer_cids._retiring) <= 16, len(state.local_cids.active) <= 4] == [True, True]


def collisions(count: int) -> Iterator[int]:
    """Transport parameter identifiers whose lower bits are the same, so that their hashes meet in a table of ints."""
    yield from ((n << 40) + 27 for n in range(1, count + 1))


@pytest.mark.attack("fuzz-hash-collisions")
def test_identifiers_of_parameters_that_would_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9000 §7.4: they are kept, to find one sent twice, but not under what the client chose."""
    keys: list[object] = []

    class Noted(set):  # type: ignore[type-arg]
        def add(self, key: object) -> None:
            keys.append(key)
            super().add(key)

    monkeypatch.setattr("quicstack.wire.transport_parameters.set", Noted, raising=False)
    body = b"".join(encode_varint(identifier) + b"\x00" for identifier in collisions(5000))
    read_transport_parameters(body, from_server=False)
    assert len(keys) == 5000 and all(type(key) is bytes for key in keys)


@pytest.mark.attack("fuzz-single-packet-number-space")
def test_one_packet_number_at_every_level() -> None:
    """RFC 9000 §12.3: three spaces, in each of which every number is new."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    client, server = pair.client._state, pair.server._state
    received = server.counters.packets_received
    pair.to_server([train(long_packet(client, INITIAL, b"\x01", number=77, pad_to=1200))])
    pair.to_server([train(long_packet(client, HANDSHAKE, b"\x01", number=77))])
    assert server.counters.packets_received == received + 2
    pair.to_server(pair.from_client())
    assert pair.server.handshake_complete
    keys = client.spaces[ONE_RTT].seal_keys
    assert keys is not None
    head = b"\x43" + pair.server.local_cids[0] + (77).to_bytes(4, "big")
    received = server.counters.packets_received
    for _ in range(2):
        pair.to_server([train(keys.seal(head, 4, 77, stream(0, b"x" * 20)))])
    assert server.counters.packets_received == received + 1 and server.counters.packets_duplicate == 1
    assert [77 in space.acks._ranges for space in server.spaces] == [True, True, True]


@pytest.mark.attack("c: reset oracle (RFC 9000 21.11)")
def test_another_server_of_the_cluster_cannot_be_made_to_end_a_connection() -> None:
    """RFC 9000 §21.11: each has a reset key of its own unless it is told one. With one key for all, packets have to
    be routed by connection ID: ``generate_connection_id`` is for that."""
    for shared in (False, True):
        settings = {"stateless_reset_key": bytes(32)} if shared else {}
        pair, other = Pair(server=settings), Pair(server=settings, seed=50)
        pair.exchange()
        pair.client.ping()
        (misrouted,) = pair.from_client()
        stray = b"\x41" + pair.server.local_cids[0] + bytes(100)
        for datagram in (misrouted.data, stray):
            other.to_server([train(datagram)])
        resets = other.from_server()
        assert resets
        for reset in resets:
            pair.client_endpoint.receive(Train(reset.data, len(reset.data), TO_SERVER), pair.now)
        assert (pair.client.closed is not None) is shared

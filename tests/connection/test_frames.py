"""What each frame does to a connection, and what closes it (RFC 9000 §3, §4, §12.4, §19). The peer is scripted."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, Pair, Peer, long_packet

from quicstack.errors import StreamReset, StreamStopped, TransportErrorCode
from quicstack.transport.path import MAX_RESPONSES
from quicstack.wire import frame as f
from quicstack.wire.varint import encode_varint

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


BIG = 1 << 40

VIOLATIONS = {
    "4.1 stream data beyond the stream's limit": (stream(0, b"x", (1 << 18)), E.FLOW_CONTROL_ERROR),
    "4.5 data beyond the final size": (stream(0, b"ab", fin=True) + stream(0, b"c", 2), E.FINAL_SIZE_ERROR),
    "4.5 another final size": (stream(0, b"ab", fin=True) + stream(0, b"", 3, fin=True), E.FINAL_SIZE_ERROR),
    "4.5 final size below what was sent": (stream(0, b"abc") + stream(0, b"", 1, fin=True), E.FINAL_SIZE_ERROR),
    "4.5 reset with a smaller final size": (stream(0, b"abc") + f.write_reset_stream(0, 7, 2), E.FINAL_SIZE_ERROR),
    "4.5 reset before the end that was sent": (
        stream(0, b"abc", fin=True) + f.write_reset_stream(0, 7, 2),
        E.FINAL_SIZE_ERROR,
    ),
    "4.5 reset after the end that was sent": (
        stream(0, b"a", 5, fin=True) + f.write_reset_stream(0, 7, 7),
        E.FINAL_SIZE_ERROR,
    ),
    "4.5 data beyond the final size of a reset": (
        f.write_reset_stream(0, 7, 3) + stream(0, b"abcd"),
        E.FINAL_SIZE_ERROR,
    ),
    "4.5 reset with final size beyond the limit": (f.write_reset_stream(0, 7, BIG), E.FLOW_CONTROL_ERROR),
    "4.6 more streams than allowed": (stream(4 * 128, b"x"), E.STREAM_LIMIT_ERROR),
    "4.6 more streams than allowed, by RESET_STREAM": (f.write_reset_stream(4 * 128, 0, 0), E.STREAM_LIMIT_ERROR),
    "4.6 more unidirectional streams than allowed": (stream(4 * 128 + 2, b"x"), E.STREAM_LIMIT_ERROR),
    "12.4 an unknown frame with a long type": (b"\x52\x34", E.FRAME_ENCODING_ERROR),
    "12.4 a frame type that is too long": (b"\x40\x01", E.PROTOCOL_VIOLATION),
    "13.1 an ACK for a packet that was not sent": (f.write_ack([(500, 500)], 0), E.PROTOCOL_VIOLATION),
    "19.15 more connection IDs than allowed": (
        b"".join(f.write_new_connection_id(n, 0, bytes([n]) * 8, bytes(16)) for n in range(4, 10)),
        E.CONNECTION_ID_LIMIT_ERROR,
    ),
    "7.5 CRYPTO data far ahead": (f.write_crypto(1 << 20, b"x"), E.CRYPTO_BUFFER_EXCEEDED),
    "truncated STREAM": (b"\x0a\x00\x10abc", E.FRAME_ENCODING_ERROR),
}

ROWS = {
    "4.1 stream data beyond the stream's limit": "T10",
    "4.5 data beyond the final size": "T16",
    "4.5 another final size": "T16",
    "4.5 reset before the end that was sent": "T16",
    "4.5 reset after the end that was sent": "T16",
    "4.5 data beyond the final size of a reset": "T16",
    "4.5 final size below what was sent": "T17",
    "4.5 reset with a smaller final size": "T17",
    "4.5 reset with final size beyond the limit": "T15",
    "4.6 more streams than allowed": "T18",
    "4.6 more streams than allowed, by RESET_STREAM": "T18",
    "4.6 more unidirectional streams than allowed": "T18",
    "19.15 more connection IDs than allowed": "T23",
}
"""Rows of the conformance list by violation."""


def marked(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.conformance(ROWS[name])) if name in ROWS else name


@pytest.mark.parametrize("name", [marked(name) for name in VIOLATIONS])
def test_violations(name: str) -> None:
    frames, code = VIOLATIONS[name]
    peer = Peer()
    peer.sends(frames)
    assert peer.closed_with() == code
    assert peer.engine.internal_error is None


@pytest.mark.conformance("T10")
def test_connection_flow_control() -> None:
    """§4.1: the sum over all streams."""
    peer = Peer(initial_max_data=10_000)
    peer.sends(stream(0, bytes(1000), 5000))
    peer.sends(stream(4, bytes(1000), 3000))
    assert peer.engine.closed is None
    peer.sends(stream(8, b"x"))
    assert peer.closed_with() == E.FLOW_CONTROL_ERROR


def test_the_final_size_is_charged_once() -> None:
    """§4.5: a reset uses up connection credit to its final size, and discarding gives it back."""
    peer = Peer(initial_max_data=10_000)
    for _ in range(3):
        peer.sends(f.write_reset_stream(0, 1, 9_000))
    limits = [frame.fields["maximum"] for frame in peer.hears() if frame.name == "MAX_DATA"]
    assert limits == [19_000]


@pytest.mark.conformance("T14")
def test_duplicate_data_is_not_charged_twice() -> None:
    """§4.1, §19.10."""
    peer = Peer(initial_max_data=1000)
    for _ in range(100):
        peer.sends(stream(0, bytes(1000)))
    assert peer.engine.closed is None


def test_credit_follows_the_reader() -> None:
    """§4.1: nothing is granted for bytes that lie unread."""
    peer = Peer(initial_max_data=10_000, initial_max_stream_data_bidi_remote=4_000)
    peer.sends(stream(0, bytes(1200)))
    peer.sends(stream(0, bytes(1200), 1200))
    peer.sends(f.write_limit(f.STREAM_DATA_BLOCKED, 0, 4000), f.write_limit(f.DATA_BLOCKED, 10_000))
    assert not [frame for frame in peer.hears() if frame.name.startswith("MAX_")]
    engine_stream = peer.engine.stream(0)
    assert engine_stream is not None
    assert len(engine_stream.read()) == 2400
    assert [frame.fields for frame in peer.hears() if frame.name == "MAX_STREAM_DATA"] == [
        {"stream_id": 0, "maximum": 6400}
    ]


@pytest.mark.conformance("T02")
def test_streams_open_implicitly() -> None:
    """§2.1: using stream 8 opens 0 and 4, which cost nothing until they are used, and nothing is asked for them."""
    peer = Peer(initial_max_streams_bidi=3)
    peer.sends(stream(8, b"third"))
    assert [s.id for s in peer.engine.take_ready().streams] == [8]
    assert peer.engine.stream(0) is None
    peer.sends(stream(0, b"first"), stream(4, b"second"))
    opened = peer.engine.take_ready().streams
    assert [(s.id, s.read()) for s in opened] == [(0, b"first"), (4, b"second")]
    opened[0].write(b"answer")
    answers = [frame.fields for frame in peer.hears() if frame.name == "STREAM"]
    assert [(fields["stream_id"], fields["data"]) for fields in answers] == [(0, b"answer")]
    peer.sends(stream(12, b"one more than three"))
    assert peer.closed_with() == E.STREAM_LIMIT_ERROR


@pytest.mark.conformance("T02a", "T08")
def test_stop_sending_opens_a_stream_and_is_answered() -> None:
    """§3.2, §3.5: the RESET_STREAM carries the same code."""
    peer = Peer()
    peer.sends(f.write_stop_sending(8, 77))
    resets = [frame.fields for frame in peer.hears() if frame.name == "RESET_STREAM"]
    assert resets == [{"stream_id": 8, "error_code": 77, "final_size": 0}]
    (ready,) = peer.engine.take_ready().streams
    assert (ready.id, ready.stop_code) == (8, 77)
    with pytest.raises(StreamStopped):
        ready.write(b"too late")
    peer.sends(stream(8, b"still open"))
    assert ready.read() == b"still open"


def test_reset_reaches_the_reader() -> None:
    peer = Peer()
    peer.sends(stream(0, b"half"))
    peer.sends(f.write_reset_stream(0, 42, 10))
    (ready,) = peer.engine.take_ready().streams
    assert ready.reset_code == 42
    with pytest.raises(StreamReset) as caught:
        ready.read()
    assert caught.value.code == 42


@pytest.mark.conformance("T06")
def test_reset_after_everything_arrived_changes_nothing() -> None:
    """§3.2: Data Recvd."""
    peer = Peer()
    peer.sends(stream(0, b"all", fin=True))
    peer.sends(f.write_reset_stream(0, 42, 3))
    (ready,) = peer.engine.take_ready().streams
    assert ready.reset_code is None
    assert ready.read() == b"all"
    assert ready.at_end


@pytest.mark.conformance("T09a")
def test_after_stop_sending_data_is_counted_and_credited() -> None:
    """§3.5, §4.1."""
    peer = Peer(initial_max_data=10_000, initial_max_stream_data_bidi_remote=10_000)
    peer.sends(stream(0, bytes(1000)))
    engine_stream = peer.engine.stream(0)
    assert engine_stream is not None
    engine_stream.stop_sending(5)
    frames = peer.hears()
    assert [frame.fields for frame in frames if frame.name == "STOP_SENDING"] == [{"stream_id": 0, "error_code": 5}]
    peer.sends(stream(0, bytes(1000), 5000))
    assert [frame.fields["maximum"] for frame in peer.hears() if frame.name == "MAX_DATA"] == [16_000]
    peer.sends(stream(0, bytes(1000), 9_500))
    assert peer.closed_with() == E.FLOW_CONTROL_ERROR


@pytest.mark.conformance("T21a")
def test_streams_are_given_back_when_they_are_finished() -> None:
    """§4.6: without waiting for STREAMS_BLOCKED."""
    peer = Peer(initial_max_streams_uni=4)
    for n in range(2):
        peer.sends(stream(2 + 4 * n, b"x", fin=True))
    for ready in peer.engine.take_ready().streams:
        ready.read()
    limits = [frame.fields["maximum"] for frame in peer.hears() if frame.name == "MAX_STREAMS"]
    assert limits == [6]
    assert not peer.state.closed


def test_limits_never_shrink() -> None:
    """§4.1."""
    peer = Peer()
    window = peer.engine._state.streams.send_window
    before = window.limit
    peer.sends(f.write_limit(f.MAX_DATA, 5), f.write_limit(f.MAX_STREAMS_BIDI, 1))
    assert window.limit == before
    assert peer.engine.can_open_stream()


@pytest.mark.conformance("T56")
def test_a_challenge_is_answered_in_a_full_datagram() -> None:
    """§8.2.2."""
    peer = Peer()
    peer.sends(b"\x1a12345678")
    train = peer.endpoint.next_train(peer.now)
    assert train is not None
    _, frames = peer.opens(train.data)
    assert {"data": b"12345678"} in [frame.fields for frame in frames if frame.name == "PATH_RESPONSE"]
    assert len(train.data) >= 1200


@pytest.mark.attack("CVE-2023-6193", "aioquic #544")
def test_a_flood_of_challenges_gets_few_answers() -> None:
    """§8.2.2: the newest are worth it; CVE-2023-49295 kept them all."""
    peer = Peer()
    peer.sends(*[b"\x1a" + n.to_bytes(8, "big") for n in range(100)])
    answers = [frame.fields["data"] for frame in peer.hears() if frame.name == "PATH_RESPONSE"]
    assert answers == [n.to_bytes(8, "big") for n in range(100 - MAX_RESPONSES, 100)]


def test_close_by_the_peer() -> None:
    """§10.2.2: draining, and not a word more."""
    peer = Peer()
    peer.sends(f.write_connection_close(9, b"auf Wiedersehen", None))
    assert peer.hears() == []
    assert "auf Wiedersehen" in str(peer.engine.closed)
    peer.sends(b"\x01")
    assert peer.hears() == []
    peer.advance(10)
    assert peer.engine.terminated
    assert not peer.endpoint.connections


def test_close_is_repeated_less_and_less_often() -> None:
    """§10.2.1."""
    peer = Peer()
    peer.engine.close(3, "done", now=peer.now)
    heard = [bool(peer.hears())]
    for _ in range(16):
        peer.sends(b"\x01")
        heard.append(bool(peer.hears()))
    assert sum(heard) == 1 + 5


@pytest.mark.conformance("D02")
def test_a_datagram_larger_than_announced() -> None:
    """RFC 9221 §3."""
    peer = Peer(max_datagram_frame_size=10)
    peer.sends(f.write_datagram(b"12345678"))
    assert peer.engine.receive_datagram() == b"12345678"
    peer.sends(f.write_datagram(b"123456789"))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


@pytest.mark.conformance("D01")
def test_a_datagram_when_none_was_announced() -> None:
    """RFC 9221 §3."""
    peer = Peer(max_datagram_frame_size=0)
    peer.sends(f.write_datagram(b""))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


@pytest.mark.attack("c: DATAGRAM flood")
def test_unread_datagrams_are_bounded() -> None:
    peer = Peer(datagram_buffer=10_000)
    for n in range(100):
        peer.sends(f.write_datagram(bytes([n]) * 1000))
    first = peer.engine.receive_datagram()
    assert first is not None and first[0] > 80
    assert peer.engine.stats().datagrams_dropped_in > 80


@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE], ids=["Initial", "Handshake"])
@pytest.mark.parametrize(
    "frame", [stream(0, b"x"), f.write_limit(f.MAX_DATA, 5), b"\x1e", b"\x1d\x00\x00", b"\x1a12345678", b"\x31\x00"]
)
def test_frames_that_only_1rtt_packets_carry(space: int, frame: bytes) -> None:
    """§12.4, Table 3."""
    pair = Pair()
    pair.to_server(pair.from_client())
    state = pair.client._state
    if space == HANDSHAKE:
        pair.to_client(pair.from_server())
    pair.to_server([_train(pair, long_packet(state, space, frame, number=50, pad_to=1200))])
    error = pair.server.closed
    assert error is not None and getattr(error, "code", None) == E.PROTOCOL_VIOLATION


def _train(pair: Pair, datagram: bytes):  # type: ignore[no-untyped-def]
    from peer import TO_CLIENT

    from quicstack.train import Train

    return Train(datagram, len(datagram), TO_CLIENT)


@pytest.mark.parametrize("plays", ["client", "server"])
def test_handshake_done_confirms(plays: str) -> None:
    """RFC 9001 §4.1.2."""
    peer = Peer(plays)
    assert peer.engine.handshake_confirmed
    assert peer.engine._state.spaces[HANDSHAKE].discarded


def test_post_handshake_crypto_is_bounded() -> None:
    """CVE-2024-1765: an endless stream of CRYPTO data after the handshake."""
    peer = Peer("server")
    sent = 0
    ticket = b"\x04\x00\x03\xf0" + bytes(1008)
    while peer.engine.closed is None and sent < 4 << 20:
        peer.sends(f.write_crypto(sent, ticket))
        sent += len(ticket)
    assert peer.engine.closed is not None


@pytest.mark.conformance("C21")
def test_key_update_message_is_fatal() -> None:
    """RFC 9001 §6: TLS KeyUpdate must not be sent."""
    peer = Peer("server")
    peer.sends(f.write_crypto(peer.engine._state.spaces[2].crypto.incoming.end, b"\x18\x00\x00\x01\x00"))
    assert peer.closed_with() == 0x10A


def test_a_long_varint_frame_type_close() -> None:
    peer = Peer()
    peer.sends(encode_varint(1 << 40))
    assert peer.closed_with() == E.FRAME_ENCODING_ERROR

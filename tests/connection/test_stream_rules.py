"""Streams, flow control and connection IDs, rule by rule, and streams that wait (RFC 9000 §2 to §5, §19)."""

from __future__ import annotations

import pytest
from peer import Pair, Peer

from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.wire import frame as f

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def named(peer: Peer, name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in peer.hears() if frame.name == name]


def names(peer: Peer) -> list[str]:
    return [frame.name for frame in peer.hears()]


def data(peer: Peer) -> dict[object, int]:
    """Bytes heard of each stream."""
    found: dict[object, int] = {}
    for frame in peer.hears():
        if frame.name == "STREAM":
            payload = frame.fields["data"]
            assert isinstance(payload, bytes | bytearray)
            found[frame.fields["stream_id"]] = found.get(frame.fields["stream_id"], 0) + len(payload)
    return found


# -- streams (§2 to §4) --------------------------------------------------------------------------------------------


@pytest.mark.conformance("T01")
@pytest.mark.parametrize(("plays", "first"), [("server", 0), ("client", 1)])
def test_stream_ids(plays: str, first: int) -> None:
    """§2.1: 0 and 2 first from a client, 1 and 3 from a server, then by fours, however the types alternate."""
    peer = Peer(plays)
    for unidirectional in (False, True, True, False, False, True):
        peer.engine.open_stream(unidirectional=unidirectional).write(b"x")
    sent = [fields["stream_id"] for fields in named(peer, "STREAM")]
    assert sent == [first + n for n in (0, 2, 6, 4, 8, 10)]


@pytest.mark.conformance("T01")
def test_the_two_low_bits_are_the_type() -> None:
    """§2.1: 0 and 2 are the client's, with two directions and with one; on the latter there is no way back."""
    peer = Peer()
    peer.sends(stream(2, b"one way"), stream(0, b"both ways"))
    by_id = {opened.id: opened for opened in peer.engine.take_ready().streams}
    assert by_id[2].read() == b"one way" and not by_id[2].can_send
    by_id[0].write(b"back")
    assert [fields["stream_id"] for fields in named(peer, "STREAM")] == [0]


@pytest.mark.conformance("T03")
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([(2, b"cd"), (0, b"abXY")], id="behind a gap"),
        pytest.param([(4, b"ef"), (2, b"cdXYgh"), (0, b"ab")], id="around what is there"),
        pytest.param([(0, b"abcd"), (0, b"WXYZef")], id="after what can be read"),
    ],
)
def test_data_never_changes(pieces: list[tuple[int, bytes]]) -> None:
    """§2.2: what came first counts, and the connection stays."""
    peer = Peer()
    for offset, piece in pieces:
        peer.sends(stream(0, piece, offset))
    received = peer.engine.stream(0)
    assert received is not None
    assert b"abcdefgh".startswith(received.read())
    assert received.bytes_consumed >= 4
    assert peer.closed_with() is None


@pytest.mark.conformance("T04")
def test_an_empty_frame_with_fin() -> None:
    """§19.8: it opens the stream and ends it; the reader learns of both."""
    peer = Peer()
    peer.sends(stream(0, b"", fin=True))
    (received,) = peer.engine.take_ready().streams
    assert received.read() == b"" and received.at_end


@pytest.mark.conformance("T04")
def test_fin_alone_after_the_data() -> None:
    """§19.8: the end is news for a reader who has read everything."""
    peer = Peer()
    peer.sends(stream(0, b"all"))
    (received,) = peer.engine.take_ready().streams
    assert received.read() == b"all" and not received.at_end
    peer.sends(stream(0, b"", 3, fin=True))
    assert peer.engine.take_ready().streams == [received]
    assert received.at_end


@pytest.mark.conformance("T07")
def test_no_credit_for_a_stream_whose_size_is_known() -> None:
    """§3.2."""
    peer = Peer(initial_max_stream_data_bidi_remote=1000)
    peer.sends(stream(0, bytes(900), fin=True))
    received = peer.engine.stream(0)
    assert received is not None
    received.read()
    assert not named(peer, "MAX_STREAM_DATA")


@pytest.mark.conformance("T07")
def test_no_stop_sending_after_a_reset() -> None:
    """§3.5."""
    peer = Peer()
    peer.sends(f.write_reset_stream(0, 1, 0))
    received = peer.engine.stream(0)
    assert received is not None
    received.stop_sending(5)
    assert not named(peer, "STOP_SENDING")


@pytest.mark.conformance("T05")
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


@pytest.mark.conformance("T02a")
def test_max_stream_data_opens_a_stream() -> None:
    """§3.2: with all lower ones of its type."""
    peer = Peer()
    peer.sends(f.write_limit(f.MAX_STREAM_DATA, 8, 1 << 30))
    (opened,) = peer.engine.take_ready().streams
    assert opened.id == 8 and opened.writable
    assert peer.engine._state.streams.peer[0].opened == 3


@pytest.mark.conformance("T15")
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


@pytest.mark.conformance("T13")
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


# -- streams that wait ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["stream first", "connection first"])
def test_blocked_twice_and_freed_once_each(order: str) -> None:
    """§4.1: a stream that waits for both limits goes on when the second one comes."""
    peer = Peer()
    window = peer.engine._state.streams.send_window
    window.limit = 1000
    stream = peer.engine.open_stream()
    assert stream.send is not None
    stream.send.limit = 1000
    stream.write(bytes(1500))
    assert data(peer) == {stream.id: 1000}
    frees = [f.write_limit(f.MAX_STREAM_DATA, stream.id, 5000), f.write_limit(f.MAX_DATA, 5000)]
    first, second = frees if order == "stream first" else frees[::-1]
    peer.sends(first)
    assert data(peer) == {}
    peer.sends(second)
    assert data(peer) == {stream.id: 500}


def test_fin_behind_blocked_data() -> None:
    """§3.1: the FIN waits for the data, not for credit of its own."""
    peer = Peer()
    peer.engine._state.streams.send_window.limit = 4
    stream = peer.engine.open_stream()
    stream.write(b"12345", fin=True)
    assert [frame.fields.get("fin") for frame in peer.hears(ack=True) if frame.name == "STREAM"] == [False]
    peer.sends(f.write_limit(f.MAX_DATA, 5))
    assert [frame.fields.get("fin") for frame in peer.hears(ack=True) if frame.name == "STREAM"] == [True]
    assert stream.send_done


def test_fin_alone_needs_no_credit() -> None:
    peer = Peer()
    peer.engine._state.streams.send_window.limit = 4
    stream = peer.engine.open_stream()
    stream.write(b"1234")
    peer.hears(ack=True)
    stream.finish()
    assert [frame.fields.get("fin") for frame in peer.hears(ack=True) if frame.name == "STREAM"] == [True]
    assert stream.send_done


def test_many_streams_share_the_connection() -> None:
    """All of them end, whatever waits for what."""
    peer = Peer()
    window = peer.engine._state.streams.send_window
    window.limit = window.used
    streams = [peer.engine.open_stream(unidirectional=True) for _ in range(20)]
    for n, stream in enumerate(streams):
        stream.write(bytes(100 * n), fin=True)
    for _ in range(60):
        peer.sends(f.write_limit(f.MAX_DATA, window.limit + 700))
        peer.hears(ack=True)
    assert all(stream.send_done for stream in streams)


def test_a_full_buffer_becomes_writable_again() -> None:
    """A wake-up comes for a write that was cut short, and for one that fitted exactly."""
    for extra in (0, 1):
        peer = Peer(send_buffer=5000)
        stream = peer.engine.open_stream()
        assert stream.write(bytes(5000 + extra)) == 5000
        assert stream.writable == 0
        peer.engine.take_ready()
        for _ in range(5):
            peer.hears(ack=True)
        assert stream in peer.engine.take_ready().streams
        assert stream.writable >= 2500


def test_reset_after_fin_was_sent() -> None:
    """§3.1: Data Sent to Reset Sent; the final size is what was sent."""
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"all of it", fin=True)
    peer.hears()
    stream.reset(9)
    sizes = [frame.fields["final_size"] for frame in peer.hears(ack=True) if frame.name == "RESET_STREAM"]
    assert sizes == [9]
    assert stream.send_done


@pytest.mark.conformance("T07")
def test_reset_and_stop_after_everything_was_acknowledged() -> None:
    """§3.1, §3.5: Data Recvd is the end."""
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"x", fin=True)
    peer.hears(ack=True)
    stream.reset(9)
    peer.sends(f.write_stop_sending(stream.id, 5))
    assert "RESET_STREAM" not in names(peer)
    assert stream.send_done and stream.stop_code is None


def test_stop_sending_after_our_reset() -> None:
    """§3.5: it was answered before it came."""
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"x")
    stream.reset(9)
    peer.sends(f.write_stop_sending(stream.id, 5))
    codes = [frame.fields["error_code"] for frame in peer.hears() if frame.name == "RESET_STREAM"]
    assert codes == [9]


def test_late_acknowledgements_of_a_finished_stream_wake_nobody() -> None:
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"x", fin=True)
    peer.hears()
    frames = peer.advance(1.0)
    assert any(frame.name == "STREAM" for frame in frames)
    peer.acknowledges(*peer.received)
    assert stream in peer.engine.take_ready().streams
    assert stream not in peer.engine.take_ready().streams


@pytest.mark.parametrize("code", [-1, 1 << 62])
def test_codes_that_no_frame_can_carry(code: int) -> None:
    """§20.2: refused where they are given, not where they would be sent."""
    peer = Peer()
    stream = peer.engine.open_stream()
    with pytest.raises(ValueError, match="error code"):
        stream.reset(code)
    with pytest.raises(ValueError, match="error code"):
        stream.stop_sending(code)
    with pytest.raises(ValueError, match="error code"):
        peer.engine.close(code)
    peer.hears()
    assert peer.engine.closed is None


def test_writing_after_the_end() -> None:
    """A stream of a connection that is over says so."""
    peer = Peer()
    stream = peer.engine.open_stream()
    peer.engine.close(3, "over", now=peer.now)
    with pytest.raises(ConnectionClosed, match="over"):
        stream.write(b"x")


# -- connection IDs (§5.1) -----------------------------------------------------------------------------------------


@pytest.mark.conformance("T24a")
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


@pytest.mark.conformance("T23")
def test_more_ids_if_some_are_asked_back() -> None:
    """§5.1.1: the limit counts what is active after Retire Prior To."""
    peer = Peer()
    peer.sends(f.write_new_connection_id(4, 1, b"fourfour", bytes(16)))
    assert peer.engine.closed is None
    peer.sends(f.write_new_connection_id(5, 0, b"fivefive", bytes(16)))
    assert peer.closed_with() == E.CONNECTION_ID_LIMIT_ERROR


@pytest.mark.conformance("T27a")
def test_the_same_id_again() -> None:
    """§19.15: three times, and then a frame with a smaller Retire Prior To."""
    peer = Peer()
    frame = f.write_new_connection_id(4, 2, b"fourfour", bytes(16))
    peer.sends(frame, frame, frame)
    peer.sends(f.write_new_connection_id(5, 0, b"fivefive", bytes(16)))
    assert peer.engine.closed is None
    retired = [fields["sequence_number"] for fields in
               (frame.fields for frame in peer.retirements())]  # fmt: skip
    assert sorted(retired) == [0, 1]  # type: ignore[type-var]


def test_one_id_under_two_numbers() -> None:
    """§19.15."""
    peer = Peer()
    cid = peer.engine._state.peer_cids.spare[0].cid
    peer.sends(f.write_new_connection_id(7, 4, cid, bytes(16)))
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


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

"""A peer that keeps every rule and wants to cost us memory or time. Everything that it drives has a bound."""

from __future__ import annotations

import pytest
from peer import Peer

from quicstack.errors import TransportErrorCode
from quicstack.wire import frame as f

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def limits(peer: Peer) -> list[object]:
    return [frame.fields["maximum"] for frame in peer.hears() if frame.name == "MAX_STREAMS"]


@pytest.mark.attack("c: MAX_STREAMS / stream churn")
def test_streams_are_given_back_only_after_the_application_saw_them() -> None:
    """§4.6, CVE-2023-44487: opening and resetting goes no faster than the application looks."""
    peer = Peer(initial_max_streams_uni=4)
    for n in range(4):
        peer.sends(f.write_reset_stream(2 + 4 * n, 0, 0))
    assert limits(peer) == []
    assert len(peer.engine.take_ready().streams) == 4
    assert limits(peer) == [8]
    assert not peer.engine._state.streams.streams


def test_reading_the_end_gives_the_stream_back_at_once() -> None:
    """§4.6: no other event is needed for it."""
    peer = Peer(initial_max_streams_uni=1)
    peer.sends(stream(2, b"x", fin=True))
    (ready,) = peer.engine.take_ready().streams
    peer.hears(ack=True)
    ready.read()
    assert peer.endpoint.next_train(peer.now) is not None
    assert not peer.engine._state.streams.streams


def test_reading_on_leaves_nothing_behind() -> None:
    peer = Peer()
    peer.sends(stream(2, b"x", fin=True))
    (ready,) = peer.engine.take_ready().streams
    for _ in range(100):
        ready.read()
    assert len(peer.engine._state.outbox.touched) == 1


def test_retiring_what_was_not_sent_yet_is_a_violation() -> None:
    """§19.16: or guessed sequence numbers would queue NEW_CONNECTION_ID frames without end."""
    peer = Peer()
    peer.sends(*[f.write_limit(f.RETIRE_CONNECTION_ID, n) for n in range(1, 200)])
    assert len(peer.engine._state.outbox.control) <= 4
    assert peer.closed_with() == E.PROTOCOL_VIOLATION


def test_a_retired_connection_id_is_not_revived_by_a_copy() -> None:
    """§19.15: the frame may come again, late."""
    peer = Peer()
    cids = peer.engine._state.peer_cids
    spare = {known.sequence: (known.cid, known.reset_token) for known in cids.spare}
    cids.rotate()
    cids.rotate()
    peer.sends(*[f.write_new_connection_id(n, 0, cid, token) for n, (cid, token) in spare.items()] * 3)
    assert {cids.current.sequence, *(known.sequence for known in cids.spare)} == {2, 3}
    assert peer.engine.closed is None


@pytest.mark.conformance("T27")
def test_an_id_asked_back_before_it_came_is_retired_once() -> None:
    """§19.15."""
    peer = Peer()
    peer.sends(f.write_new_connection_id(9, 9, b"nine" * 2, bytes(16)))
    late = f.write_new_connection_id(7, 0, b"seven" + bytes(3), bytes(16))
    for _ in range(30):
        peer.sends(late)
    retired = [frame.fields["sequence_number"] for frame in peer.retirements()]
    assert retired.count(7) == 1
    assert peer.engine.closed is None


def test_sequence_numbers_with_gaps_are_bounded() -> None:
    """§5.1.1: a peer that counts by tens, acknowledging everything."""
    peer = Peer()
    peer.engine._state.recovery.send_allowance = lambda now, probe=False: 0  # type: ignore[method-assign]
    for n in range(10, 3000, 10):
        peer.sends(f.write_new_connection_id(n, n, n.to_bytes(8, "big"), bytes(16)))
        for value in list(peer.engine._state.peer_cids._retiring):
            peer.engine._state.peer_cids._on_retired(value)
        peer.engine._state.outbox.control.clear()
    assert len(peer.engine._state.peer_cids._retired) <= 65
    assert getattr(peer.engine.closed, "code", None) == E.CONNECTION_ID_LIMIT_ERROR


def test_max_data_wakes_only_who_waits() -> None:
    """§4.1: raising the limit byte by byte costs nothing for each stream."""
    peer = Peer()
    window = peer.engine._state.streams.send_window
    window.limit = window.used
    streams = [peer.engine.open_stream() for _ in range(50)]
    for each in streams:
        each.write(b"hello")
    peer.hears(ack=True)
    assert len(peer.engine._state.streams._waiting) == 50
    peer.sends(*[f.write_limit(f.MAX_DATA, window.limit + n) for n in range(1, 251)])
    assert not peer.engine._state.streams._waiting
    data = {frame.fields["stream_id"] for frame in peer.hears() if frame.name == "STREAM"}
    assert data == {each.id for each in streams}


@pytest.mark.attack("CVE-2026-25800")
def test_a_stream_in_scattered_pieces_is_refused() -> None:
    """CVE-2026-25800: every second byte."""
    peer = Peer()
    for n in range(200):
        peer.sends(*[stream(0, b"x", 2 * (n * 200 + i) + 1) for i in range(200)])
    assert peer.engine.closed is not None
    assert peer.engine.internal_error is None


def test_a_stream_byte_by_byte_is_joined() -> None:
    peer = Peer()
    for n in range(50):
        peer.sends(*[stream(0, b"ab", 2 * (n * 100 + i)) for i in range(100)])
    received = peer.engine.stream(0)
    assert received is not None and received.receive is not None
    assert len(received.receive.data._chunks) < 20
    assert received.peek(3) == b"aba"
    assert received.read(5) == b"ababa"
    assert received.read() == (b"ab" * 5000)[5:]


@pytest.mark.attack("c: stream-id skip")
def test_the_highest_stream_costs_as_much_as_the_lowest() -> None:
    """§2.1, §3.2: streams opened implicitly have no state."""
    peer = Peer()
    peer.sends(stream(4 * 127, b"x"))
    assert len(peer.engine._state.streams.streams) == 1
    for n in range(0, 128, 2):
        peer.sends(stream(4 * n, b"x"))
    assert len(peer.engine._state.streams.peer[0].skipped) <= 64
    assert peer.engine.closed is None


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x01"] * 1000,
        [b"\x00\x00\x01"] * 300,
        [stream(0, b"")] * 300,
        [f.write_limit(f.DATA_BLOCKED, 5)] * 500,
        [f.write_stop_sending(0, 1)] * 400,
        [f.write_limit(f.STREAM_DATA_BLOCKED, 0, 5)] * 300,
        [f.write_ack([(0, 0)], 0)] * 200,
        [f.write_datagram(b"")] * 500,
    ],
    ids=["PING", "PADDING and PING", "empty STREAM", "DATA_BLOCKED", "STOP_SENDING", "STREAM_DATA_BLOCKED", "ACK",
         "empty DATAGRAM"],
)  # fmt: skip
def test_floods_are_answered_by_little(frames: list[bytes]) -> None:
    peer = Peer()
    for _ in range(20):
        peer.sends(*frames)
    outbox = peer.engine._state.outbox
    assert len(outbox.control) + len(outbox.ready) + len(outbox.touched) <= 3
    assert len(peer.hears()) < 10
    assert peer.engine.closed is None


def test_streams_that_nobody_reads_leave_room_for_the_others() -> None:
    """§4.1: three quarters of the window lie unread; the rest goes round and round."""
    peer = Peer(initial_max_data=8000, max_connection_window=8000, initial_max_stream_data_uni=2000)
    for n in range(3):
        peer.sends(stream(2 + 4 * n, bytes(1000)), stream(2 + 4 * n, b"", 1000))
        peer.sends(stream(2 + 4 * n, bytes(1000), 1000))
    limit = 8000
    for n in range(3, 11):
        assert limit >= 6000 + (n - 2) * 1000
        peer.sends(stream(2 + 4 * n, bytes(1000)))
        received = peer.engine.stream(2 + 4 * n)
        assert received is not None and len(received.read()) == 1000
        limit = max([limit, *(frame.fields["maximum"] for frame in peer.hears() if frame.name == "MAX_DATA")])
    assert peer.engine.closed is None


def test_the_window_does_not_grow_by_repeating_a_frame() -> None:
    """§4.1: only bytes that were read make it larger."""
    peer = Peer()
    window = peer.engine._state.streams.receive_window
    for _ in range(5):
        window.raise_limit(peer.now, 0.1)
    assert window.size == 1 << 20

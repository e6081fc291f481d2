"""Credit and how it is used, as it can be seen on the wire (RFC 9000 §3.5, §4, §19.9 to §19.14)."""

from __future__ import annotations

import pytest
from peer import Peer

from quicstack.errors import TransportErrorCode
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame

E = TransportErrorCode
NARROW: dict[str, object] = {
    "initial_max_data": 1000,
    "initial_max_stream_data_bidi_remote": 600,
    "initial_max_stream_data_bidi_local": 600,
    "initial_max_stream_data_uni": 600,
    "initial_max_streams_bidi": 2,
    "initial_max_streams_uni": 2,
}
"""What a peer announces that lets us send little."""


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def named(frames: list[Frame], name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in frames if frame.name == name]


def reached(frames: list[Frame]) -> dict[object, int]:
    """The highest offset heard of each stream."""
    ends: dict[object, int] = {}
    for fields in named(frames, "STREAM"):
        offset, data = fields["offset"], fields["data"]
        assert isinstance(offset, int) and isinstance(data, bytes | bytearray)
        ends[fields["stream_id"]] = max(ends.get(fields["stream_id"], 0), offset + len(data))
    return ends


# -- what the peer may send ----------------------------------------------------------------------------------------


@pytest.mark.conformance("T10")
@pytest.mark.parametrize("frames", [[stream(2, bytes(601))], [stream(2, bytes(500)), stream(2, b"x", 600)]])
def test_more_than_a_stream_may_carry(frames: list[bytes]) -> None:
    """§4.1: to the last byte it is fine, one more is not."""
    peer = Peer(initial_max_stream_data_uni=600)
    peer.sends(stream(6, bytes(600)))
    assert peer.closed_with() is None
    peer.sends(*frames)
    assert peer.closed_with() == E.FLOW_CONTROL_ERROR


@pytest.mark.conformance("T09a")
@pytest.mark.parametrize("over", ["nothing", "stream", "connection"])
def test_stopped_streams_still_use_credit(over: str) -> None:
    """§3.5: whoever goes on sending does it within both limits."""
    peer = Peer(initial_max_data=3000, max_connection_window=3000, initial_max_stream_data_uni=2500)
    peer.sends(stream(2, b"x"))
    (stopped,) = peer.engine.take_ready().streams
    stopped.stop_sending(5)
    assert named(peer.hears(), "STOP_SENDING") == [{"stream_id": 2, "error_code": 5}]
    peer.sends(
        stream(2, b"x", 2499 + (over == "stream")), stream(6, b"x", 499 + {"connection": 1, "stream": -1}.get(over, 0))
    )
    assert peer.closed_with() == (None if over == "nothing" else E.FLOW_CONTROL_ERROR)


@pytest.mark.conformance("T14")
def test_overlapping_data_is_charged_by_its_end() -> None:
    """§4.1: pieces that come again, or overlap, use nothing twice; the first new byte beyond the limit does."""
    peer = Peer(initial_max_data=1000, max_connection_window=1000, initial_max_stream_data_uni=1000)
    for start in [0, 500, 250, 0, 400, 500, 0]:
        peer.sends(stream(2, bytes(500), start))
    assert peer.closed_with() is None
    peer.sends(stream(6, b"x"))
    assert peer.closed_with() == E.FLOW_CONTROL_ERROR


@pytest.mark.conformance("T15")
@pytest.mark.parametrize("how", ["FIN", "RESET_STREAM"])
@pytest.mark.parametrize("more", [0, 1])
def test_the_final_size_uses_credit(how: str, more: int) -> None:
    """§4.5: all of it, whether the bytes ever came or not."""
    peer = Peer(initial_max_data=10_000, max_connection_window=10_000)
    end = stream(2, b"", 3000, fin=True) if how == "FIN" else f.write_reset_stream(2, 1, 3000)
    peer.sends(end, stream(6, bytes(1), 6999 + more))
    assert peer.closed_with() == (E.FLOW_CONTROL_ERROR if more else None)


@pytest.mark.conformance("T15")
def test_a_reset_beyond_the_limit_of_its_stream() -> None:
    """§4.5: although the connection had credit for it."""
    peer = Peer(initial_max_stream_data_uni=600)
    peer.sends(f.write_reset_stream(6, 1, 600))
    assert peer.closed_with() is None
    peer.sends(f.write_reset_stream(2, 1, 601))
    assert peer.closed_with() == E.FLOW_CONTROL_ERROR


@pytest.mark.conformance("T12")
def test_credit_comes_unasked() -> None:
    """§4.2: reading is reason enough, nobody had to send DATA_BLOCKED or STREAM_DATA_BLOCKED."""
    peer = Peer(initial_max_data=1000, max_connection_window=1000, initial_max_stream_data_uni=1000)
    peer.sends(stream(2, bytes(900)))
    (received,) = peer.engine.take_ready().streams
    received.read()
    frames = peer.hears()
    assert named(frames, "MAX_STREAM_DATA") == [{"stream_id": 2, "maximum": 1900}]
    assert named(frames, "MAX_DATA") == [{"maximum": 1900}]


@pytest.mark.conformance("T21a")
@pytest.mark.parametrize("first", [0, 2], ids=["both ways", "one way"])
def test_streams_come_unasked(first: int) -> None:
    """§4.6: all that were allowed are opened and done, and nobody sent STREAMS_BLOCKED."""
    peer = Peer(initial_max_streams_bidi=3, initial_max_streams_uni=3)
    for n in range(3):
        peer.sends(stream(first + 4 * n, b"x", fin=True))
    for opened in peer.engine.take_ready().streams:
        opened.read()
        if opened.can_send:
            opened.finish()
    frames = peer.hears(ack=True)
    peer.engine.take_ready()
    frames += peer.hears(ack=True)
    assert named(frames, "MAX_STREAMS")[-1] == {"maximum": 6}
    peer.sends(stream(first + 4 * 5, b"x"))
    assert peer.closed_with() is None
    peer.sends(stream(first + 4 * 6, b"x"))
    assert peer.closed_with() == E.STREAM_LIMIT_ERROR


@pytest.mark.conformance("T18")
@pytest.mark.parametrize(
    "opens",
    [
        pytest.param(lambda n: stream(n, b"x"), id="STREAM"),
        pytest.param(lambda n: f.write_reset_stream(n, 0, 0), id="RESET_STREAM"),
        pytest.param(lambda n: f.write_stop_sending(n, 0), id="STOP_SENDING"),
        pytest.param(lambda n: f.write_limit(f.MAX_STREAM_DATA, n, 9), id="MAX_STREAM_DATA"),
        pytest.param(lambda n: f.write_limit(f.STREAM_DATA_BLOCKED, n, 9), id="STREAM_DATA_BLOCKED"),
    ],
)
def test_one_stream_more(opens) -> None:  # type: ignore[no-untyped-def]
    """§4.6: the last one that is allowed, and the next."""
    peer = Peer(initial_max_streams_bidi=3)
    peer.sends(opens(8))
    assert peer.closed_with() is None
    peer.sends(opens(12))
    assert peer.closed_with() == E.STREAM_LIMIT_ERROR


# -- what we may send ----------------------------------------------------------------------------------------------


@pytest.mark.conformance("T11")
@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([f.write_limit(f.MAX_DATA, 1000), f.write_limit(f.MAX_DATA, 5)], id="MAX_DATA"),
        pytest.param(
            [f.write_limit(f.MAX_STREAM_DATA, 1, 600), f.write_limit(f.MAX_STREAM_DATA, 1, 5)], id="MAX_STREAM_DATA"
        ),
    ],
)
def test_a_limit_that_falls_is_ignored(frames: list[bytes]) -> None:
    """§4.1: the old one stays in force, to the byte."""
    peer = Peer(theirs=NARROW)
    ours, other = peer.engine.open_stream(), peer.engine.open_stream()
    ours.write(b"x")
    assert reached(peer.hears(ack=True)) == {1: 1}
    peer.sends(*frames)
    ours.write(bytes(900))
    other.write(bytes(900))
    assert reached(peer.hears(ack=True)) == {1: 600, 5: 400}
    assert peer.engine.closed is None


@pytest.mark.conformance("T12")
def test_a_blocked_sender_says_so() -> None:
    """§4.1: by which limit, once for each, and it goes on when the limit rises."""
    peer = Peer(theirs=NARROW)
    ours, other = peer.engine.open_stream(), peer.engine.open_stream()
    ours.write(bytes(2000))
    frames = peer.hears(ack=True)
    assert named(frames, "STREAM_DATA_BLOCKED") == [{"stream_id": 1, "maximum": 600}]
    assert not named(frames, "DATA_BLOCKED")
    other.write(bytes(500))
    frames = peer.hears(ack=True)
    assert named(frames, "DATA_BLOCKED") == [{"maximum": 1000}]
    assert reached(frames) == {5: 400}
    peer.sends(f.write_limit(f.MAX_DATA, 1700), f.write_limit(f.MAX_STREAM_DATA, 1, 1200))
    assert reached(peer.hears(ack=True)) == {1: 1200, 5: 500}


@pytest.mark.conformance("T21")
def test_a_number_of_streams_that_does_not_rise_is_ignored() -> None:
    """§4.6: equal or lower, for both types; the limit stays where it was."""
    peer = Peer(theirs=NARROW)
    for kind in (f.MAX_STREAMS_BIDI, f.MAX_STREAMS_UNI):
        peer.sends(f.write_limit(kind, 2), f.write_limit(kind, 1), f.write_limit(kind, 0))
    for unidirectional in (False, True):
        assert peer.engine.can_open_stream(unidirectional)
        for _ in range(2):
            peer.engine.open_stream(unidirectional=unidirectional).write(b"x")
        assert not peer.engine.can_open_stream(unidirectional)
    assert set(reached(peer.hears(ack=True))) == {1, 5, 3, 7}
    assert peer.engine.closed is None


@pytest.mark.conformance("T13")
def test_the_handshake_uses_no_credit() -> None:
    """§4: nor does it count afterwards: all that was announced is there for streams."""
    peer = Peer(theirs=NARROW, initial_max_data=50)
    ours = peer.engine.open_stream(), peer.engine.open_stream()
    for each in ours:
        each.write(bytes(700))
    assert sum(reached(peer.hears(ack=True)).values()) == 1000
    peer.sends(stream(0, bytes(50)))
    assert peer.closed_with() is None

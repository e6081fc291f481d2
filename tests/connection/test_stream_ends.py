"""How the two halves of a stream end, and what is not sent any more then (RFC 9000 §3.3, §3.5, §4.5)."""

from __future__ import annotations

import pytest
from peer import Peer

from quicstack.errors import StreamError, TransportErrorCode
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def named(frames: list[Frame], name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in frames if frame.name == name]


def ends(frames: list[Frame]) -> list[int]:
    """Where each STREAM frame ends."""
    found = []
    for fields in named(frames, "STREAM"):
        offset, data = fields["offset"], fields["data"]
        assert isinstance(offset, int) and isinstance(data, bytes | bytearray)
        found.append(offset + len(data))
    return found


# -- the sending part ----------------------------------------------------------------------------------------------


@pytest.mark.conformance("T05")
def test_after_fin_only_the_same_again() -> None:
    """§3.3, §4.5: what is lost goes out again up to the final size, and nothing beyond it."""
    peer = Peer()
    ours = peer.engine.open_stream()
    ours.write(bytes(3000), fin=True)
    frames = peer.hears()
    assert max(ends(frames)) == 3000
    with pytest.raises(StreamError):
        ours.write(b"more")
    again = peer.advance(2.0)
    assert ends(again) and max(ends(again)) <= 3000
    assert {fields["offset"] for fields in named(again, "STREAM")} <= {
        fields["offset"] for fields in named(frames, "STREAM")
    }
    assert all(fields["fin"] for fields, end in zip(named(again, "STREAM"), ends(again), strict=True) if end == 3000)


@pytest.mark.conformance("T05")
@pytest.mark.parametrize("lost", ["by an acknowledgement", "by a timeout"])
def test_after_a_reset_nothing_is_sent_again(lost: str) -> None:
    """§3.3: data that was lost is not missed any more."""
    peer = Peer()
    ours = peer.engine.open_stream()
    ours.write(bytes(2500))
    peer.hears()
    ours.reset(4)
    (reset,) = named(peer.hears(), "RESET_STREAM")
    assert reset == {"stream_id": 1, "error_code": 4, "final_size": 2500}
    if lost == "by an acknowledgement":
        peer.acknowledges(max(peer.received))
    frames = peer.hears() + peer.advance(3.0)
    assert not named(frames, "STREAM") and not named(frames, "STREAM_DATA_BLOCKED")


@pytest.mark.conformance("T07")
@pytest.mark.parametrize("end", ["FIN", "RESET_STREAM"])
def test_a_sending_part_that_is_done_is_silent(end: str) -> None:
    """§3.3: Data Recvd and Reset Recvd: no STREAM, STREAM_DATA_BLOCKED or RESET_STREAM, whatever anybody asks."""
    peer = Peer()
    ours = peer.engine.open_stream()
    ours.write(bytes(100), fin=end == "FIN")
    if end == "RESET_STREAM":
        peer.hears()
        ours.reset(4)
    assert named(peer.hears(ack=True), "STREAM" if end == "FIN" else end)
    assert ours.send_done
    ours.reset(9)
    peer.sends(f.write_stop_sending(1, 7), f.write_limit(f.MAX_STREAM_DATA, 1, 1 << 30))
    frames = peer.hears() + peer.advance(2.0)
    assert not {"STREAM", "STREAM_DATA_BLOCKED", "RESET_STREAM"} & {frame.name for frame in frames}
    assert peer.engine.closed is None


@pytest.mark.conformance("T08")
@pytest.mark.parametrize("written", [0, 500], ids=["Ready", "Send"])
def test_stop_sending_is_answered_with_its_code(written: int) -> None:
    """§3.5: at once; the final size is what was sent, and what was not sent yet never is."""
    peer = Peer()
    ours = peer.engine.open_stream()
    ours.write(bytes(written))
    peer.hears(ack=True)
    ours.write(b"never sent")
    peer.sends(f.write_stop_sending(1, 0x1234))
    frames = peer.hears()
    assert named(frames, "RESET_STREAM") == [{"stream_id": 1, "error_code": 0x1234, "final_size": written}]
    assert not named(frames + peer.advance(2.0), "STREAM")


@pytest.mark.conformance("T09")
@pytest.mark.parametrize("lost", [False, True])
def test_stop_sending_when_all_was_sent(lost: bool) -> None:
    """§3.5: Data Sent; there may be a RESET_STREAM then, with the same final size, and the stream comes to its end."""
    peer = Peer()
    ours = peer.engine.open_stream()
    ours.write(bytes(500), fin=True)
    frames = peer.hears()
    if lost:
        peer.received.clear()
    peer.sends(f.write_stop_sending(1, 7))
    frames += peer.hears()
    peer.acknowledges(*peer.received)
    frames += peer.advance(1.0)
    assert ours.send_done
    assert {fields["final_size"] for fields in named(frames, "RESET_STREAM")} <= {500}
    assert set(ends(frames)) == {500}
    assert peer.engine.closed is None


# -- the receiving part --------------------------------------------------------------------------------------------


@pytest.mark.conformance("T06")
@pytest.mark.parametrize(
    ("frames", "outcome"),
    [
        pytest.param([stream(2, b"all", fin=True), f.write_reset_stream(2, 42, 3)], b"all", id="after everything"),
        pytest.param([stream(2, b"ha", fin=False), f.write_reset_stream(2, 42, 4)], 42, id="before the end"),
        pytest.param([stream(2, b"l", 3, fin=True), f.write_reset_stream(2, 42, 4)], 42, id="after FIN, with a gap"),
        pytest.param([f.write_reset_stream(2, 42, 3), stream(2, b"all", fin=True)], 42, id="before everything"),
        pytest.param([f.write_reset_stream(2, 42, 3), f.write_reset_stream(2, 42, 3)], 42, id="twice"),
    ],
)
def test_a_reset_at_any_time(frames: list[bytes], outcome: bytes | int) -> None:
    """§3.2: the data is kept when all of it is there, else the reset shows; the connection stays in every order."""
    peer = Peer()
    for frame in frames:
        peer.sends(frame)
    (received,) = peer.engine.take_ready().streams
    if isinstance(outcome, bytes):
        assert received.read() == outcome and received.at_end and received.reset_code is None
    else:
        assert received.reset_code == outcome
        assert not received.readable
    peer.sends(b"\x01")
    assert peer.closed_with() is None and peer.engine.closed is None


@pytest.mark.conformance("T07")
@pytest.mark.parametrize("end", [stream(2, b"", 900, fin=True), f.write_reset_stream(2, 1, 900)], ids=["FIN", "RESET"])
def test_no_credit_for_a_stream_that_has_ended(end: bytes) -> None:
    """§3.3: MAX_STREAM_DATA in the Recv state alone, although the frame was due when the end came."""
    peer = Peer(initial_max_stream_data_uni=1000)
    peer.sends(stream(2, bytes(900)))
    (received,) = peer.engine.take_ready().streams
    assert len(received.read()) == 900
    peer.sends(end)
    frames = peer.hears() + peer.advance(1.0)
    assert not named(frames, "MAX_STREAM_DATA")


@pytest.mark.conformance("T07")
@pytest.mark.parametrize("first", ["the reset", "the request"])
def test_nobody_is_asked_to_stop_after_a_reset(first: str) -> None:
    """§3.3: whether the application asks after the reset, or the reset comes before the frame has left."""
    peer = Peer()
    peer.sends(stream(2, b"x"))
    (received,) = peer.engine.take_ready().streams
    if first == "the request":
        received.stop_sending(5)
    peer.sends(f.write_reset_stream(2, 1, 10))
    if first == "the reset":
        received.stop_sending(5)
    frames = peer.hears() + peer.advance(1.0)
    assert not named(frames, "STOP_SENDING")


@pytest.mark.conformance("T07")
def test_a_lost_stop_sending_is_not_repeated_after_a_reset() -> None:
    """§3.3, §13.3."""
    peer = Peer()
    peer.sends(stream(2, b"x"))
    (received,) = peer.engine.take_ready().streams
    received.stop_sending(5)
    assert named(peer.hears(), "STOP_SENDING") == [{"stream_id": 2, "error_code": 5}]
    peer.sends(f.write_reset_stream(2, 5, 10))
    assert not named(peer.hears() + peer.advance(2.0), "STOP_SENDING")


def test_an_error_in_a_stream_that_is_gone() -> None:
    """§4.5: of streams that both sides are done with nothing is remembered; silence is all right then."""
    peer = Peer()
    peer.sends(stream(2, b"all", fin=True))
    peer.engine.take_ready().streams[0].read()
    peer.hears(ack=True)
    peer.sends(stream(2, b"other", 9, fin=True))
    assert peer.closed_with() in (None, TransportErrorCode.FINAL_SIZE_ERROR)

"""Resets that keep the beginning of a stream (draft-ietf-quic-reliable-stream-reset), both halves of it."""

from __future__ import annotations

import pytest
from peer import Pair, Peer, opens_long

from quicstack.connection import handshake
from quicstack.errors import StreamReset, TransportErrorCode
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.transport.stream import Stream
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame
from quicstack.wire.varint import encode_varint

E = TransportErrorCode
CODE = 0x52


def data(stream_id: int, payload: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(payload), fin) + payload


def reset_at(final_size: int, reliable_size: int, code: int = CODE, stream_id: int = 0) -> bytes:
    return f.write_reset_stream_at(stream_id, code, final_size, reliable_size)


def of_kind(frames: list[Frame], name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in frames if frame.name == name]


def received(peer: Peer, stream_id: int = 0) -> Stream:
    stream = peer.engine.stream(stream_id)
    assert stream is not None
    return stream


# -- receiving -----------------------------------------------------------------------------------------------------


@pytest.mark.conformance("A05")
@pytest.mark.parametrize("plays", ["client", "server"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_the_beginning_and_then_the_reset(order: tuple[int, ...], plays: str) -> None:
    """§5: in whatever order the pieces come."""
    peer = Peer(plays=plays)
    stream_id = 2 if plays == "client" else 3
    pieces = [data(stream_id, b"hea"), data(stream_id, b"der+rest", 3), reset_at(100, 6, stream_id=stream_id)]
    for n in order:
        peer.sends(pieces[n])
    stream = received(peer, stream_id)
    assert stream.reset_code is None or stream.bytes_consumed >= 6
    assert stream.read() == b"header"
    assert stream.reset_code == CODE
    with pytest.raises(StreamReset):
        stream.read()
    assert stream in peer.engine.take_ready().streams
    peer.hears()
    assert peer.engine.stream(stream_id) is None, "the stream is over and forgotten"


def test_nothing_shows_before_the_beginning_is_complete() -> None:
    peer = Peer()
    peer.sends(reset_at(100, 6))
    peer.sends(data(0, b"der", 3))
    stream = received(peer)
    assert (stream.read(), stream.reset_code) == (b"", None)
    peer.sends(data(0, b"hea"))
    assert stream.read(5) == b"heade" and stream.reset_code is None
    assert stream.read(5) == b"r" and stream.reset_code == CODE


def test_a_reader_that_is_further_already() -> None:
    """What was read stays read; the rest is gone at once."""
    peer = Peer()
    peer.sends(data(0, b"0123456789"))
    stream = received(peer)
    assert stream.read(8) == b"01234567"
    peer.engine.take_ready()
    peer.sends(reset_at(10, 6))
    assert stream.reset_code == CODE
    assert stream in peer.engine.take_ready().streams


def test_all_of_it_is_reliable() -> None:
    """§5.3: it stays an abrupt end, also when nothing is missing."""
    peer = Peer()
    peer.sends(reset_at(4, 4), data(0, b"data", 0, True))
    stream = received(peer)
    assert stream.read() == b"data"
    assert (stream.reset_code, stream.at_end) == (CODE, False)


def test_after_a_complete_stream_it_changes_nothing() -> None:
    """RFC 9000 §3.2."""
    peer = Peer()
    peer.sends(data(0, b"data", 0, True), reset_at(4, 2))
    stream = received(peer)
    assert stream.read() == b"data"
    assert (stream.reset_code, stream.at_end) == (None, True)


def test_zero_is_a_plain_reset() -> None:
    """§5: the reader loses what it did not read."""
    peer = Peer()
    peer.sends(data(0, b"data"), reset_at(10, 0))
    assert received(peer).reset_code == CODE


def test_credit_comes_back() -> None:
    """All of the final size, once it is over, whether it ever arrived or not."""
    peer = Peer(initial_max_data=10000, initial_max_stream_data_bidi_remote=10000)
    peer.sends(data(0, b"header"), reset_at(9000, 6))
    assert not of_kind(peer.hears(), "MAX_DATA")
    received(peer).read()
    assert of_kind(peer.hears(), "MAX_DATA") == [{"maximum": 19000}]


def test_after_stop_sending() -> None:
    """Nobody wants the beginning any more; the final size counts all the same."""
    peer = Peer()
    peer.sends(data(0, b"header"))
    stream = received(peer)
    stream.stop_sending(5)
    assert of_kind(peer.hears(), "STOP_SENDING")
    peer.sends(reset_at(50, 6))
    assert stream.bytes_consumed == 50 and peer.engine.closed is None


@pytest.mark.conformance("A04")
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ((reset_at(9, 3), reset_at(9, 3, code=1)), E.STREAM_STATE_ERROR),
        ((reset_at(9, 3), f.write_reset_stream(0, 1, 9)), E.STREAM_STATE_ERROR),
        ((f.write_reset_stream(0, 1, 9), reset_at(9, 3)), E.STREAM_STATE_ERROR),
        ((reset_at(9, 3), reset_at(10, 3)), E.FINAL_SIZE_ERROR),
        ((reset_at(9, 3), f.write_reset_stream(0, CODE, 8)), E.FINAL_SIZE_ERROR),
        ((reset_at(9, 3), data(0, b"x", 7, True)), E.FINAL_SIZE_ERROR),
        ((reset_at(9, 3), data(0, b"x", 9)), E.FINAL_SIZE_ERROR),
        ((data(0, b"123", 0, True), reset_at(9, 3)), E.FINAL_SIZE_ERROR),
        ((data(0, b"0123456789"), reset_at(9, 3)), E.FINAL_SIZE_ERROR),
    ],
)
def test_what_may_not_change(frames: tuple[bytes, ...], code: int) -> None:
    """§5.2: code and final size, against each other kind of end too."""
    peer = Peer()
    for frame in frames:
        peer.sends(frame)
    assert peer.closed_with() == code


@pytest.mark.conformance("A04")
def test_the_reliable_size_only_shrinks() -> None:
    """§5.2: a frame that raises it came late; one that lowers it counts at once."""
    peer = Peer()
    peer.sends(data(0, b"01234"))
    peer.sends(reset_at(20, 8))
    peer.sends(reset_at(20, 7), reset_at(20, 12))
    stream = received(peer)
    assert stream.read() == b"01234" and stream.reset_code is None
    peer.sends(data(0, b"56789", 5))
    assert stream.read() == b"56" and stream.reset_code == CODE
    peer.sends(data(4, b"012"), reset_at(20, 8, stream_id=4))
    other = received(peer, 4)
    peer.sends(reset_at(20, 3, stream_id=4))
    assert other.read() == b"012" and other.reset_code == CODE
    peer.sends(data(8, b"012"), reset_at(20, 8, stream_id=8), f.write_reset_stream(8, CODE, 20))
    assert received(peer, 8).reset_code == CODE


@pytest.mark.conformance("A02")
def test_more_reliable_than_there_is() -> None:
    peer = Peer()
    peer.sends(reset_at(5, 6))
    assert peer.closed_with() == E.FRAME_ENCODING_ERROR


@pytest.mark.conformance("A03")
@pytest.mark.parametrize("limits", [(1000, 5000), (5000, 1000)], ids=["stream", "connection"])
def test_a_final_size_without_credit(limits: tuple[int, int]) -> None:
    def engine() -> Peer:
        return Peer(initial_max_stream_data_bidi_remote=limits[0], initial_max_data=limits[1])

    peer = engine()
    peer.sends(reset_at(1001, 0))
    assert peer.closed_with() == E.FLOW_CONTROL_ERROR
    peer = engine()
    peer.sends(reset_at(1000, 1000))
    assert peer.closed_with() is None


@pytest.mark.conformance("A06", "T158")
def test_not_announced() -> None:
    """RFC 9000 §12.4: then it is an unknown frame."""
    peer = Peer(reset_stream_at=False)
    peer.sends(reset_at(5, 5))
    assert peer.closed_with() == E.FRAME_ENCODING_ERROR


def test_on_a_stream_that_only_we_send() -> None:
    peer = Peer()
    stream = peer.engine.open_stream(unidirectional=True)
    peer.sends(reset_at(5, 5, stream_id=stream.id))
    assert peer.closed_with() == E.STREAM_STATE_ERROR


# -- sending -------------------------------------------------------------------------------------------------------


def opened(peer: Peer, payload: bytes, sent: bool = True) -> tuple[Stream, list[Frame]]:
    stream = peer.engine.open_stream()
    stream.write(payload)
    return stream, peer.hears() if sent else []


@pytest.mark.parametrize("plays", ["client", "server"])
def test_what_is_sent(plays: str) -> None:
    """§5: the final size is what was sent, or what is reliable if that is more; no FIN, nothing else."""
    peer = Peer(plays=plays)
    stream, _ = opened(peer, b"header")
    stream.write(bytes(50))
    stream.reset(CODE, reliable_size=10)
    frames = peer.hears(ack=True)
    assert sum(len(fields["data"]) for fields in of_kind(frames, "STREAM")) == 4  # type: ignore[arg-type, misc]
    expected = {"stream_id": stream.id, "error_code": CODE, "final_size": 10, "reliable_size": 10}
    assert of_kind(frames, "RESET_STREAM_AT") == [expected]
    assert not of_kind(frames, "RESET_STREAM") and not stream.send_done
    assert of_kind(peer.advance(5), "STREAM"), "the header was not acknowledged yet"
    peer.acknowledges(*peer.received)
    assert stream.send_done and peer.advance(20) == []


@pytest.mark.conformance("A05a")
@pytest.mark.parametrize("by_timeout", [False, True], ids=["by ACK", "by PTO"])
@pytest.mark.parametrize("lost", ["data", "frame", "both"])
def test_each_piece_lost(lost: str, by_timeout: bool) -> None:
    """§4, §5: frame and reliable data are sent until they are acknowledged, and nothing beyond."""
    peer = Peer()
    peer.hears(ack=True)
    stream = peer.engine.open_stream()
    stream.write(b"header and more")
    peer.hears()
    first = max(peer.received)
    stream.reset(CODE, reliable_size=6)
    frames = peer.hears()
    assert of_kind(frames, "RESET_STREAM_AT")[0]["final_size"] == 15
    second = max(peer.received)
    if lost == "data":
        peer.acknowledges(second)
    elif lost == "frame":
        peer.acknowledges(first)
    assert not stream.send_done
    if by_timeout:
        again = peer.advance(1.0)
    else:
        again = []
        for _ in range(4):
            peer.engine.ping()
            again += peer.hears()
        peer.acknowledges(max(peer.received))
        again += peer.hears()
    assert bool(of_kind(again, "RESET_STREAM_AT")) == (lost != "data")
    repeated = {bytes(fields["data"]) for fields in of_kind(again, "STREAM")}  # type: ignore[call-overload]
    assert repeated == (set() if lost == "frame" else {b"header"})
    peer.acknowledges(*peer.received)
    assert stream.send_done


@pytest.mark.conformance("A05a")
@pytest.mark.parametrize("what", ["stream", "connection"])
def test_the_frame_waits_for_credit(what: str) -> None:
    """§4: the final size needs credit of both kinds, so the frame is not sent before."""
    peer = Peer()
    stream = peer.engine.open_stream()
    window = peer.engine._state.streams.send_window
    if what == "stream":
        assert stream.send is not None
        stream.send.limit = 4
    else:
        window.limit = window.used + 4
    stream.write(b"header and more")
    peer.hears()
    stream.reset(CODE, reliable_size=6)
    frames = peer.hears(ack=True)
    assert not of_kind(frames, "RESET_STREAM_AT") and not of_kind(frames, "STREAM")
    more = f.write_limit(f.MAX_STREAM_DATA, stream.id, 6) if what == "stream" else f.write_limit(f.MAX_DATA, 6)
    peer.sends(more)
    frames = peer.hears()
    assert of_kind(frames, "RESET_STREAM_AT")[0]["final_size"] == 6
    peer.acknowledges(*peer.received)
    assert stream.send_done


def test_giving_up_more() -> None:
    """§5.2: a smaller size may follow, with the same code and final size; a larger one may not."""
    peer = Peer()
    stream, _ = opened(peer, b"header and more")
    stream.reset(CODE, reliable_size=10)
    assert of_kind(peer.hears(), "RESET_STREAM_AT")[0]["reliable_size"] == 10
    stream.reset(99, reliable_size=12)
    assert not peer.hears()
    stream.reset(99, reliable_size=6)
    assert of_kind(peer.hears(), "RESET_STREAM_AT") == [
        {"stream_id": stream.id, "error_code": CODE, "final_size": 15, "reliable_size": 6}
    ]
    peer.advance(5.0)
    peer.acknowledges(max(peer.received))
    repeated = peer.hears()
    assert {fields["reliable_size"] for fields in of_kind(repeated, "RESET_STREAM_AT")} == {6}
    stream.reset(99)
    expected = {"stream_id": stream.id, "error_code": CODE, "final_size": 15}
    assert of_kind(peer.hears(), "RESET_STREAM") == [expected]
    frames = peer.advance(5.0)
    assert not of_kind(frames, "STREAM") and not of_kind(frames, "RESET_STREAM_AT")


def test_an_acknowledgement_of_the_larger_size() -> None:
    """§5.3: what settles the stream is the frame with the smallest size."""
    peer = Peer()
    stream, _ = opened(peer, b"header")
    peer.acknowledges(*peer.received)
    stream.reset(CODE, reliable_size=6)
    peer.hears()
    first = max(peer.received)
    stream.reset(CODE, reliable_size=3)
    peer.acknowledges(first)
    assert not stream.send_done
    assert of_kind(peer.hears(ack=True), "RESET_STREAM_AT")[0]["reliable_size"] == 3
    assert stream.send_done


@pytest.mark.parametrize("announced", [False, True])
def test_stop_sending_is_answered_by_a_plain_reset(announced: bool) -> None:
    """§5.4; the code stands once it was sent."""
    peer = Peer()
    stream, _ = opened(peer, b"header")
    stream.reset(CODE, reliable_size=6)
    if announced:
        peer.hears()
    peer.sends(f.write_stop_sending(stream.id, 77))
    fields = of_kind(peer.hears(ack=True), "RESET_STREAM")
    assert [(one["error_code"], one["final_size"]) for one in fields] == [(CODE if announced else 77, 6)]
    assert stream.send_done


def test_after_fin() -> None:
    """§5.1."""
    peer = Peer()
    stream = peer.engine.open_stream()
    stream.write(b"header and all", fin=True)
    peer.hears()
    stream.reset(CODE, reliable_size=6)
    assert of_kind(peer.hears(), "RESET_STREAM_AT")[0]["final_size"] == 14
    again = of_kind(peer.advance(1.0), "STREAM")
    assert {bytes(fields["data"]) for fields in again} == {b"header"}  # type: ignore[call-overload]


@pytest.mark.conformance("T158")
def test_a_peer_that_does_not_know_it() -> None:
    """RESET_STREAM then, once the beginning is acknowledged."""
    pair = Pair(client={"reset_stream_at": False})
    pair.exchange()
    stream = pair.server.open_stream(unidirectional=True)
    stream.write(b"header and more")
    stream.reset(CODE, reliable_size=6)
    assert stream.reset_code is None
    pair.exchange()
    other = pair.client.stream(stream.id)
    assert stream.send_done and other is not None and other.reset_code == CODE


def test_both_ends() -> None:
    """Over a whole exchange; nothing is kept of the stream afterwards."""
    pair = Pair()
    pair.exchange()
    stream = pair.client.open_stream()
    stream.write(bytes(100))
    stream.reset(CODE, reliable_size=40)
    stream.stop_sending(1)
    pair.exchange()
    other = pair.server.stream(stream.id)
    assert other is not None and len(other.read()) == 40 and other.reset_code == CODE
    pair.server.take_ready()
    pair.client.take_ready()
    pair.exchange()
    assert not pair.client._state.streams.streams and not pair.server._state.streams.streams


# -- the parameter -------------------------------------------------------------------------------------------------


def test_both_numbers_of_the_parameter() -> None:
    """The present one and the one of the drafts up to -07."""
    from quicstack.wire.transport_parameters import (
        TransportParameters,
        read_transport_parameters,
        write_transport_parameters,
    )

    written = write_transport_parameters(TransportParameters(reset_stream_at=True))
    for number in (0x1D, 0x17F7586D2CB571):
        parameter = encode_varint(number) + b"\x00"
        assert parameter in written
        assert read_transport_parameters(parameter, from_server=False).reset_stream_at
    assert not write_transport_parameters(TransportParameters())


@pytest.mark.conformance("A01")
@pytest.mark.parametrize("number", [0x1D, 0x17F7586D2CB571])
def test_a_parameter_with_a_value(number: int) -> None:
    """§3: it ends the handshake, and the code stands in CONNECTION_CLOSE."""
    pair = Pair(client={"reset_stream_at": False})
    state = pair.client._state
    state.local_parameters.reserved[number] = b"x"
    # The ClientHello is made at once, so the parameter has to be added by a fresh handshake engine.
    state.spaces[0].crypto = CryptoStream()
    handshake.start(state, pair.now)
    pair.to_server(pair.from_client())
    answer = pair.from_server()
    found = [frame for train in answer for _, frames in opens_long(state, train.data) for frame in frames]
    closes = [frame.fields["error_code"] for frame in found if frame.name == "CONNECTION_CLOSE"]
    assert closes == [E.TRANSPORT_PARAMETER_ERROR]

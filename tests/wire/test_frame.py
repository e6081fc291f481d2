"""Frames: what is written can be read, hostile bytes raise TransportError and nothing else (RFC 9000 §19)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.wire import frame as f
from quicstack.wire.frame_study import parse_frames
from quicstack.wire.varint import MAX_VARINT, encode_varint

INT = st.integers(0, MAX_VARINT)
DATA = st.binary(max_size=40)


@given(st.binary(max_size=60))
def test_hostile_bytes(data: bytes) -> None:
    try:
        parse_frames(data)
    except TransportError:
        pass


@given(st.sampled_from(sorted(f.FRAMES)), st.binary(max_size=60))
def test_hostile_frame(frame_type: int, data: bytes) -> None:
    try:
        frames = parse_frames(encode_varint(frame_type) + data)
    except TransportError as error:
        assert error.code in (TransportErrorCode.FRAME_ENCODING_ERROR, TransportErrorCode.PROTOCOL_VIOLATION)
    else:
        assert sum(frame.size for frame in frames) == len(encode_varint(frame_type)) + len(data)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1000)), min_size=1, max_size=20), st.booleans())
def test_ack(steps: list[tuple[int, int]], with_ecn: bool) -> None:
    ranges, at = [], 0
    for gap, length in steps:
        ranges.append((at + gap, at + gap + length))
        at += gap + length + 2
    ranges.reverse()
    ecn = (1, 2, 300) if with_ecn else None
    data = f.write_ack(ranges, 77, ecn)
    assert f.read_ack(data, 1, data[0]) == (ranges, 77, ecn, len(data))


@pytest.mark.parametrize("data", ["0205000006", "020a00010505 0a", "0200000100 00 00"])
def test_ack_range_below_zero(data: str) -> None:
    """§19.3.1: a computed packet number below 0 is FRAME_ENCODING_ERROR."""
    raw = bytes.fromhex(data.replace(" ", ""))
    with pytest.raises(TransportError) as caught:
        f.read_ack(raw, 1, raw[0])
    assert caught.value.code == TransportErrorCode.FRAME_ENCODING_ERROR


def test_ack_that_promises_more_ranges_than_it_has() -> None:
    with pytest.raises(TransportError):
        f.read_ack(b"\x02\x05\x00" + encode_varint(MAX_VARINT) + b"\x00", 1, 2)


@given(INT, st.integers(0, 1 << 40), DATA, st.booleans(), st.booleans())
def test_stream(stream_id: int, offset: int, data: bytes, fin: bool, explicit: bool) -> None:
    header = f.stream_header(stream_id, offset, len(data) if explicit else None, fin)
    raw = header + data
    assert f.read_stream(raw, 1, raw[0]) == (stream_id, offset, data, fin, len(raw))


def test_stream_beyond_the_largest_offset() -> None:
    """§19.8."""
    raw = bytes((0x0C, 0)) + encode_varint(MAX_VARINT) + b"x"
    with pytest.raises(TransportError) as caught:
        f.read_stream(raw, 1, raw[0])
    assert caught.value.code in (TransportErrorCode.FRAME_ENCODING_ERROR, TransportErrorCode.FLOW_CONTROL_ERROR)


@given(INT, INT, INT)
def test_simple_frames(a: int, b: int, c: int) -> None:
    raw = f.write_reset_stream(a, b, c)
    assert f.read_reset_stream(raw, 1) == (a, b, c, len(raw))
    raw = f.write_stop_sending(a, b)
    assert f.read_stop_sending(raw, 1) == (a, b, len(raw))
    raw = f.write_limit(f.MAX_STREAM_DATA, a, b)
    assert f.read_stream_limit(raw, 1) == (a, b, len(raw))
    raw = f.write_connection_close(a, b"why", b)
    assert f.read_connection_close(raw, 1, raw[0]) == (a, b, b"why", len(raw))
    raw = f.write_connection_close(a, b"why", None)
    assert f.read_connection_close(raw, 1, raw[0]) == (a, 0, b"why", len(raw))


@pytest.mark.parametrize("frame_type", [f.MAX_STREAMS_BIDI, f.MAX_STREAMS_UNI, f.STREAMS_BLOCKED_BIDI])
def test_stream_counts_end_at_2_to_the_60(frame_type: int) -> None:
    """§19.11, §19.14."""
    raw = f.write_limit(frame_type, 1 << 60)
    assert f.read_streams_limit(raw, 1, frame_type)[0] == 1 << 60
    raw = f.write_limit(frame_type, (1 << 60) + 1)
    with pytest.raises(TransportError) as caught:
        f.read_streams_limit(raw, 1, frame_type)
    assert caught.value.code == TransportErrorCode.FRAME_ENCODING_ERROR


@pytest.mark.parametrize(
    ("sequence", "retire", "length"), [(1, 2, 8), (1, 0, 0), (1, 0, 21)], ids=["retire above", "empty", "long"]
)
def test_new_connection_id_is_checked(sequence: int, retire: int, length: int) -> None:
    """§19.15."""
    raw = f.write_new_connection_id(sequence, retire, bytes(length), bytes(16))
    with pytest.raises(TransportError) as caught:
        f.read_new_connection_id(raw, 1)
    assert caught.value.code == TransportErrorCode.FRAME_ENCODING_ERROR


def test_empty_new_token() -> None:
    """§19.7."""
    with pytest.raises(TransportError) as caught:
        f.read_new_token(b"\x07\x00", 1)
    assert caught.value.code == TransportErrorCode.FRAME_ENCODING_ERROR


@pytest.mark.attack("c: non-minimal frame types")
def test_frame_type_in_its_shortest_encoding() -> None:
    """§12.4."""
    with pytest.raises(TransportError) as caught:
        parse_frames(b"\x40\x01")
    assert caught.value.code == TransportErrorCode.PROTOCOL_VIOLATION


def test_padding_is_one_frame() -> None:
    frames = parse_frames(b"\x01" + bytes(500) + b"\x01")
    assert [(frame.name, frame.size) for frame in frames] == [("PING", 1), ("PADDING", 500), ("PING", 1)]

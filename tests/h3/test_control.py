from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.control import PeerControlStream
from h3.errors import H3ConnectionError, H3ErrorCode
from h3.frames import FrameType, encode_frame, grease_identifier
from h3.priority import Priority
from h3.settings import encode_settings
from quicstack.wire.varint import encode_varint

SETTINGS = encode_frame(FrameType.SETTINGS, encode_settings({0x01: 4096}))
GREASE = encode_frame(grease_identifier(3), b"x" * 100)


def frame(frame_type: int, *values: int, tail: bytes = b"") -> bytes:
    return encode_frame(frame_type, b"".join(map(encode_varint, values)) + tail)


def refused(data: bytes, *, is_client: bool, webtransport: bool = False) -> int:
    with pytest.raises(H3ConnectionError) as error:
        PeerControlStream(is_client=is_client, webtransport=webtransport).receive(data)
    return error.value.code


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_what_a_client_says(size: int) -> None:
    control = PeerControlStream(is_client=False)
    data = (
        SETTINGS + GREASE + frame(FrameType.MAX_PUSH_ID, 3) + frame(FrameType.MAX_PUSH_ID, 3)
        + frame(FrameType.GOAWAY, 7) + frame(FrameType.PRIORITY_UPDATE_REQUEST, 4, tail=b"u=1")
        + frame(FrameType.PRIORITY_UPDATE_REQUEST, 4, tail=b"u=5, i") + frame(FrameType.GOAWAY, 7)
    )  # fmt: skip
    for start in range(0, len(data), size):
        control.receive(data[start : start + size])
    assert control.settings == {0x01: 4096}
    assert (control.max_push_id, control.goaway_id) == (3, 7)
    assert control.priorities == {4: Priority(5, True)}


@pytest.mark.parametrize("is_client", [True, False])
@pytest.mark.parametrize("first", [GREASE, frame(FrameType.GOAWAY, 0), encode_frame(FrameType.DATA), b"\x01"])
def test_settings_come_first(first: bytes, is_client: bool) -> None:
    assert refused(first + SETTINGS, is_client=is_client) == H3ErrorCode.H3_MISSING_SETTINGS


UNEXPECTED = [FrameType.DATA, FrameType.HEADERS, FrameType.PUSH_PROMISE, FrameType.SETTINGS, 0x02, 0x06, 0x08, 0x09]


@pytest.mark.parametrize(
    ("frame_type", "is_client"),
    [(t, c) for t in UNEXPECTED for c in (True, False)]
    + [
        (FrameType.MAX_PUSH_ID, True),
        (FrameType.PRIORITY_UPDATE_REQUEST, True),
        (FrameType.PRIORITY_UPDATE_PUSH, True),
    ],
)
def test_frames_that_do_not_belong_here(frame_type: int, is_client: bool) -> None:
    assert refused(SETTINGS + encode_varint(frame_type), is_client=is_client) == H3ErrorCode.H3_FRAME_UNEXPECTED


@pytest.mark.parametrize(
    ("data", "is_client"),
    [
        (frame(FrameType.GOAWAY, 5), True),  # not a request stream
        (frame(FrameType.GOAWAY, 4) + frame(FrameType.GOAWAY, 8), True),
        (frame(FrameType.GOAWAY, 7) + frame(FrameType.GOAWAY, 8), False),
        (frame(FrameType.MAX_PUSH_ID, 4) + frame(FrameType.MAX_PUSH_ID, 3), False),
        (frame(FrameType.CANCEL_PUSH, 0), True),
        (frame(FrameType.CANCEL_PUSH, 0), False),
        (frame(FrameType.PRIORITY_UPDATE_REQUEST, 1), False),
        (frame(FrameType.PRIORITY_UPDATE_PUSH, 0), False),
    ],
)
def test_identifiers_that_cannot_be(data: bytes, is_client: bool) -> None:
    assert refused(SETTINGS + data, is_client=is_client) == H3ErrorCode.H3_ID_ERROR


@pytest.mark.parametrize("frame_type", [FrameType.GOAWAY, FrameType.MAX_PUSH_ID, FrameType.CANCEL_PUSH])
@pytest.mark.parametrize("payload", [b"", b"\x40", b"\x00\x00"])
def test_wrong_length(frame_type: int, payload: bytes) -> None:
    assert refused(SETTINGS + encode_frame(frame_type, payload), is_client=False) == H3ErrorCode.H3_FRAME_ERROR


def test_webtransport_signal_on_the_control_stream() -> None:
    data = SETTINGS + encode_varint(FrameType.WT_STREAM)
    assert refused(data, is_client=False, webtransport=True) == H3ErrorCode.H3_FRAME_ERROR


def test_a_huge_unknown_frame_is_skipped_as_it_comes() -> None:
    control = PeerControlStream(is_client=False)
    control.receive(SETTINGS + encode_varint(grease_identifier(1)) + encode_varint(2**61))
    for _ in range(100):
        control.receive(bytes(1 << 16))
    assert len(control._buffer) == 0


def test_a_huge_known_frame_is_refused_before_it_comes() -> None:
    data = encode_varint(FrameType.SETTINGS) + encode_varint(1 << 20)
    assert refused(data, is_client=False) == H3ErrorCode.H3_EXCESSIVE_LOAD


@pytest.mark.parametrize("flood", [frame(FrameType.MAX_PUSH_ID, 3), frame(FrameType.GOAWAY, 4), encode_frame(0x21)])
def test_a_flood_is_refused_unless_requests_come_with_it(flood: bytes) -> None:
    control = PeerControlStream(is_client=False)
    control.receive(SETTINGS)
    for _ in range(100):
        control.receive(flood * 50)
        control.earn()
    with pytest.raises(H3ConnectionError) as error:
        control.receive(flood * 2000)
    assert error.value.code == H3ErrorCode.H3_EXCESSIVE_LOAD


def test_priorities_of_streams_not_open_are_bounded() -> None:
    control = PeerControlStream(is_client=False)
    control.receive(SETTINGS)
    for n in range(1000):
        control.receive(frame(FrameType.PRIORITY_UPDATE_REQUEST, 4 * n, tail=b"u=0"))
    assert len(control.priorities) <= 128
    assert 4 * 999 in control.priorities


@given(data=st.binary(max_size=100), is_client=st.booleans(), prefix=st.sampled_from([b"", SETTINGS]))
def test_any_bytes_are_read_or_refused(data: bytes, is_client: bool, prefix: bytes) -> None:
    with contextlib.suppress(H3ConnectionError):
        PeerControlStream(is_client=is_client, webtransport=True).receive(prefix + data)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.errors import H3ConnectionError, H3ErrorCode
from h3.frames import VarintReader, encode_frame, grease_identifier, is_grease, read_single_id
from quicstack.wire.varint import encode_varint


class Bytes:
    """The reading half of a stream, fed by hand."""

    def __init__(self) -> None:
        self.data = b""

    def read(self, n: int = -1) -> bytes:
        n = len(self.data) if n < 0 else n
        taken, self.data = self.data[:n], self.data[n:]
        return taken


def test_frame_is_type_length_payload() -> None:
    assert encode_frame(0x00, b"abc") == bytes.fromhex("0003616263")
    assert encode_frame(0x41) == bytes.fromhex("404100")


@given(
    values=st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=4),
    rest=st.binary(max_size=9),
    size=st.integers(1, 9),
)
def test_varints_arrive_in_any_pieces_and_nothing_more_is_taken(values: list[int], rest: bytes, size: int) -> None:
    stream = Bytes()
    reader = VarintReader(stream)
    data = b"".join(map(encode_varint, values)) + rest
    got: list[int] = []
    for start in range(0, len(data), size):
        stream.data += data[start : start + size]
        while len(got) < len(values) and (value := reader.next()) is not None:
            got.append(value)
    assert got == values
    assert stream.data == rest
    assert not reader.is_mid_integer


def test_an_integer_that_has_begun_is_noticed() -> None:
    stream = Bytes()
    reader = VarintReader(stream)
    assert reader.next() is None and not reader.is_mid_integer
    stream.data = b"\x80\x00"
    assert reader.next() is None and reader.is_mid_integer


@pytest.mark.parametrize("payload", [b"", b"\x40", b"\x01\x01", b"\x40\x01\x00"])
def test_single_id_frames_hold_exactly_one_integer(payload: bytes) -> None:
    with pytest.raises(H3ConnectionError) as error:
        read_single_id(payload, "GOAWAY")
    assert error.value.code == H3ErrorCode.H3_FRAME_ERROR


def test_reserved_identifiers() -> None:
    assert grease_identifier(0) == 0x21
    assert all(is_grease(grease_identifier(n)) for n in range(256))
    assert not any(is_grease(n) for n in (0x00, 0x01, 0x04, 0x0D, 0x20, 0x41, 0x54))

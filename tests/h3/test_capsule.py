from __future__ import annotations

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.capsule import Capsule, CapsuleParser, encode_capsule
from h3.errors import H3ErrorCode, H3StreamError
from quicstack.wire.varint import encode_varint

capsules = st.lists(st.builds(Capsule, st.sampled_from([0, 0x2843, 0x78AE, 0x17]), st.binary(max_size=70)), max_size=6)


@given(sent=capsules, size=st.integers(1, 50))
def test_known_capsules_come_out_in_any_pieces_and_unknown_ones_do_not(sent: list[Capsule], size: int) -> None:
    parser = CapsuleParser({0: 100, 0x2843: 100, 0x78AE: 100})
    data = b"".join(encode_capsule(*capsule) for capsule in sent)
    got: list[Capsule] = []
    for start in range(0, len(data), size):
        got += parser.feed(data[start : start + size])
    assert got == [capsule for capsule in sent if capsule.type != 0x17]
    assert not parser.is_mid_capsule


def test_a_known_capsule_that_is_too_long_is_malformed_before_its_value() -> None:
    parser = CapsuleParser({0x2843: 1028})
    with pytest.raises(H3StreamError) as error:
        parser.feed(encode_varint(0x2843) + encode_varint(1029))
    assert error.value.code == H3ErrorCode.H3_MESSAGE_ERROR


def test_an_unknown_capsule_of_any_length_takes_no_memory() -> None:
    parser = CapsuleParser({})
    parser.feed(encode_varint(0x17) + encode_varint(2**62 - 1))
    piece = bytes(1 << 16)
    tracemalloc.start()
    try:
        for _ in range(500):
            assert parser.feed(piece) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(piece)
    assert parser.is_mid_capsule


@pytest.mark.parametrize("end", [1, 2, 3, 5])
def test_a_capsule_cut_short_is_noticed(end: int) -> None:
    parser = CapsuleParser({0x2843: 10})
    assert parser.feed(encode_capsule(0x2843, b"abc")[:end]) == []
    assert parser.is_mid_capsule


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(H3StreamError):
        CapsuleParser({0: 100, 0x2843: 10}).feed(data)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.datagram import EarlyDatagrams, encode_datagram, quarter_id_size, read_datagram, read_datagrams
from h3.errors import H3ConnectionError, H3ErrorCode
from quicstack.wire.varint import encode_varint


@given(st.integers(0, 2**60 - 1), st.binary(max_size=50))
def test_round_trip(quarter: int, payload: bytes) -> None:
    data = encode_datagram(4 * quarter, payload)
    assert read_datagram(data) == (4 * quarter, payload)
    assert len(data) == quarter_id_size(4 * quarter) + len(payload)


@pytest.mark.parametrize("data", [b"", b"\x40", b"\xc0\x00", encode_varint(2**60)])
def test_quarter_stream_id_is_missing_or_too_large(data: bytes) -> None:
    with pytest.raises(H3ConnectionError) as error:
        read_datagram(data)
    assert error.value.code == H3ErrorCode.H3_DATAGRAM_ERROR


def test_early_datagrams_keep_the_newest_and_give_each_stream_its_own() -> None:
    early = EarlyDatagrams(limit=3)
    for n in range(5):
        early.add(4 * (n % 2), bytes([n]))
    assert len(early) == 3
    assert early.take(0) == [b"\x02", b"\x04"]
    assert early.take(0) == []
    assert early.take(4) == [b"\x03"]
    assert len(early) == 0


def test_those_of_one_stream_stay_together_and_in_order() -> None:
    sent = [(0, b"a"), (0, b"b"), (400, b"c"), (0, b""), (0, b"d")]
    runs = read_datagrams([encode_datagram(stream_id, payload) for stream_id, payload in sent])
    assert runs == [(0, [b"a", b"b"]), (400, [b"c"]), (0, [b"", b"d"])]

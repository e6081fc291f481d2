"""Varints, frames and field sections: bytes to values and back."""

from __future__ import annotations

from typing import Any

import pytest

from h3.qpack import FieldDecoder, FieldEncoder
from quicstack.wire.frame import STREAM, STREAM_OFF, read_ack, read_stream, stream_header, write_ack
from quicstack.wire.varint import encode_varint, read_varint

VALUES = (37, 15_293, 494_878_333, 151_288_809_941_952_652)  # RFC 9000 §A.1: one of each length
FIELDS = [
    (b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"example.org"), (b":path", b"/some/where?q=1"),
    (b"user-agent", b"benchmark"), (b"accept", b"*/*"), (b"content-length", b"64"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_encode_varint(benchmark: Any, value: int) -> None:
    benchmark(encode_varint, value)


@pytest.mark.parametrize("value", VALUES)
def test_read_varint(benchmark: Any, value: int) -> None:
    assert benchmark(read_varint, encode_varint(value), 0)[0] == value


def test_read_stream_frame(benchmark: Any) -> None:
    data = stream_header(4, 1 << 20, None, False) + bytes(1150)
    assert benchmark(read_stream, data, 1, STREAM | STREAM_OFF)[:2] == (4, 1 << 20)


def test_write_stream_header(benchmark: Any) -> None:
    benchmark(stream_header, 4, 1 << 20, 1150, False)


@pytest.mark.parametrize("ranges", [1, 32])
def test_ack_frame(benchmark: Any, ranges: int) -> None:
    """Written and read."""
    sent = [(10 * at, 10 * at + 5) for at in reversed(range(1, ranges + 1))]

    def there_and_back() -> list[tuple[int, int]]:
        return read_ack(write_ack(sent, 25), 1, 0x02)[0]

    assert benchmark(there_and_back) == sent


def test_qpack_encode(benchmark: Any) -> None:
    benchmark(FieldEncoder().encode, 0, FIELDS)


def test_qpack_decode(benchmark: Any) -> None:
    _, section = FieldEncoder().encode(0, FIELDS)
    decoder = FieldDecoder(capacity=4096, blocked_streams=16, max_section_size=1 << 16)
    assert benchmark(decoder.decode, 0, section) == FIELDS

from __future__ import annotations

import pytest

from quicstack.errors import TransportError
from quicstack.tls.presentation import Reader, number, numbers, vector


def test_round_trip() -> None:
    data = number(0x0303, 2) + vector(1, b"ab") + numbers(2, [1, 2]) + vector(3, b"")
    reader = Reader(data, "Example")
    assert (reader.number(2), reader.vector(1), reader.numbers(2)) == (0x0303, b"ab", (1, 2))
    assert list(reader.items(3)) == []
    reader.finish()


def test_items() -> None:
    reader = Reader(vector(2, b"\x01\x02\x03\x04"), "Example")
    assert [item.number(2) for item in reader.items(2)] == [0x0102, 0x0304]


@pytest.mark.parametrize(
    ("data", "read", "problem"),
    [
        (b"\x01", lambda r: r.number(2), "Example is truncated: 2 bytes expected, 1 left"),
        (b"\x05ab", lambda r: r.vector(1), "Example is truncated: 5 bytes expected, 2 left"),
        (b"\x00", lambda r: r.vector(1, 1), "Example has a vector of 0 bytes, at least 1 expected"),
        (b"\x03abc", lambda r: r.vector(1, 0, 2), "Example has a vector of 3 bytes, at most 2 expected"),
        (b"\x00\x03abc", lambda r: r.numbers(2), "Example has a list of two-byte values that is 3 bytes long"),
        (b"\x00\x00", lambda r: r.numbers(2), "Example has a vector of 0 bytes, at least 2 expected"),
        (b"abc", lambda r: r.finish(), "Example has 3 bytes after its end"),
        (b"\x01a", lambda r: [item.number(2) for item in r.items(1)], "Example is truncated: 2 bytes expected, 1 left"),
    ],
)
def test_decode_errors(data: bytes, read: object, problem: str) -> None:
    with pytest.raises(TransportError) as caught:
        read(Reader(data, "Example"))  # type: ignore[operator]
    assert caught.value.code == 0x132
    assert caught.value.reason == problem

"""Bytes in any order come out in order, once (RFC 9000 §2.2)."""

import random

from hypothesis import given
from hypothesis import strategies as st

from quicstack.transport.reassembly import Reassembly

BLOB = random.Random(1).randbytes(400)


@given(st.lists(st.tuples(st.integers(0, 399), st.integers(0, 90), st.integers(-1, 50)), max_size=60))
def test_any_order(steps: list[tuple[int, int, int]]) -> None:
    stream = Reassembly()
    have: set[int] = set()
    out = b""
    for offset, length, read in steps:
        chunk = BLOB[offset : offset + length]
        before = stream.end
        grew = stream.add(offset, chunk)
        have.update(range(offset, offset + len(chunk)))
        contiguous = next(i for i in range(401) if i not in have)
        assert stream.end == contiguous
        assert grew == (contiguous > before)
        assert stream.readable == contiguous - len(out)
        assert stream.peek(read) == BLOB[len(out) : contiguous][: read if read >= 0 else None]
        if read >= 0:
            out += stream.read(read)
    out += stream.read()
    assert out == BLOB[: stream.end]
    assert stream.read() == b""


def test_bytes_received_first_win() -> None:
    """RFC 9000 §2.2: data at an offset must not change; if it does, nothing is mixed."""
    stream = Reassembly()
    stream.add(4, b"2222")
    stream.add(2, b"xxxxxxxx")
    stream.add(0, b"11")
    assert stream.read() == b"11xx2222xx"


def test_memory_is_the_span_however_many_the_fragments() -> None:
    stream = Reassembly()
    for offset in range(2, 20000, 2):
        stream.add(offset, b"x")
    assert stream.gaps == 9999
    assert len(stream._sparse) <= 20000
    stream.add(0, bytes(20000))
    assert stream.readable == 20000
    assert stream.gaps == 0

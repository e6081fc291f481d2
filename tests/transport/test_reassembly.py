"""Bytes in any order come out in order, once (RFC 9000 §2.2)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.transport.reassembly import Reassembly

BLOB = random.Random(1).randbytes(400)


@given(st.lists(st.tuples(st.integers(-40, 40), st.integers(0, 90), st.integers(-1, 50)), max_size=60))
def test_any_order(steps: list[tuple[int, int, int]]) -> None:
    """Pieces that begin near the end of what is there, so that they meet, overlap and leave gaps in any mixture."""
    stream = Reassembly()
    have: set[int] = set()
    out = b""
    for distance, length, read in steps:
        offset = max(0, stream.end + distance)
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


@pytest.mark.parametrize("order", ["forwards", "backwards", "at random"])
def test_fragments_behind_a_gap_are_joined(order: str) -> None:
    """Objects for a byte each would cost fifty times the bytes. Gaps are counted, and whoever calls limits them."""
    stream = Reassembly()
    offsets = list(range(2, 20000, 2))
    for first in (0, 1):
        if order == "backwards":
            offsets.reverse()
        elif order == "at random":
            random.Random(first).shuffle(offsets)
        for offset in offsets:
            stream.add(offset + first, bytes((offset + first & 255,)))
        assert stream.gaps == (1 if first else 9999)
    assert len(stream._pieces) <= 40
    assert stream.add(0, b"\x00\x01")
    assert stream.read() == bytes(at & 255 for at in range(20000))
    assert stream.gaps == len(stream._pieces) == 0


def test_fragments_that_close_a_gap_each_time_are_joined() -> None:
    """Every second one comes first, so that none ever follows what is there, and none stays behind a gap."""
    stream = Reassembly()
    for offset in range(0, 8000, 2):
        stream.add(offset + 1, b"b")
        stream.add(offset, b"a")
    assert stream.readable == 8000 and stream.gaps == 0
    assert len(stream._chunks) <= 8
    assert stream.read() == b"ab" * 4000


def filled(*pieces: tuple[int, int]) -> Reassembly:
    """These ranges of BLOB have arrived."""
    stream = Reassembly()
    for start, stop in pieces:
        stream.add(start, BLOB[start:stop])
    return stream


def test_small_chunks_are_joined_up_to_a_size() -> None:
    """An object for a few bytes costs more than the bytes, and appending to a long one costs its length."""
    stream = Reassembly()
    for offset in range(0, 5000, 10):
        stream.add(offset, bytes(10))
    assert all(1024 <= len(chunk) < 1034 for chunk in list(stream._chunks)[:-1])
    assert len(stream._chunks) == 5
    stream.add(5000, bytes(64))
    assert len(stream._chunks) == 6


@pytest.mark.parametrize("limit", [-1, 0, 1, 99, 100, 101])
def test_a_peek_takes_nothing(limit: int) -> None:
    stream = filled((0, 100))
    expected = BLOB[:100] if limit < 0 else BLOB[: min(limit, 100)]
    assert stream.peek(limit) == expected
    assert stream.readable == 100
    assert stream.read(limit) == expected
    assert stream.readable == 100 - len(expected)


def test_reading_across_chunks() -> None:
    stream = filled((0, 70), (70, 140), (140, 210))
    assert stream.read(30) == BLOB[:30]
    assert stream.peek(60) == BLOB[30:90]
    assert stream.peek(180) == BLOB[30:210]
    assert stream.read(40) == BLOB[30:70]  # to the end of a chunk
    assert stream.read(71) == BLOB[70:141]
    assert stream.peek() == BLOB[141:210]
    assert stream.read(69) == BLOB[141:210]
    assert stream.readable == 0 and stream.peek() == b""


@pytest.mark.parametrize("keep", [0, 1, 69, 70, 71, 99, 100])
def test_truncating_what_is_readable(keep: int) -> None:
    """RESET_STREAM_AT: what lies beyond is forgotten, and what was behind gaps with it."""
    stream = filled((0, 70), (70, 100), (150, 200))
    stream.truncate(keep)
    assert stream.end == stream.readable == keep
    if keep < 100:
        assert stream.gaps == 0
    assert stream.peek() == BLOB[:keep]
    stream.add(keep, BLOB[keep:300])
    assert stream.read() == BLOB[:300]


def test_truncating_after_a_part_was_read() -> None:
    stream = filled((0, 70), (70, 140))
    assert stream.read(20) == BLOB[:20]
    stream.truncate(90)
    assert (stream.end, stream.readable) == (90, 70)
    assert stream.read(10) == BLOB[20:30]
    stream.truncate(10)  # less than was read already: all that is left goes
    assert (stream.end, stream.readable) == (30, 0)
    assert stream.read() == b""


@pytest.mark.parametrize(("keep", "gaps"), [(100, 0), (149, 0), (150, 0), (151, 1), (170, 1), (200, 1), (260, 2)])
def test_truncating_behind_a_gap(keep: int, gaps: int) -> None:
    stream = filled((0, 100), (150, 200), (250, 300))
    stream.truncate(keep)
    assert (stream.end, stream.readable, stream.gaps) == (100, 100, gaps)
    assert sum(map(len, stream._pieces)) == max(0, min(50, keep - 150)) + max(0, min(50, keep - 250))
    stream.add(100, BLOB[100:150])
    assert stream.end == max(150, min(200, keep))
    stream.add(stream.end, BLOB[stream.end : 400])
    assert stream.read() == BLOB


def test_after_clearing_the_stream_goes_on_where_it_was() -> None:
    stream = filled((0, 70), (70, 140), (200, 250))
    stream.read(10)
    stream.clear()
    assert (stream.end, stream.readable, stream.gaps) == (140, 0, 0)
    assert stream.read() == stream.peek() == b""
    assert not stream.add(0, BLOB[:140])
    assert stream.add(140, BLOB[140:260])
    assert stream.peek(5) == BLOB[140:145]
    assert stream.read() == BLOB[140:260]


@pytest.mark.parametrize("size", [3, 100])
def test_chunks_that_follow_each_other(size: int) -> None:
    stream = filled((0, 20))
    chunks = [BLOB[at : at + size] for at in range(20, 20 + 3 * size, size)]
    assert stream.continues_at(20) and not stream.continues_at(19) and not stream.continues_at(21)
    stream.extend(chunks, 20 + 3 * size)
    assert stream.end == stream.readable == 20 + 3 * size
    assert stream.read(25) == BLOB[:25]
    assert stream.read() == BLOB[25 : 20 + 3 * size]
    stream.add(stream.end + 5, b"x")
    assert not stream.continues_at(stream.end)

from __future__ import annotations

import json
import pathlib
import tracemalloc
from collections.abc import Callable

import pylsqpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.errors import H3ConnectionError, H3ErrorCode, H3StreamError
from h3.qpack import FieldDecoder, FieldEncoder, Fields, count_field_lines, field_section_size

VECTORS = pathlib.Path(__file__).parent.parent / "vectors"
APPENDIX_B = json.loads((VECTORS / "rfc9204_appendix_b.json").read_text())
STATIC_TABLE = json.loads((VECTORS / "rfc9204_static_table.json").read_text())["entries"]

SET_CAPACITY_4096 = bytes.fromhex("3fe11f")
REFER_TO_FIRST = bytes.fromhex("020080")  # Required Insert Count 1, Base 1, relative index 0


def integer(value: int, prefix_bits: int, first: int = 0) -> bytes:
    """RFC 7541 §5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([first | value])
    value -= limit
    data = bytes([first | limit])
    while value >= 0x80:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def insert(value: bytes, *, static_name: int = 0) -> bytes:
    """Insert with the name of a static entry (RFC 9204 §4.3.2)."""
    return integer(static_name, 6, 0xC0) + integer(len(value), 7) + value


def decoder(**overrides: int) -> FieldDecoder:
    limits = {"capacity": 4096, "blocked_streams": 4, "max_section_size": 16384, "max_lines": 256} | overrides
    return FieldDecoder(**limits)


def refused(action: Callable[[], object]) -> int:
    with pytest.raises((H3ConnectionError, H3StreamError)) as error:
        action()
    return error.value.code


def test_appendix_b() -> None:
    """The decoder's side of the conversation in RFC 9204 appendix B, byte for byte."""
    fields = FieldDecoder(capacity=220, blocked_streams=4, max_section_size=16384)
    for example in APPENDIX_B["examples"]:
        for event in example["events"]:
            data = bytes.fromhex(event["hex"])
            if event["stream"] == "encoder":
                assert fields.receive(data) == []
            elif event["stream"] == "decoder":
                if example["id"] == "B.4":  # this section is abandoned, and the increment comes later
                    fields.cancel(8)
                    assert fields.take_output() == data + b"\x01"
                else:
                    assert fields.take_output() == data
            elif example["id"] != "B.4":
                stream_id = int(event["stream"].split(":")[1])
                wanted = [(name.encode(), value.encode()) for name, value in event["headers"]]
                assert fields.decode(stream_id, data) == wanted
    assert fields.take_output() == b"\x01"


@pytest.mark.parametrize(("index", "name", "value"), STATIC_TABLE)
def test_static_table(index: int, name: str, value: str) -> None:
    section = b"\0\0" + integer(index, 6, 0xC0)
    assert decoder().decode(0, section) == [(name.encode(), value.encode())]


def test_static_table_ends_at_98() -> None:
    assert (
        refused(lambda: decoder().decode(0, b"\0\0" + integer(99, 6, 0xC0))) == H3ErrorCode.QPACK_DECOMPRESSION_FAILED
    )


REPRESENTATIONS = {
    "indexed": integer(17, 6, 0xC0),
    "literal with name reference": integer(1, 4, 0x50) + integer(200, 7) + b"x" * 200,
    "literal with literal name": integer(9, 3, 0x20) + b"x" * 9 + integer(3, 7) + b"abc",
    "indexed, post-base": integer(3, 4, 0x10),
    "literal with post-base name reference": integer(9, 3, 0x00) + integer(0, 7),
}


@pytest.mark.parametrize("line", REPRESENTATIONS.values(), ids=REPRESENTATIONS.keys())
def test_field_lines_are_counted_by_their_lengths(line: bytes) -> None:
    for count in (1, 2, 5):
        assert count_field_lines(b"\0\0" + line * count, 256) == count
        for cut in range(1, len(line)):
            with pytest.raises(H3ConnectionError):
                count_field_lines(b"\0\0" + line * count + line[:cut], 256)
    assert count_field_lines(b"\0\0" + line * 300, 256) == 257


@given(st.binary(max_size=100))
def test_any_section_is_decoded_or_refused(section: bytes) -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096 + insert(b"a") + insert(b"b"))
    try:
        fields.decode(0, section)
    except H3ConnectionError as error:
        assert error.code == H3ErrorCode.QPACK_DECOMPRESSION_FAILED


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_any_encoder_stream_is_read_or_refused(pieces: list[bytes]) -> None:
    fields = decoder()
    try:
        for piece in pieces:
            fields.receive(piece)
    except H3ConnectionError as error:
        assert error.code in (H3ErrorCode.QPACK_ENCODER_STREAM_ERROR, H3ErrorCode.H3_EXCESSIVE_LOAD)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_any_decoder_stream_is_read_or_refused(pieces: list[bytes]) -> None:
    encoder = FieldEncoder()
    encoder.apply_settings(4096)
    encoder.encode(0, [(b"a", b"b")])
    try:
        for piece in pieces:
            encoder.receive(piece)
    except H3ConnectionError as error:
        assert error.code == H3ErrorCode.QPACK_DECODER_STREAM_ERROR


@pytest.mark.parametrize("size", [1, 2, 7])
def test_encoder_stream_may_arrive_in_any_pieces(size: int) -> None:
    fields = decoder()
    data = SET_CAPACITY_4096 + insert(b"x" * 300)
    for start in range(0, len(data), size):
        fields.receive(data[start : start + size])
    assert fields.decode(0, REFER_TO_FIRST) == [(b":authority", b"x" * 300)]
    assert fields.take_output() == b"\x80"  # Section Acknowledgment of stream 0


def test_a_section_waits_for_the_insert_it_refers_to() -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096)
    assert fields.decode(4, REFER_TO_FIRST) is None
    assert fields.blocked_bytes == len(REFER_TO_FIRST)
    assert fields.receive(insert(b"late")) == [4]
    assert fields.resume(4) == [(b":authority", b"late")]
    assert fields.blocked_bytes == 0
    assert fields.take_output() == b"\x84"


def test_no_more_streams_may_block_than_announced() -> None:
    fields = decoder(blocked_streams=2)
    fields.receive(SET_CAPACITY_4096)
    for stream_id in (0, 4):
        assert fields.decode(stream_id, REFER_TO_FIRST) is None
    assert refused(lambda: fields.decode(8, REFER_TO_FIRST)) == H3ErrorCode.QPACK_DECOMPRESSION_FAILED


def test_a_cancelled_stream_makes_room_for_another_blocked_one() -> None:
    fields = decoder(blocked_streams=1)
    fields.receive(SET_CAPACITY_4096)
    for stream_id in range(0, 400, 4):
        assert fields.decode(stream_id, REFER_TO_FIRST) is None
        fields.cancel(stream_id)
    assert fields.blocked_bytes == 0
    assert fields.take_output()[:3] == bytes([0x40, 0x44, 0x48])


def test_bytes_of_blocked_sections_are_bounded() -> None:
    fields = decoder(blocked_streams=100)
    fields.receive(SET_CAPACITY_4096)
    line = integer(1, 4, 0x50) + integer(15000, 7) + b"x" * 15000
    section = b"\x02\x00\x80" + line
    held = 0
    with pytest.raises(H3ConnectionError) as error:
        for stream_id in range(0, 400, 4):
            assert fields.decode(stream_id, section) is None
            held = fields.blocked_bytes
    assert error.value.code == H3ErrorCode.H3_EXCESSIVE_LOAD
    assert held <= 8 * 16384


FIELD_SECTION_ERRORS = {
    "empty": b"",
    "half a prefix": b"\0",
    "negative base": bytes.fromhex("0081d1"),
    "negative base, dynamic": bytes.fromhex("028180"),
    "reference at or above the required insert count": bytes.fromhex("020010"),
    "reference below the table": bytes.fromhex("020081"),
    "required insert count too small": bytes.fromhex("020180"),
    "required insert count larger than needed": bytes.fromhex("0200d1"),
    "required insert count of an empty section": bytes.fromhex("0200"),
    "required insert count above twice the table": bytes.fromhex("ff82000080"),
    "63 bits": b"\xff" * 10 + b"\x00\x80",
    "padded integer": b"\0\0\xff" + b"\x80" * 12 + b"\x00",
    "huffman padding is not EOS": bytes.fromhex("0000518118"),
    "huffman padding is a byte": bytes.fromhex("0000518363ffff"),
    "string is cut": bytes.fromhex("0000510b2f69"),
}


@pytest.mark.parametrize("section", FIELD_SECTION_ERRORS.values(), ids=FIELD_SECTION_ERRORS.keys())
def test_broken_field_sections(section: bytes) -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096 + insert(b"aaa") + insert(b"bbb"))
    assert refused(lambda: fields.decode(0, section)) == H3ErrorCode.QPACK_DECOMPRESSION_FAILED


ENCODER_STREAM_ERRORS = {
    "capacity above the limit": integer(4097, 5, 0x20),
    "static index 99": integer(99, 6, 0xC0) + b"\x01a",
    "duplicate of nothing": integer(0, 5),
    "dynamic name of nothing": integer(0, 6, 0x80) + b"\x01a",
    "insert without capacity": insert(b"a"),
    "entry larger than the capacity": SET_CAPACITY_4096 + insert(b"x" * 4096),
    "63 bits": b"\xff" * 12,
    "a string that cannot fit, before it comes": SET_CAPACITY_4096 + integer(0, 6, 0xC0) + integer(1 << 40, 7),
    "a name that cannot fit, before it comes": SET_CAPACITY_4096 + integer(1 << 40, 5, 0x40),
}


@pytest.mark.parametrize("data", ENCODER_STREAM_ERRORS.values(), ids=ENCODER_STREAM_ERRORS.keys())
def test_broken_encoder_streams(data: bytes) -> None:
    assert refused(lambda: decoder().receive(data)) == H3ErrorCode.QPACK_ENCODER_STREAM_ERROR


def test_inserting_into_a_table_that_was_not_offered() -> None:
    fields = FieldDecoder(capacity=0, blocked_streams=0, max_section_size=16384)
    assert refused(lambda: fields.receive(insert(b"a"))) == H3ErrorCode.QPACK_ENCODER_STREAM_ERROR
    fields.cancel(0)
    assert fields.take_output() == b""  # RFC 9204 §2.2.2.2: without a table there is nothing to cancel


def test_duplicate_entries_are_no_error() -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096 + insert(b"a") * 2 + integer(0, 5))
    assert fields.decode(0, bytes.fromhex("040080")) == [(b":authority", b"a")]


def test_an_entry_may_take_its_name_from_the_one_it_evicts() -> None:
    fields = decoder()
    literal = integer(4, 5, 0x40) + b"name" + integer(3000, 7) + b"a" * 3000
    fields.receive(SET_CAPACITY_4096 + literal + integer(0, 6, 0x80) + integer(3000, 7) + b"b" * 3000)
    assert fields.decode(0, bytes.fromhex("030080")) == [(b"name", b"b" * 3000)]


DECODER_STREAM_ERRORS = {
    "acknowledgment of nothing": b"\x80",
    "increment of zero": b"\x00",
    "increment beyond what was inserted": b"\x05",
}


@pytest.mark.parametrize("data", DECODER_STREAM_ERRORS.values(), ids=DECODER_STREAM_ERRORS.keys())
@pytest.mark.parametrize("capacity", [0, 4096])
def test_broken_decoder_streams(data: bytes, capacity: int) -> None:
    encoder = FieldEncoder()
    encoder.apply_settings(capacity)
    encoder.encode(0, [(b"x-a", b"b")])
    assert refused(lambda: encoder.receive(data)) == H3ErrorCode.QPACK_DECODER_STREAM_ERROR


def test_a_bomb_is_refused_without_growing() -> None:
    """One entry of almost 4 KiB, referred to 16,000 times by a section of 16 KiB, says 66 MB."""
    fields = decoder()
    fields.receive(SET_CAPACITY_4096 + insert(b"x" * 4000))
    section = b"\x02\x00" + b"\x80" * 16000
    tracemalloc.start()
    try:
        assert refused(lambda: fields.decode(0, section)) == H3ErrorCode.H3_EXCESSIVE_LOAD
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 16

    unguarded = pylsqpack.Decoder(4096, 4)
    unguarded.feed_encoder(SET_CAPACITY_4096 + insert(b"x" * 4000))
    _, decoded = unguarded.feed_header(0, section)
    assert field_section_size(decoded) > 60_000_000  # the bomb is real


def test_the_largest_section_that_passes_the_count_stays_small() -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096 + insert(b"x" * 4000))
    tracemalloc.start()
    try:
        assert refused(lambda: fields.decode(0, b"\x02\x00" + b"\x80" * 256)) == H3ErrorCode.H3_EXCESSIVE_LOAD
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
    assert fields.take_output() == b"\x80"  # it was decoded all the same: the encoder may evict


def test_an_encoded_section_that_is_too_long() -> None:
    assert refused(lambda: decoder().decode(0, bytes(16385))) == H3ErrorCode.H3_EXCESSIVE_LOAD


def test_an_instruction_cut_short_is_held_within_bounds() -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096 + integer(16000, 5, 0x40))
    for _ in range(15999):
        fields.receive(b"\xff")
    with pytest.raises(H3ConnectionError):
        fields.receive(b"\xff" + integer(16385, 7))


def test_an_endless_encoder_stream_is_refused_unless_requests_come_with_it() -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096)
    for stream_id in range(0, 400, 4):
        fields.receive(insert(b"a") * 100)
        assert fields.decode(stream_id, b"\0\0\xd1") == [(b":method", b"GET")]
    assert refused(lambda: fields.receive(insert(b"a") * 5000)) == H3ErrorCode.H3_EXCESSIVE_LOAD


def test_an_empty_section_has_no_fields() -> None:
    assert decoder().decode(0, b"\0\0") == []


fields_lists = st.lists(st.tuples(st.binary(min_size=1, max_size=20), st.binary(max_size=40)), max_size=12)


@given(st.lists(fields_lists, max_size=8), st.integers(0, 4096))
def test_our_encoder_never_blocks_our_decoder(sections: list[Fields], capacity: int) -> None:
    """Even when the encoder stream arrives after every request."""
    encoder, fields = FieldEncoder(), decoder(capacity=capacity, blocked_streams=0)
    late = encoder.apply_settings(capacity)
    for n, section in enumerate(sections):
        instructions, encoded = encoder.encode(4 * n, section)
        assert fields.decode(4 * n, encoded) == section
        fields.receive(late)
        late = instructions
        if output := fields.take_output():
            encoder.receive(output)


def test_the_dynamic_table_pays_off() -> None:
    encoder, fields = FieldEncoder(), decoder()
    fields.receive(encoder.apply_settings(65536))
    section = [(b"x-request-token", b"0123456789abcdef" * 4), (b":method", b"GET")]
    sizes = []
    for n in range(6):
        instructions, encoded = encoder.encode(4 * n, section)
        fields.receive(instructions)
        assert fields.decode(4 * n, encoded) == section
        if output := fields.take_output():
            encoder.receive(output)
        sizes.append(len(encoded))
    assert sizes[-1] < sizes[0] / 5


def test_without_a_table_nothing_is_inserted() -> None:
    encoder = FieldEncoder()
    for capacity in (None, 0):
        if capacity is not None:
            assert encoder.apply_settings(capacity) == b""
        for n in range(5):
            instructions, _ = encoder.encode(4 * n, [(b"x-a", b"b")])
            assert instructions == b""


def test_without_credit_nothing_is_inserted() -> None:
    encoder = FieldEncoder()
    encoder.apply_settings(4096)
    for n in range(5):
        assert encoder.encode(4 * n, [(b"x-a", b"b")], can_instruct=False)[0] == b""


def test_acknowledgments_that_say_nothing_new_leave_together() -> None:
    fields = decoder()
    fields.receive(SET_CAPACITY_4096 + insert(b"x"))
    assert fields.has_output  # the Insert Count Increment
    fields.take_output()
    for number in range(32):
        assert not fields.has_output
        fields.decode(4 * number, REFER_TO_FIRST)
    assert fields.has_output
    acknowledgments = fields.take_output()
    assert len(acknowledgments) == 32 and acknowledgments[:2] == b"\x80\x84"
    fields.decode(128, REFER_TO_FIRST)
    fields.cancel(132)
    assert fields.has_output  # what leaves at once takes along what waits
    assert fields.take_output() == integer(128, 7, 0x80) + integer(132, 6, 0x40)

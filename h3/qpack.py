"""QPACK (RFC 9204) by pylsqpack, behind a guard that bounds what a peer can make it hold.

pylsqpack decodes whatever it is given: a section of 16 KiB that refers 16,000 times to one entry of 4 KiB is a legal
66 MB. So each encoded section is walked first, reading lengths only (§4.5), and each instruction of the encoder stream
is handed on only when it is there completely and short enough (§4.3).
"""

from __future__ import annotations

from itertools import chain

import pylsqpack

from .budget import Budget
from .errors import H3ConnectionError, H3ErrorCode, H3StreamError

__all__ = ["FieldDecoder", "FieldEncoder", "Fields", "count_field_lines", "field_section_size"]

Fields = list[tuple[bytes, bytes]]

_FIELD_OVERHEAD = 32  # RFC 9114 §4.2.2

_OUTPUT_TOGETHER = 32
"""Bytes of Section Acknowledgments, one to three each, that leave together. They let the peer evict what the sections
refer to, which can wait, and each by itself would be one more frame with every message. One that tells of a new entry
leaves at once."""


class _Incomplete(Exception):
    """The bytes end inside an integer or a string."""


class _Overlong(Exception):
    """An integer above 62 bits, or padded (RFC 9204 §4.1.1)."""


def _read_integer(data: bytes, position: int, prefix_bits: int) -> tuple[int, int]:
    """RFC 7541 §5.1, limited to 62 bits."""
    if position >= len(data):
        raise _Incomplete
    limit = (1 << prefix_bits) - 1
    value = data[position] & limit
    position += 1
    if value < limit:
        return value, position
    for shift in range(0, 63, 7):
        if position >= len(data):
            raise _Incomplete
        byte = data[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 62:
                raise _Overlong
            return value, position
    raise _Overlong


def _encode_integer(value: int, prefix_bits: int) -> bytes:
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((value,))
    encoded = bytearray((limit,))
    value -= limit
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _skip_integer(data: bytes, position: int, prefix_bits: int) -> int:
    return _read_integer(data, position, prefix_bits)[1]


def _skip_string(data: bytes, position: int, prefix_bits: int) -> int:
    limit = (1 << prefix_bits) - 1
    if position < len(data) and (length := data[position] & limit) < limit:
        position += 1
    else:
        length, position = _read_integer(data, position, prefix_bits)
    if length > len(data) - position:
        raise _Incomplete
    return position + length


def _skip_field_line(data: bytes, position: int) -> int:
    """RFC 9204 §4.5.2 to §4.5.6: the five representations, told apart by their first bits."""
    first = data[position]
    if first & 0x80:  # indexed
        return _skip_integer(data, position, 6)
    if first & 0x40:  # literal with name reference
        return _skip_string(data, position + 1 if first & 0x0F < 0x0F else _skip_integer(data, position, 4), 7)
    if first & 0x20:  # literal with literal name
        return _skip_string(data, _skip_string(data, position, 3), 7)
    if first & 0x10:  # indexed, post-base
        return _skip_integer(data, position, 4)
    return _skip_string(data, _skip_integer(data, position, 3), 7)  # literal, post-base name reference


def count_field_lines(section: bytes, limit: int) -> int:
    """Field lines of an encoded section, or ``limit + 1`` as soon as there are more."""
    try:
        encoded_insert_count, position = _read_integer(section, 0, 8)
        if position < len(section) and encoded_insert_count == 0 and section[position] & 0x80:
            raise _decompression_failed("base is negative")  # RFC 9204 §4.5.1.2
        position = _skip_integer(section, position, 7)
        lines, end = 0, len(section)
        while position < end:
            first = section[position]
            # most lines refer to the table, in one byte
            position = position + 1 if 0x80 <= first != 0xBF and first != 0xFF else _skip_field_line(section, position)
            lines += 1
            if lines > limit:
                break
    except _Incomplete:
        raise _decompression_failed("field section ends inside a field line") from None
    except _Overlong:
        raise _decompression_failed("integer is above 62 bits") from None
    return lines


def field_section_size(fields: Fields) -> int:
    """The uncompressed size that SETTINGS_MAX_FIELD_SECTION_SIZE limits (RFC 9114 §4.2.2)."""
    return sum(map(len, chain.from_iterable(fields))) + _FIELD_OVERHEAD * len(fields)


def _decompression_failed(reason: str) -> H3ConnectionError:
    return H3ConnectionError(H3ErrorCode.QPACK_DECOMPRESSION_FAILED, reason)


def _too_large(reason: str) -> H3StreamError:
    return H3StreamError(H3ErrorCode.H3_EXCESSIVE_LOAD, reason)


class FieldDecoder:
    """Turns encoded field sections into fields, and instructions of the peer's encoder into table entries."""

    __slots__ = (
        "_budget",
        "_capacity",
        "_decoder",
        "_held",
        "_insert_count",
        "_is_output_due",
        "_known_received_count",
        "_max_held",
        "_max_lines",
        "_max_size",
        "_output",
        "_partial",
        "_required",
        "_table_capacity",
    )

    def __init__(self, *, capacity: int, blocked_streams: int, max_section_size: int, max_lines: int = 256) -> None:
        self._decoder = pylsqpack.Decoder(capacity, blocked_streams)
        self._capacity = capacity
        self._max_size = max_section_size
        self._max_lines = max_lines
        self._table_capacity = 0  # RFC 9204 §3.2.3: until the encoder sets it
        self._insert_count = 0
        self._known_received_count = 0  # §2.1.4, as the peer's encoder computes it
        self._required: dict[int, int] = {}  # Required Insert Count of blocked sections
        self._held: dict[int, int] = {}
        self._max_held = 8 * max_section_size
        self._output = bytearray()
        self._is_output_due = False
        self._partial = b""
        self._budget = Budget(4096, "QPACK encoder instructions")

    @property
    def blocked_bytes(self) -> int:
        """Bytes of sections that wait for the encoder stream."""
        return sum(self._held.values())

    def decode(self, stream_id: int, section: bytes) -> Fields | None:
        """The fields, or None when the section waits for the encoder stream (then :meth:`receive` names the stream)."""
        if len(section) > self._max_size:
            raise _too_large(f"encoded field section has {len(section)} bytes, {self._max_size} are allowed")
        lines = count_field_lines(section, self._max_lines)
        if lines > self._max_lines:
            raise _too_large(f"field section has more than {self._max_lines} lines")
        if lines == 0:
            if section[0]:  # RFC 9204 §2.2.1: the Required Insert Count is larger than an empty section needs
                raise _decompression_failed("empty field section waits for the table")
            return []
        required = self._required_insert_count(section)
        try:
            control, fields = self._decoder.feed_header(stream_id, section)
        except pylsqpack.StreamBlocked:
            self._held[stream_id] = len(section)
            self._required[stream_id] = required
            if self.blocked_bytes > self._max_held:
                raise H3ConnectionError(
                    H3ErrorCode.H3_EXCESSIVE_LOAD, "too many bytes of blocked field sections"
                ) from None
            return None
        except ValueError as error:  # pylsqpack's own errors are ValueErrors
            raise _decompression_failed(str(error)) from None
        return self._accept(control, fields, required)

    def resume(self, stream_id: int) -> Fields | None:
        """Go on with a section that :meth:`receive` has named."""
        try:
            control, fields = self._decoder.resume_header(stream_id)
        except pylsqpack.StreamBlocked:
            return None
        except ValueError as error:
            raise _decompression_failed(str(error)) from None
        self._held.pop(stream_id, None)
        return self._accept(control, fields, self._required.pop(stream_id, 0))

    def _required_insert_count(self, section: bytes) -> int:
        """RFC 9204 §4.5.1.1, without its checks: pylsqpack makes them."""
        encoded, _ = _read_integer(section, 0, 8)
        if encoded == 0 or self._capacity < _FIELD_OVERHEAD:
            return 0
        max_entries = self._capacity // _FIELD_OVERHEAD
        max_value = self._insert_count + max_entries
        required = max_value // (2 * max_entries) * (2 * max_entries) + encoded - 1
        return required - 2 * max_entries if required > max_value else required

    def _accept(self, control: bytes, fields: Fields, required: int) -> Fields:
        self._output += control  # the acknowledgment is due even if the section is refused: it was processed
        if control and required > self._known_received_count:
            self._known_received_count = required
            self._is_output_due = True
        self._budget.earn(512)
        if field_section_size(fields) > self._max_size:
            raise _too_large(f"field section is larger than {self._max_size} bytes")
        return fields

    def cancel(self, stream_id: int) -> None:
        """The stream will not be read any more (RFC 9204 §2.2.2.2)."""
        self._held.pop(stream_id, None)
        self._required.pop(stream_id, None)
        self._output += self._decoder.cancel_stream(stream_id)
        self._is_output_due = bool(self._output)

    def receive(self, data: bytes) -> list[int]:
        """Bytes of the peer's encoder stream; returns the streams whose sections are blocked no more."""
        data = self._partial + data if self._partial else data
        end = self._complete_instructions(data)
        self._partial = data[end:]
        if end == 0:
            return []
        try:
            return self._decoder.feed_encoder(data[:end])
        except ValueError as error:
            raise H3ConnectionError(H3ErrorCode.QPACK_ENCODER_STREAM_ERROR, str(error)) from None

    @property
    def has_output(self) -> bool:
        """:meth:`take_output` would return something that should leave now."""
        is_much = len(self._output) >= _OUTPUT_TOGETHER
        return self._is_output_due or is_much or self._insert_count > self._known_received_count

    def take_output(self) -> bytes:
        """Instructions for our decoder stream.

        pylsqpack writes acknowledgments and cancellations; the Insert Count Increment (RFC 9204 §4.4.3), without which
        an encoder that never risks blocking could never use its table, is added here.
        """
        increment = self._insert_count - self._known_received_count
        if increment > 0:
            self._known_received_count = self._insert_count
            self._output += _encode_integer(increment, 6)
        output = bytes(self._output)
        self._output.clear()
        self._is_output_due = False
        return output

    def _complete_instructions(self, data: bytes) -> int:
        """Where the last whole instruction ends (RFC 9204 §4.3)."""
        position = 0
        while position < len(data):
            try:
                end = self._skip_instruction(data, position)
            except _Incomplete:
                break
            except _Overlong:
                raise H3ConnectionError(H3ErrorCode.QPACK_ENCODER_STREAM_ERROR, "integer is above 62 bits") from None
            self._budget.spend()
            self._on_instruction(data, position)
            position = end
        return position

    def _skip_instruction(self, data: bytes, position: int) -> int:
        first = data[position]
        if first & 0x80:  # insert with name reference
            return self._skip_bounded_string(data, _read_integer(data, position, 6)[1], 7)
        if first & 0x40:  # insert with literal name
            return self._skip_bounded_string(data, self._skip_bounded_string(data, position, 5), 7)
        return _read_integer(data, position, 5)[1]  # set capacity, duplicate

    def _on_instruction(self, data: bytes, position: int) -> None:
        first = data[position]
        if first & 0xE0 == 0x20:
            self._table_capacity, _ = _read_integer(data, position, 5)
        elif self._table_capacity == 0:  # RFC 9204 §3.2.2: larger than the table
            raise H3ConnectionError(H3ErrorCode.QPACK_ENCODER_STREAM_ERROR, "insert into a table without capacity")
        else:
            self._insert_count += 1

    def _skip_bounded_string(self, data: bytes, position: int, prefix_bits: int) -> int:
        length, position = _read_integer(data, position, prefix_bits)
        # RFC 9204 §3.2.2: an entry above the capacity is an error. A Huffman code has at most 30 bits for 8.
        if length > 4 * self._capacity:
            raise H3ConnectionError(
                H3ErrorCode.QPACK_ENCODER_STREAM_ERROR,
                f"string of {length} bytes cannot fit a table of {self._capacity}",
            )
        if length > len(data) - position:
            raise _Incomplete
        return position + length


class FieldEncoder:
    """Turns fields into encoded sections.

    A section of ours never refers to an entry that the peer has not acknowledged (it uses none of the peer's allowance
    for blocked streams): no request of ours waits for a packet lost on another stream.
    """

    __slots__ = ("_budget", "_encoder", "_is_dynamic", "_static_encoder")

    def __init__(self) -> None:
        self._encoder = pylsqpack.Encoder()
        self._static_encoder = pylsqpack.Encoder()
        self._is_dynamic = False
        self._budget = Budget(1 << 16, "QPACK decoder instructions")

    def apply_settings(self, peer_capacity: int, capacity_limit: int = 4096) -> bytes:
        """The peer's SETTINGS are known: returns the first instruction for our encoder stream, if any (§3.2.3)."""
        capacity = min(peer_capacity, capacity_limit)
        if capacity == 0:
            return b""
        self._is_dynamic = True
        return self._encoder.apply_settings(capacity, 0)

    def encode(self, stream_id: int, fields: Fields, *, can_instruct: bool = True) -> tuple[bytes, bytes]:
        """Encoder stream bytes and the encoded section.

        With ``can_instruct=False`` nothing is inserted: for when the encoder stream lacks credit (RFC 9204 §2.1.3).
        """
        self._budget.earn(256)
        if self._is_dynamic and can_instruct:
            return self._encoder.encode(stream_id, fields)
        return self._static_encoder.encode(stream_id, fields)

    def receive(self, data: bytes) -> None:
        """Bytes of the peer's decoder stream (RFC 9204 §4.4)."""
        self._budget.spend(len(data))
        try:
            self._encoder.feed_decoder(data)
        except ValueError as error:
            raise H3ConnectionError(H3ErrorCode.QPACK_DECODER_STREAM_ERROR, str(error)) from None

"""Variable-length integers (RFC 9000 §16)."""

from __future__ import annotations

from collections.abc import Iterable

from quicstack.errors import Truncated

__all__ = ["MAX_VARINT", "VARINT_TAGS", "encode_varint", "encode_varints", "read_varint", "read_varints", "varint_size"]

MAX_VARINT = (1 << 62) - 1
_SMALL = [bytes((value,)) for value in range(0x40)]
VARINT_TAGS = {1: 0, 2: 1 << 14, 4: 2 << 30, 8: 3 << 62}
"""The two bits in front that say the size, as they stand in an integer of so many bytes."""


def read_varint(data: bytes, pos: int) -> tuple[int, int]:  # hot path
    """The integer at ``pos`` and the position after it. Raises :class:`Truncated` where the buffer ends first."""
    try:
        first = data[pos]
    except IndexError:
        raise Truncated("variable-length integer") from None
    if first < 0x40:
        return first, pos + 1
    end = pos + (1 << (first >> 6))
    if end > len(data):
        raise Truncated("variable-length integer")
    if first < 0x80:
        return (first & 0x3F) << 8 | data[pos + 1], end
    if first < 0xC0:
        return int.from_bytes(data[pos:end], "big") & 0x3FFF_FFFF, end
    return int.from_bytes(data[pos:end], "big") & MAX_VARINT, end


def read_varints(data: bytes, pos: int, count: int) -> tuple[list[int], int]:  # hot path
    """``count`` of them in a row, and the position after them: for frames of many numbers, at half the price."""
    values: list[int] = []
    try:
        for _ in range(count):
            first = data[pos]
            if first < 0x40:
                values.append(first)
                pos += 1
            elif first < 0x80:
                values.append((first & 0x3F) << 8 | data[pos + 1])
                pos += 2
            else:
                value, pos = read_varint(data, pos)
                values.append(value)
    except IndexError:
        raise Truncated("variable-length integer") from None
    return values, pos


def encode_varint(value: int) -> bytes:  # hot path
    """The shortest encoding of ``value``; ValueError outside 0..2^62-1."""
    if value < 0x40:
        if value < 0:
            raise ValueError(f"a variable-length integer is not negative: {value}")
        return bytes((value,))
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x4000_0000:
        return (value | 0x8000_0000).to_bytes(4, "big")
    if value <= MAX_VARINT:
        return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")
    raise ValueError(f"a variable-length integer is below 2^62: {value}")


def encode_varints(values: Iterable[int]) -> bytes:  # hot path
    """Several one after the other; a call for each small one would take twice the time."""
    return b"".join(
        [
            _SMALL[value] if 0 <= value < 0x40
            else (value | 0x4000).to_bytes(2, "big") if 0 <= value < 0x4000
            else encode_varint(value)
            for value in values
        ]
    )  # fmt: skip


def varint_size(value: int) -> int:
    """Bytes that :func:`encode_varint` takes for ``value``."""
    return 1 if value < 0x40 else 2 if value < 0x4000 else 4 if value < 0x4000_0000 else 8

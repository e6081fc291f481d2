"""The presentation language of TLS (RFC 8446 §3): numbers in network order, and vectors with a length in front.

Everything that does not decode is ``decode_error`` and says in which structure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from quicstack.errors import TransportError
from quicstack.tls.alerts import Alert, tls_error

__all__ = ["Reader", "number", "numbers", "vector"]


class Reader:
    """A cursor over one structure called ``what``. Reading past its end raises; so does :meth:`finish` before it."""

    __slots__ = ("data", "pos", "what")

    def __init__(self, data: bytes, what: str) -> None:
        self.data = data
        self.pos = 0
        self.what = what

    def error(self, problem: str) -> TransportError:
        return tls_error(Alert.DECODE_ERROR, f"{self.what} {problem}")

    def take(self, size: int) -> bytes:
        pos, end = self.pos, self.pos + size
        if end > len(self.data):
            raise self.error(f"is truncated: {size} bytes expected, {len(self.data) - pos} left")
        self.pos = end
        return self.data[pos:end]

    def number(self, size: int) -> int:
        pos, end = self.pos, self.pos + size
        if end > len(self.data):
            self.take(size)  # says what is missing
        self.pos = end
        return int.from_bytes(self.data[pos:end], "big")

    def vector(self, length_size: int, minimum: int = 0, maximum: int | None = None) -> bytes:
        """``opaque x<minimum..maximum>`` with a length of ``length_size`` bytes."""
        length = self.number(length_size)
        if length < minimum or (maximum is not None and length > maximum):
            limit = f"at least {minimum}" if length < minimum else f"at most {maximum}"
            raise self.error(f"has a vector of {length} bytes, {limit} expected")
        pos, end = self.pos, self.pos + length
        if end > len(self.data):
            self.take(length)
        self.pos = end
        return self.data[pos:end]

    def numbers(self, length_size: int, minimum: int = 2) -> tuple[int, ...]:
        """A vector of two-byte code points such as cipher suites; ``minimum`` counts bytes."""
        data = self.vector(length_size, minimum)
        if len(data) % 2:
            raise self.error(f"has a list of two-byte values that is {len(data)} bytes long")
        return struct.unpack(f">{len(data) // 2}H", data)

    def items(self, length_size: int, minimum: int = 0) -> Iterator[Reader]:
        """Walk a vector of structures: yields the same inner reader until it is used up."""
        inner = Reader(self.vector(length_size, minimum), self.what)
        while inner.pos < len(inner.data):
            yield inner

    def finish(self) -> None:
        if self.pos != len(self.data):
            raise self.error(f"has {len(self.data) - self.pos} bytes after its end")


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def vector(length_size: int, data: bytes) -> bytes:
    return len(data).to_bytes(length_size, "big") + data


def numbers(length_size: int, values: Sequence[int]) -> bytes:
    """A vector of two-byte code points."""
    return vector(length_size, struct.pack(f">{len(values)}H", *values))

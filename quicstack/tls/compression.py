"""Compression of Certificate messages (RFC 8879): zlib always, Brotli and Zstandard where a library is installed.

Decompression is safe against bombs: no algorithm here makes much more output than the length that was announced,
which is checked first, and a library that cannot be held to a limit is not used.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.messages import CompressedCertificate

__all__ = ["ALGORITHMS", "algorithm_name", "available_compression", "compress", "decompress"]

NAMES = {1: "zlib", 2: "brotli", 3: "zstd"}
MAX_ZSTD_WINDOW_LOG = 23
"""8 MiB, what RFC 8878 §3.1.1.1.2 asks every decoder for. Whole certificate messages need far less."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """``decompress`` takes the data and the length to expect. It gives that, or other bytes or an error if it is wrong:
    never much more bytes than the length."""

    value: int
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]
    errors: type[Exception] = ValueError


def _zlib() -> Algorithm:
    def decompress(data: bytes, length: int) -> bytes:
        decoder = zlib.decompressobj()
        output = decoder.decompress(data, length + 1)
        if len(output) <= length and (not decoder.eof or decoder.unused_data):
            raise ValueError("the stream does not end where its data ends")
        return output

    return Algorithm(1, lambda data: zlib.compress(data, 9), decompress, zlib.error)


def _brotli() -> Algorithm | None:
    """Google's binding. Before 1.2 its decoder takes no limit."""
    brotli = _import("brotli")
    try:
        brotli.Decompressor().process(b"", output_buffer_limit=1)
    except (AttributeError, TypeError):
        return None

    def decompress(data: bytes, length: int) -> bytes:
        decoder = brotli.Decompressor()
        output = bytes(decoder.process(data, output_buffer_limit=length + 1))
        while len(output) <= length and not decoder.is_finished():
            more = decoder.process(b"", output_buffer_limit=length + 1)
            if not more:
                raise ValueError("the stream ends early")
            output += more
        return output

    return Algorithm(2, brotli.compress, decompress, brotli.error)


def _zstd() -> Algorithm | None:
    """Python's own since 3.14, or its twin for older ones."""
    zstd = _import("compression.zstd") or _import("backports.zstd")
    if zstd is None:
        return None
    options = {zstd.DecompressionParameter.window_log_max: MAX_ZSTD_WINDOW_LOG}

    def decompress(data: bytes, length: int) -> bytes:
        decoder = zstd.ZstdDecompressor(options=options)
        output = bytes(decoder.decompress(data, max_length=length + 1))
        if len(output) <= length and (not decoder.eof or decoder.unused_data):
            raise ValueError("the frame does not end where its data ends")
        return output

    return Algorithm(3, lambda data: bytes(zstd.compress(data, 19)), decompress, zstd.ZstdError)


def _zstandard() -> Algorithm | None:
    """The binding called zstandard."""
    zstandard = _import("zstandard")
    if zstandard is None:
        return None

    def decompress(data: bytes, length: int) -> bytes:
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << MAX_ZSTD_WINDOW_LOG)
        with decoder.stream_reader(data) as reader:
            return bytes(reader.read(length + 1))

    def compress(data: bytes) -> bytes:
        return bytes(zstandard.ZstdCompressor(level=19).compress(data))

    return Algorithm(3, compress, decompress, zstandard.ZstdError)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


ALGORITHMS: dict[int, Algorithm] = {
    algorithm.value: algorithm for algorithm in (_brotli(), _zstd() or _zstandard(), _zlib()) if algorithm is not None
}
"""Those that this machine has, best first."""


def available_compression() -> tuple[int, ...]:
    """The algorithms of :data:`ALGORITHMS` by number, best first."""
    return tuple(ALGORITHMS)


def algorithm_name(value: int) -> str:
    return NAMES.get(value, f"compression algorithm {value:#06x}")


@lru_cache(maxsize=64)
def _compressed(algorithm: int, body: bytes) -> bytes:
    """A server says the same each time, and good compression takes milliseconds."""
    return ALGORITHMS[algorithm].compress(body)


@lru_cache(maxsize=16)
def _decompressed(algorithm: int, data: bytes, length: int) -> bytes:
    """A client that comes again is shown the same (15 us with Brotli). An error is not remembered."""
    return ALGORITHMS[algorithm].decompress(data, length)


def compress(message: bytes, ours: Sequence[int], peers: Sequence[int]) -> bytes:
    """A whole Certificate message as a CompressedCertificate one, by our best algorithm of those that the peer takes.

    The message itself, if there is none or if it gains nothing.
    """
    for algorithm in ours:
        if algorithm in peers:
            body = message[4:]
            shorter = CompressedCertificate(algorithm, len(body), _compressed(algorithm, body)).write()
            return min(message, shorter, key=len)
    return message


def decompress(body: bytes, offered: Sequence[int], limit: int) -> bytes:
    """The body of the Certificate message inside a CompressedCertificate one (RFC 8879 §4, §5)."""
    message = CompressedCertificate.read(body)
    length, name = message.uncompressed_length, algorithm_name(message.algorithm)
    if message.algorithm not in offered:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"CompressedCertificate is compressed with {name}, expected one of "
            f"{', '.join(map(algorithm_name, offered))}, which we offered",
        )
    if length > limit:
        raise tls_error(
            Alert.BAD_CERTIFICATE,
            f"CompressedCertificate has an uncompressed_length of {length}, at most {limit} bytes are taken",
        )
    algorithm = ALGORITHMS[message.algorithm]
    try:
        content = _decompressed(message.algorithm, message.data, length)
    except (algorithm.errors, ValueError, MemoryError) as error:
        raise tls_error(Alert.BAD_CERTIFICATE, f"CompressedCertificate is not valid {name}: {error}") from None
    if len(content) != length:
        what = "more" if len(content) > length else f"{len(content)}"
        raise tls_error(
            Alert.BAD_CERTIFICATE, f"CompressedCertificate holds {what} bytes, its uncompressed_length says {length}"
        )
    return content

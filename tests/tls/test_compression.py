"""Compressed certificates: what comes back is what went in, within limits that a bomb cannot pass."""

from __future__ import annotations

import random
import tracemalloc
import zlib
from typing import Any

import pytest

from quicstack.errors import TransportError
from quicstack.tls import compression
from quicstack.tls.compression import ALGORITHMS, algorithm_name, available_compression, compress, decompress
from quicstack.tls.handshake import Handshake
from quicstack.tls.messages import Certificate, CertificateEntry, CompressedCertificate, HandshakeType

ILLEGAL_PARAMETER, BAD_CERTIFICATE, DECODE_ERROR = 0x12F, 0x12A, 0x132
ZLIB, BROTLI = 1, 2
LIMIT = 65532
MESSAGE = Certificate((CertificateEntry(b"a certificate " * 100),)).write()
BODY = MESSAGE[4:]
EVERY = pytest.mark.parametrize("algorithm", available_compression(), ids=algorithm_name)


def packed(algorithm: int, body: bytes, length: int | None = None, change: Any = lambda data: data) -> bytes:
    """The body of a CompressedCertificate message."""
    data = change(ALGORITHMS[algorithm].compress(body))
    return CompressedCertificate(algorithm, len(body) if length is None else length, data).write()[4:]


def refuse(body: bytes, offered: tuple[int, ...] = available_compression()) -> TransportError:
    with pytest.raises(TransportError) as caught:
        decompress(body, offered, LIMIT)
    return caught.value


def test_zlib_is_always_there() -> None:
    assert available_compression()[-1] == ZLIB


@EVERY
@pytest.mark.parametrize("body", [b"x", BODY, bytes(LIMIT), bytes(range(256)) * 255], ids=len)
def test_there_and_back(algorithm: int, body: bytes) -> None:
    assert decompress(packed(algorithm, body), (algorithm,), LIMIT) == body


@EVERY
def test_compress(algorithm: int) -> None:
    message = compress(MESSAGE, (algorithm,), (0x1234, algorithm))
    assert message[0] == HandshakeType.COMPRESSED_CERTIFICATE
    assert len(message) < 100
    assert decompress(message[4:], (algorithm,), LIMIT) == BODY


def test_our_preference_decides() -> None:
    ours = available_compression()
    best = compress(MESSAGE, ours, tuple(reversed(ours)))
    assert CompressedCertificate.read(best[4:]).algorithm == ours[0]


@pytest.mark.parametrize(("ours", "peers"), [((), (1, 2, 3)), ((ZLIB,), ()), ((ZLIB,), (0x1234,))])
def test_nothing_in_common(ours: tuple[int, ...], peers: tuple[int, ...]) -> None:
    assert compress(MESSAGE, ours, peers) is MESSAGE


@EVERY
def test_what_gains_nothing_is_sent_as_it_is(algorithm: int) -> None:
    message = Certificate((CertificateEntry(random.Random(1).randbytes(300)),)).write()
    assert compress(message, (algorithm,), (algorithm,)) is message


@EVERY
@pytest.mark.parametrize("length", [0, 1, len(BODY) - 1, len(BODY) + 1, LIMIT])
def test_wrong_length(algorithm: int, length: int) -> None:
    """RFC 8879 §4."""
    error = refuse(packed(algorithm, BODY, length))
    assert error.code == BAD_CERTIFICATE


@EVERY
def test_bombs(algorithm: int) -> None:
    """RFC 8879 §5: 16 MiB of zeros that claim to be less, and never take more memory than was claimed, by much."""
    bomb = packed(algorithm, bytes(16 << 20), LIMIT)
    tracemalloc.start()
    error = refuse(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (error.code, "holds more bytes" in error.reason) == (BAD_CERTIFICATE, True)
    assert peak < 1 << 20


@EVERY
def test_too_long_is_refused_before_the_work(algorithm: int) -> None:
    error = refuse(CompressedCertificate(algorithm, LIMIT + 1, b"not even compressed").write()[4:])
    assert (error.code, "at most 65532 bytes" in error.reason) == (BAD_CERTIFICATE, True)


@EVERY
@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-5], lambda data: data[: len(data) // 2], lambda data: data[:1], lambda _: b"\xff" * 30],
    ids=["cut", "half", "first byte", "garbage"],
)
def test_not_compressed_data(algorithm: int, change: Any) -> None:
    assert refuse(packed(algorithm, BODY, change=change)).code == BAD_CERTIFICATE


def test_data_after_the_end() -> None:
    error = refuse(packed(ZLIB, BODY, change=lambda data: data + b"x"))
    assert (error.code, "does not end" in error.reason) == (BAD_CERTIFICATE, True)


@pytest.mark.parametrize("algorithm", [BROTLI, 0, 0x1234])
def test_an_algorithm_that_was_not_offered(algorithm: int) -> None:
    """RFC 8879 §4."""
    error = refuse(CompressedCertificate(algorithm, 9, zlib.compress(b"something")).write()[4:], (ZLIB,))
    assert (error.code, "expected one of zlib" in error.reason) == (ILLEGAL_PARAMETER, True)


@pytest.mark.parametrize("body", [b"", b"\0\1\0\0\1\0\0\0", packed(ZLIB, BODY) + b"x", packed(ZLIB, BODY)[:-1]])
def test_malformed(body: bytes) -> None:
    assert refuse(body).code == DECODE_ERROR


def test_a_brotli_without_limits_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 1.2 the binding gives all the output at once."""

    class Old:
        class Decompressor:
            def process(self, data: bytes) -> bytes:
                return data

    for module in (Old, None):
        monkeypatch.setattr(compression, "_import", lambda _, module=module: module)
        assert compression._brotli() is None


def test_without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_import", lambda _: None)
    assert compression._zstd() is None
    assert compression._zstandard() is None


# In the handshake


@EVERY
def test_in_the_handshake(wire: Any, algorithm: int) -> None:
    """The transcript has the message as it was sent, so Finished proves that both took the same one."""
    client = wire.client(certificate_compression=(algorithm,))
    client, server = wire.run(client, wire.server())
    assert client.is_complete
    assert server.is_complete
    assert [message[0] for message in wire.messages][3] == HandshakeType.COMPRESSED_CERTIFICATE
    assert client.peer_certificates == wire.certificates.select("localhost", (0x0403,))[0].certificates


@pytest.mark.parametrize(("client", "server"), [((), (ZLIB,)), ((ZLIB,), ())])
def test_not_used_unless_both_want_it(wire: Any, client: tuple[int, ...], server: tuple[int, ...]) -> None:
    wire.run(wire.client(certificate_compression=client), wire.server(certificate_compression=server))
    assert [message[0] for message in wire.messages][3] == HandshakeType.CERTIFICATE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: packed(ZLIB, body, LIMIT), BAD_CERTIFICATE),
        (lambda body: packed(ZLIB, body + b"x"), DECODE_ERROR),
        (lambda body: packed(ZLIB, Certificate(()).write()[4:]), DECODE_ERROR),
        (lambda body: packed(ZLIB, Certificate.read(body).write()[4:] + bytes(99), len(body)), BAD_CERTIFICATE),
    ],
    ids=["wrong length", "trailing byte", "empty chain", "too much"],
)
def test_bad_ones_in_the_handshake(wire: Any, change: Any, code: int) -> None:
    """What is inside is read as strictly as if it had come uncompressed."""

    def alter(sender: Handshake, data: bytes) -> bytes:
        if sender.is_client or data[0] != HandshakeType.CERTIFICATE:
            return data
        body = change(data[4:])
        return bytes([HandshakeType.COMPRESSED_CERTIFICATE]) + len(body).to_bytes(3, "big") + body

    client = wire.client(certificate_compression=(ZLIB,))
    with pytest.raises(TransportError) as caught:
        wire.run(client, wire.server(certificate_compression=()), alter=alter)
    assert caught.value.code == code
    assert not client.is_complete

"""Secrets: RFC 8446 §7.1, the cipher suites of its §B.4, and the transcript hash of its §4.4.1.

::

                  0
                  |
        PSK -> HKDF-Extract = Early Secret
                  |   (derived)
      (EC)DHE -> HKDF-Extract = Handshake Secret ----> c hs traffic, s hs traffic
                  |   (derived)
          0 -> HKDF-Extract = Master Secret ---------> c ap traffic, s ap traffic, exp master, res master

Packet protection keys are not made here: QUIC has its own labels (RFC 9001 §5.1), applied to the same traffic secrets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = [
    "CIPHER_SUITES",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "CipherSuite",
    "KeySchedule",
    "Transcript",
    "export",
    "hash_of",
    "hkdf_expand",
    "hkdf_expand_label",
    "hkdf_extract",
    "hmac_of",
]

TLS_AES_128_GCM_SHA256 = 0x1301
TLS_AES_256_GCM_SHA384 = 0x1302
TLS_CHACHA20_POLY1305_SHA256 = 0x1303

_SHA256, _SHA384 = hashes.SHA256(), hashes.SHA384()
_FUNCTIONS = {"sha256": (hashlib.sha256, 64), "sha384": (hashlib.sha384, 128)}
"""By name: the hash function, and the bytes of a block of it. Only these are hashes of a cipher suite."""
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """An AEAD and a hash (RFC 8446 §B.4). ``key_length`` is the AEAD's, ``hash_length`` that of every secret."""

    value: int
    name: str
    key_length: int
    hash_length: int

    def hash(self) -> hashes.HashAlgorithm:
        return _SHA384 if self.hash_length == 48 else _SHA256


CIPHER_SUITES: dict[int, CipherSuite] = {
    suite.value: suite
    for suite in (
        CipherSuite(TLS_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256", 16, 32),
        CipherSuite(TLS_AES_256_GCM_SHA384, "TLS_AES_256_GCM_SHA384", 32, 48),
        CipherSuite(TLS_CHACHA20_POLY1305_SHA256, "TLS_CHACHA20_POLY1305_SHA256", 32, 32),
    )
}
"""The suites that QUIC can use. TLS_AES_128_CCM_8_SHA256 may not be (RFC 9001 §5.3)."""


def hmac_of(hash: hashes.HashAlgorithm, key: bytes, data: bytes) -> bytes:
    """HMAC (RFC 2104 §2).

    Some forty of them make a handshake. Two hashes take 1.7 us, the standard library's ``hmac.digest`` 2.6 us, and
    HKDFExpand of the library 4.2 us.
    """
    function, block = _FUNCTIONS[hash.name]
    if len(key) > block:
        key = function(key).digest()
    padded = key.ljust(block, b"\0")
    return function(padded.translate(_OUTER) + function(padded.translate(_INNER) + data).digest()).digest()


def hkdf_extract(hash: hashes.HashAlgorithm, salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract (RFC 5869 §2.2). An empty salt counts as zeros, which HMAC's own padding already gives."""
    return hmac_of(hash, salt, ikm)


def hkdf_expand(hash: hashes.HashAlgorithm, secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869 §2.3): as many blocks as it takes, each made of the one before. Mostly one is enough."""
    output = block = hmac_of(hash, secret, info + b"\x01")
    counter = 1
    while len(output) < length:
        counter += 1
        block = hmac_of(hash, secret, block + info + counter.to_bytes(1, "big"))
        output += block
    return output[:length]


@lru_cache(maxsize=256)
def _label(label: bytes, length: int) -> bytes:
    """The constant part of HkdfLabel, all but the context. The same few labels come again in every handshake."""
    full_label = b"tls13 " + label
    return length.to_bytes(2, "big") + len(full_label).to_bytes(1, "big") + full_label


def hkdf_expand_label(hash: hashes.HashAlgorithm, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1). ``label`` is given without its prefix ``tls13``."""
    return hkdf_expand(hash, secret, _label(label, length) + len(context).to_bytes(1, "big") + context, length)


def hash_of(hash: hashes.HashAlgorithm, data: bytes) -> bytes:
    return _FUNCTIONS[hash.name][0](data).digest()


def export(hash: hashes.HashAlgorithm, exporter_secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """TLS-Exporter (RFC 8446 §7.5), from the secret called ``exp master``. No context counts as an empty one."""
    secret = hkdf_expand_label(hash, exporter_secret, label, hash_of(hash, b""), hash.digest_size)
    return hkdf_expand_label(hash, secret, b"exporter", hash_of(hash, context), length)


class Transcript:
    """The running hash over all handshake messages (RFC 8446 §4.4.1).

    The hash is known only once a cipher suite is chosen, so the first messages are kept until :meth:`choose_hash`.
    """

    __slots__ = ("_digest", "_hash", "_pending")

    def __init__(self) -> None:
        self._pending = b""
        self._hash: hashes.HashAlgorithm | None = None
        self._digest: _Hash | None = None

    def copy(self) -> Transcript:
        """The same messages so far, to go on in another way."""
        other = Transcript()
        other._pending, other._hash = self._pending, self._hash
        other._digest = None if self._digest is None else self._digest.copy()
        return other

    def choose_hash(self, hash: hashes.HashAlgorithm) -> None:
        if self._digest is None:
            self._hash = hash
            self._digest = _FUNCTIONS[hash.name][0](self._pending)
            self._pending = b""

    def add(self, message: bytes) -> None:
        if self._digest is None:
            self._pending += message
        else:
            self._digest.update(message)

    def digest(self) -> bytes:
        """Transcript-Hash over what was added so far."""
        if self._digest is None:
            raise RuntimeError("the transcript has no hash before the cipher suite is chosen")
        return self._digest.digest()

    def replace_by_message_hash(self) -> None:
        """After a HelloRetryRequest, its ClientHello counts as one synthetic ``message_hash`` message (type 254)."""
        if self._hash is None:
            raise RuntimeError("the transcript has no hash before the cipher suite is chosen")
        digest = self.digest()
        message = b"\xfe\x00\x00" + len(digest).to_bytes(1, "big") + digest
        self._digest = _FUNCTIONS[self._hash.name][0](message)


class KeySchedule:
    """The chain of RFC 8446 §7.1 for one handshake: each ``enter_*`` moves one HKDF-Extract further down."""

    __slots__ = ("_secret", "hash", "suite")

    def __init__(self, suite: CipherSuite, psk: bytes | None = None) -> None:
        self.suite = suite
        self.hash = suite.hash()
        self._secret = early_secret(suite) if psk is None else hkdf_extract(self.hash, bytes(suite.hash_length), psk)

    def enter_handshake(self, shared_secret: bytes) -> None:
        """Early Secret to Handshake Secret, with the result of the key exchange."""
        self._secret = hkdf_extract(self.hash, self._derived(), shared_secret)

    def enter_application(self) -> None:
        """Handshake Secret to Master Secret, with nothing new."""
        self._secret = hkdf_extract(self.hash, self._derived(), bytes(self.suite.hash_length))

    def derive(self, label: bytes, transcript_hash: bytes) -> bytes:
        """Derive-Secret from where the schedule stands now, such as ``c hs traffic``."""
        return hkdf_expand_label(self.hash, self._secret, label, transcript_hash, self.suite.hash_length)

    def finished(self, traffic_secret: bytes, transcript_hash: bytes) -> bytes:
        """The ``verify_data`` of a Finished message (RFC 8446 §4.4.4)."""
        key = hkdf_expand_label(self.hash, traffic_secret, b"finished", b"", self.suite.hash_length)
        return hmac_of(self.hash, key, transcript_hash)

    def _derived(self) -> bytes:
        return self.derive(b"derived", hash_of_nothing(self.suite))


@cache
def early_secret(suite: CipherSuite) -> bytes:
    """Without a PSK it is no secret, and always the same."""
    zeros = bytes(suite.hash_length)
    return hkdf_extract(suite.hash(), zeros, zeros)


@cache
def hash_of_nothing(suite: CipherSuite) -> bytes:
    return hash_of(suite.hash(), b"")

"""HPKE, the sender's half of its base mode: RFC 9180 §4, §5.1.1, §5.2. Encrypted ClientHello needs no more.

The key exchange is the one of the handshake (:mod:`quicstack.tls.groups`), whose shares are encoded as §7.1.1 asks.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from quicstack.tls.groups import SECP256R1, X25519, generate
from quicstack.tls.key_schedule import hkdf_expand, hkdf_extract

__all__ = ["AEADS", "HKDF_SHA256", "KEMS", "TAG_LENGTH", "Sender"]

KEMS = {0x0020: X25519, 0x0010: SECP256R1}
"""DHKEM(X25519, HKDF-SHA256) and DHKEM(P-256, HKDF-SHA256): their groups (§7.1)."""
HKDF_SHA256 = 0x0001
AEADS: dict[int, tuple[type[AESGCM] | type[ChaCha20Poly1305], int]] = {
    0x0001: (AESGCM, 16),
    0x0002: (AESGCM, 32),
    0x0003: (ChaCha20Poly1305, 32),
}
"""Class and key length (§7.3)."""
TAG_LENGTH = 16
NONCE_LENGTH = 12
HASH_LENGTH = 32


class Sender:
    """SetupBaseS (§5.1.1) with KDF HKDF-SHA256, and ContextS.Seal (§5.2).

    ``enc`` is the encapsulated key. Raises :class:`~quicstack.errors.TransportError` when ``public_key`` is none.
    """

    __slots__ = ("_aead", "_base_nonce", "_sequence", "enc")

    def __init__(self, kem: int, aead: int, public_key: bytes, info: bytes, random: Callable[[int], bytes]) -> None:
        exchange = generate(KEMS[kem], random)
        self.enc = exchange.share
        kem_suite = b"KEM" + kem.to_bytes(2, "big")
        shared = exchange.finish(public_key)
        eae_prk = _extract(kem_suite, b"", b"eae_prk", shared)
        secret = _expand(kem_suite, eae_prk, b"shared_secret", self.enc + public_key, HASH_LENGTH)
        suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (kem, HKDF_SHA256, aead))
        context = b"\x00" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
        prk = _extract(suite, secret, b"secret", b"")
        cipher, key_length = AEADS[aead]
        self._aead = cipher(_expand(suite, prk, b"key", context, key_length))
        self._base_nonce = int.from_bytes(_expand(suite, prk, b"base_nonce", context, NONCE_LENGTH), "big")
        self._sequence = 0

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        nonce = (self._base_nonce ^ self._sequence).to_bytes(NONCE_LENGTH, "big")
        self._sequence += 1
        return self._aead.encrypt(nonce, plaintext, aad)


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract (§4)."""
    return hkdf_extract(hashes.SHA256(), salt, b"HPKE-v1" + suite + label + ikm)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand (§4)."""
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hkdf_expand(hashes.SHA256(), prk, labeled, length)

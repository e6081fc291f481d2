"""Key exchange groups (RFC 8446 §4.2.7, §4.2.8, §7.4; draft-ietf-tls-ecdhe-mlkem §3).

A client holds one :class:`KeyExchange` per share it sends; a server answers a share in one step with
:func:`respond`. Private keys are made from the injected randomness. Only ML-KEM encapsulation, on the server, draws
its own: the library gives no other way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quicstack.tls.alerts import Alert, tls_error

try:  # Older versions of the library have no ML-KEM, nor do newer ones over an old OpenSSL.
    from cryptography.hazmat.primitives.asymmetric import mlkem

    mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes(64))
    HAS_MLKEM = True
except (ImportError, UnsupportedAlgorithm):
    HAS_MLKEM = False

__all__ = [
    "SECP256R1",
    "SECP384R1",
    "X25519",
    "X25519MLKEM768",
    "KeyExchange",
    "available_groups",
    "generate",
    "group_name",
    "respond",
]

SECP256R1 = 0x0017
SECP384R1 = 0x0018
X25519 = 0x001D
X25519MLKEM768 = 0x11EC

GROUP_NAMES = {
    X25519MLKEM768: "X25519MLKEM768",
    X25519: "x25519",
    SECP256R1: "secp256r1",
    SECP384R1: "secp384r1",
}

MLKEM768_KEY = 1184
MLKEM768_CIPHERTEXT = 1088


_AVAILABLE = tuple(group for group in GROUP_NAMES if group != X25519MLKEM768 or HAS_MLKEM)


def available_groups() -> tuple[int, ...]:
    """The groups this machine can do, in our order of preference."""
    return _AVAILABLE


def group_name(group: int) -> str:
    return GROUP_NAMES.get(group, f"{group:#06x}")


class KeyExchange(Protocol):
    """A private key waiting for the peer's share. ``share`` is the ``key_exchange`` we send."""

    share: bytes

    def finish(self, peer_share: bytes) -> bytes:
        """The shared secret. Raises illegal_parameter on a share that is not one of this group."""


@dataclass(slots=True)
class X25519Exchange:
    """RFC 8446 §4.2.8.2, RFC 7748."""

    key: x25519.X25519PrivateKey
    share: bytes

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> X25519Exchange:
        key = x25519.X25519PrivateKey.from_private_bytes(random(32))
        return cls(key, key.public_key().public_bytes_raw())

    def finish(self, peer_share: bytes) -> bytes:
        _check_length(X25519, peer_share, 32)
        try:
            return self.key.exchange(x25519.X25519PublicKey.from_public_bytes(peer_share))
        except ValueError:  # RFC 8446 §7.4.2: the all-zero secret must be refused; the library does.
            raise tls_error(
                Alert.ILLEGAL_PARAMETER, "x25519 key share is of low order: the shared secret would be zero"
            ) from None


@dataclass(slots=True)
class EllipticCurveExchange:
    """secp256r1 and secp384r1 with uncompressed points (RFC 8446 §4.2.8.2)."""

    group: int
    key: ec.EllipticCurvePrivateKey
    share: bytes

    @classmethod
    def generate(cls, group: int, random: Callable[[int], bytes]) -> EllipticCurveExchange:
        curve = CURVES[group]
        # FIPS 186-5 A.2.1: 64 bits more than the order has, so that reducing them leaves no bias worth the name.
        order = curve.group_order
        number = int.from_bytes(random((curve.key_size + 7) // 8 + 8), "big") % (order - 1) + 1
        key = ec.derive_private_key(number, curve)
        share = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return cls(group, key, share)

    def finish(self, peer_share: bytes) -> bytes:
        size = 1 + 2 * ((self.key.curve.key_size + 7) // 8)
        _check_length(self.group, peer_share, size)
        try:
            if peer_share[0] != 4:
                raise ValueError("not an uncompressed point")
            peer_key = ec.EllipticCurvePublicKey.from_encoded_point(self.key.curve, peer_share)
            return self.key.exchange(ec.ECDH(), peer_key)
        except ValueError:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                f"{group_name(self.group)} key share is not an uncompressed point of the curve",
            ) from None


@dataclass(slots=True)
class HybridExchange:
    """X25519MLKEM768, the client's half: encapsulation key || X25519 share, and ciphertext || X25519 share back."""

    mlkem_key: mlkem.MLKEM768PrivateKey
    x25519: X25519Exchange
    share: bytes

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> HybridExchange:
        mlkem_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(random(64))
        classic = X25519Exchange.generate(random)
        return cls(mlkem_key, classic, mlkem_key.public_key().public_bytes_raw() + classic.share)

    def finish(self, peer_share: bytes) -> bytes:
        _check_length(X25519MLKEM768, peer_share, MLKEM768_CIPHERTEXT + 32)
        secret = self.mlkem_key.decapsulate(peer_share[:MLKEM768_CIPHERTEXT])
        return secret + self.x25519.finish(peer_share[MLKEM768_CIPHERTEXT:])


CURVES: dict[int, ec.EllipticCurve] = {SECP256R1: ec.SECP256R1(), SECP384R1: ec.SECP384R1()}


def generate(group: int, random: Callable[[int], bytes]) -> KeyExchange:
    """A fresh key of ``group``, which must be one of :func:`available_groups`."""
    if group == X25519MLKEM768:
        return HybridExchange.generate(random)
    if group == X25519:
        return X25519Exchange.generate(random)
    return EllipticCurveExchange.generate(group, random)


def respond(group: int, peer_share: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """The server's side: (the share to send, the shared secret)."""
    if group != X25519MLKEM768:
        exchange = generate(group, random)
        return exchange.share, exchange.finish(peer_share)
    _check_length(group, peer_share, MLKEM768_KEY + 32)
    try:  # The library runs the check of FIPS 203 §7.2 on the key.
        peer_key = mlkem.MLKEM768PublicKey.from_public_bytes(peer_share[:MLKEM768_KEY])
        secret, ciphertext = peer_key.encapsulate()
    except ValueError:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER, "X25519MLKEM768 key share holds no valid ML-KEM-768 encapsulation key"
        ) from None
    classic = X25519Exchange.generate(random)
    return ciphertext + classic.share, secret + classic.finish(peer_share[MLKEM768_KEY:])


def _check_length(group: int, share: bytes, expected: int) -> None:
    if len(share) != expected:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"{group_name(group)} key share is {len(share)} bytes long, expected {expected}",
        )

"""Tokens that prove a client's address (RFC 9000 §8.1): in a Retry for this connection, in NEW_TOKEN for a later one.

A token is sealed with an AEAD, so only its server reads or makes it, and the two kinds begin differently (§8.1.1). Keys
are derived from one secret and the day: a key serves for a day, and opens its tokens for as long as they are valid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quicstack.tls.key_schedule import CIPHER_SUITES, TLS_AES_128_GCM_SHA256, hkdf_expand_label
from quicstack.train import Address

__all__ = ["AddressTokens", "RetryToken"]

RETRY = b"\x9b\x52"
NEW_TOKEN = b"\x9b\x4e"
KEY_PERIOD = 86_400
RETRY_LIFE = 10.0
"""RFC 9000 §8.1.4: a Retry token comes back at once."""
NEW_TOKEN_LIFE = 7 * 86_400.0
CLOCK_SKEW = 5.0
"""How far the clocks of servers with one key may differ."""
MAX_REMEMBERED = 16_384
"""Used NEW_TOKEN tokens that are remembered, so that they are not accepted again (§8.1.4)."""
NONCE = 12


class RetryToken(NamedTuple):
    """What a valid Retry token says."""

    original_dcid: bytes


class AddressTokens:
    """Makes and checks tokens. ``secret`` may be shared by servers that take each other's clients."""

    __slots__ = ("_keys", "_random", "_secret", "_used", "_wall_time")

    def __init__(self, secret: bytes, random: Callable[[int], bytes], wall_time: Callable[[], float]) -> None:
        self._secret = secret
        self._random = random
        self._wall_time = wall_time
        self._keys: dict[int, AESGCM] = {}  # by day, a few
        self._used: OrderedDict[bytes, None] = OrderedDict()

    @staticmethod
    def is_retry(token: bytes) -> bool:
        """Whether it claims to come from a Retry of ours: then it is valid, or the client is refused (§8.1.2)."""
        return token[:2] == RETRY

    def seal_retry(self, remote: Address, version: int, retry_scid: bytes, original_dcid: bytes) -> bytes:
        """§8.1.4: bound to address and port, and to the connection IDs of this attempt."""
        return self._seal(RETRY, _bound(version, remote[:2], retry_scid), original_dcid)

    def open_retry(self, token: bytes, remote: Address, version: int, retry_scid: bytes) -> RetryToken | None:
        original_dcid = self._open(token, RETRY, _bound(version, remote[:2], retry_scid), RETRY_LIFE)
        return None if original_dcid is None else RetryToken(original_dcid)

    def seal_new_token(self, remote: Address, version: int) -> bytes:
        """§8.1.3: bound to the address, whose port may be another next time. RFC 9369 §5: and to the version."""
        return self._seal(NEW_TOKEN, _bound(version, remote[:1]), b"")

    def accept_new_token(self, token: bytes, remote: Address, version: int) -> bool:
        """True once for each token."""
        if token in self._used or self._open(token, NEW_TOKEN, _bound(version, remote[:1]), NEW_TOKEN_LIFE) is None:
            return False
        self._used[token] = None
        if len(self._used) > MAX_REMEMBERED:
            self._used.popitem(last=False)
        return True

    def _key(self, day: int) -> AESGCM:
        key = self._keys.get(day)
        if key is None:
            digest = CIPHER_SUITES[TLS_AES_128_GCM_SHA256].hash()
            key = AESGCM(hkdf_expand_label(digest, self._secret, b"address token", day.to_bytes(4, "big"), 16))
            self._keys[day] = key
            if len(self._keys) > NEW_TOKEN_LIFE // KEY_PERIOD + 2:
                del self._keys[next(iter(self._keys))]
        return key

    def _seal(self, kind: bytes, bound: bytes, content: bytes) -> bytes:
        now = self._wall_time()
        head = kind + int(now * 1000).to_bytes(8, "big")
        nonce = self._random(NONCE)
        return head + nonce + self._key(int(now // KEY_PERIOD)).encrypt(nonce, content, head + bound)

    def _open(self, token: bytes, kind: bytes, bound: bytes, life: float) -> bytes | None:
        head, nonce, sealed = token[:10], token[10 : 10 + NONCE], token[10 + NONCE :]
        if head[:2] != kind or len(sealed) < 16:
            return None
        made = int.from_bytes(head[2:], "big") / 1000
        if not made - CLOCK_SKEW <= self._wall_time() <= made + life:
            return None
        try:
            return self._key(int(made // KEY_PERIOD)).decrypt(nonce, sealed, head + bound)
        except InvalidTag:
            return None


def _bound(version: int, address: Address, cid: bytes = b"") -> bytes:
    return version.to_bytes(4, "big") + bytes((len(cid),)) + cid + repr(address).encode()

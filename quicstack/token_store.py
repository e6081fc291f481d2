"""Where a client keeps what servers gave it for next time: address validation tokens (RFC 9000 §8.1.3)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

__all__ = ["MemoryTokenStore", "TokenStore"]

MAX_SERVERS = 256
MAX_PER_SERVER = 4
"""A server may send as many as it likes; the newest are kept."""
MAX_TOKEN = 1024
"""Longer tokens would leave too little of the first datagram to the ClientHello."""


class TokenStore(Protocol):
    """What is taken is gone: a token used twice links two connections (RFC 9000 §8.1.3)."""

    def put(self, key: str, token: bytes) -> None:
        """Keep a token. ``key`` names server and QUIC version."""

    def take(self, key: str) -> bytes | None:
        """The newest token under this key, which the store then forgets."""


class MemoryTokenStore:
    """Tokens for the life of the process: a few for each server, of the servers seen last."""

    __slots__ = ("_max_size", "_tokens")

    def __init__(self, max_size: int = MAX_TOKEN) -> None:
        self._max_size = max_size
        self._tokens: OrderedDict[str, list[bytes]] = OrderedDict()

    def put(self, key: str, token: bytes, /) -> None:
        if len(token) > self._max_size:
            return
        tokens = self._tokens.setdefault(key, [])
        self._tokens.move_to_end(key)
        if token in tokens:
            return
        tokens.append(token)
        del tokens[:-MAX_PER_SERVER]
        if len(self._tokens) > MAX_SERVERS:
            self._tokens.popitem(last=False)

    def take(self, key: str, /) -> bytes | None:
        tokens = self._tokens.get(key)
        if not tokens:
            return None
        token = tokens.pop()
        if not tokens:
            del self._tokens[key]
        return token

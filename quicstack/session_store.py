"""Where a client keeps sessions that it can resume (RFC 8446 §2.2): tickets, their keys, and what goes with them.

A session holds secrets. Who has it can resume as this client, and read the 0-RTT data that was sent with it.
"""

from __future__ import annotations

from typing import Protocol

from quicstack.token_store import MemoryTokenStore

__all__ = ["MAX_SESSION", "MemorySessionStore", "SessionStore"]

MAX_SESSION = 16_384
"""Larger ones, chain of certificates included, are not worth keeping."""


class SessionStore(Protocol):
    """What is taken is gone: a ticket used twice links two connections, and lets 0-RTT be told apart (§C.4, §8)."""

    def put(self, key: str, session: bytes, /) -> None:
        """Keep a session. ``key`` names server and QUIC version."""

    def take(self, key: str, /) -> bytes | None:
        """The newest session under this key, which the store then forgets."""


class MemorySessionStore(MemoryTokenStore):
    """Sessions for the life of the process: the newest few of each server, of the servers seen last."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(MAX_SESSION)

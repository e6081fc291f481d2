"""The peer has lost the connection and says so with a token that it had given us (RFC 9000 §10.3.1)."""

from __future__ import annotations

import hmac

from quicstack.connection import lifecycle
from quicstack.connection.state import ConnectionState
from quicstack.errors import ConnectionClosed
from quicstack.train import Path, Train

__all__ = ["look_for_reset", "on_stateless_reset"]

RESET_TOKEN = 16
MIN_RESET = 21
"""RFC 9000 §10.3: no stateless reset is shorter."""


def look_for_reset(state: ConnectionState, train: Train, now: float) -> None:
    """§10.3.1: not every datagram held a good packet, so one may be a reset, whatever else it looks like: with a long
    header, too short for a packet, or with a packet number that was seen before."""
    if any(_is_reset(state, datagram, train.path) for datagram in train.datagrams()):
        lifecycle.drain(state, now, _lost_by_the_peer())


def _is_reset(state: ConnectionState, datagram: bytes, path: Path) -> bool:
    """§10.3.1: the end of the whole datagram counts, the comparison leaks nothing, and it comes from the peer."""
    if len(datagram) < MIN_RESET or path.remote != state.path.address.remote:
        return False
    return any(hmac.compare_digest(datagram[-RESET_TOKEN:], token) for token in state.peer_cids.reset_tokens)


def _lost_by_the_peer() -> ConnectionClosed:
    return ConnectionClosed(0, "the peer has lost the connection (stateless reset)", by_peer=True)


def on_stateless_reset(state: ConnectionState, train: Train, now: float) -> None:
    """A datagram under a connection ID that is not ours, recognised by its token, whatever its first bytes say."""
    if _is_reset(state, train.data, train.path):
        lifecycle.drain(state, now, _lost_by_the_peer())

"""Connections that are kept alive (RFC 9000 §10.1.2)."""

from __future__ import annotations

import pytest
from peer import Pair, Peer

from quicstack.errors import ConfigurationError, ConnectionTimeout


@pytest.mark.parametrize("side", ["client", "server"])
def test_silence_is_broken(side: str) -> None:
    """A PING each time that nothing came for so long, as long as the peer answers."""
    peer = Peer(plays="server" if side == "client" else "client", keep_alive=5.0, max_idle_timeout=20.0)
    peer.hears(ack=True)
    rounds = 0
    for _ in range(10):
        frames = peer.advance(5.1)
        rounds += any(frame.name == "PING" for frame in frames)
        peer.acknowledges(*peer.received)
    assert rounds == 10 and peer.engine.closed is None


def test_a_peer_that_is_gone() -> None:
    """Unanswered PINGs do not hold a connection open: they restart the timer once (§10.1)."""
    peer = Peer(keep_alive=5.0, max_idle_timeout=20.0)
    peer.hears(ack=True)
    peer.advance(26)
    assert isinstance(peer.engine.closed, ConnectionTimeout)


def test_nobody_asked_for_it() -> None:
    pair = Pair(server={"max_idle_timeout": 20.0})
    pair.exchange()
    pair.advance(21)
    assert isinstance(pair.client.closed, ConnectionTimeout)


def test_a_value_that_means_nothing() -> None:
    with pytest.raises(ConfigurationError, match="keep_alive"):
        Pair(client={"keep_alive": 0})

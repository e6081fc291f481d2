"""PATH_CHALLENGE frames that a peer sends (RFC 9000 §8.2.2)."""

from __future__ import annotations

import pytest
from peer import Peer

from quicstack.train import Path
from quicstack.transport.path import MAX_RESPONSES

ELSEWHERE = Path(("203.0.113.9", 50000))


def responses(peer: Peer) -> list[object]:
    return [
        frame.fields["data"]
        for train in iter(lambda: peer.endpoint.next_train(peer.now), None)
        for datagram in train.datagrams()
        for frame in peer.opens(datagram)[1]
        if frame.name == "PATH_RESPONSE"
    ]


@pytest.mark.parametrize("path", [None, ELSEWHERE], ids=["path in use", "another path"])
def test_each_challenge_is_answered_once(path: Path | None) -> None:
    """A server that sends two at once, as some do in case one is lost, hears of both."""
    peer = Peer()
    asked = [bytes([number]) * 8 for number in range(2)]
    for data in asked:
        peer.sends(b"\x1a" + data + bytes(1200), path=path)
    assert responses(peer) == asked
    assert responses(peer) == []


def test_of_a_flood_the_newest_are_answered() -> None:
    peer = Peer()
    asked = [number.to_bytes(8, "big") for number in range(50)]
    for data in asked:
        peer.sends(b"\x1a" + data)
    assert responses(peer) == asked[-MAX_RESPONSES:]

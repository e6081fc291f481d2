"""Attacks on tokens, Retry and version negotiation, mounted (RFC 9000 §8.1.4, §21)."""

from __future__ import annotations

import pytest
from peer import EPOCH, INITIAL, TO_CLIENT, Pair, Peer, long_packet

from quicstack.stateless import MAX_STATELESS
from quicstack.train import Path, Train
from quicstack.wire.frame import write_crypto, write_new_token
from quicstack.wire.packet import write_version_negotiation


def spoofed(pair: Pair, count: int) -> list[Train]:
    """One good Initial from many addresses, with a connection ID of its own each: only its header has to be read."""
    (sent,) = pair.from_client()
    return [
        Train(sent.data[:6] + i.to_bytes(8, "big") + sent.data[14:], len(sent.data), Path((f"203.0.113.{i % 250}", i)))
        for i in range(count)
    ]


@pytest.mark.attack("c: handshake flood (QFAM, arXiv 2412.08936)")
def test_a_flood_of_initials_meets_retries() -> None:
    """No connection for any of them, answers smaller than the questions, and a bound on how many wait."""
    pair = Pair(server={"retry": "always"})
    flood = spoofed(pair, 1000)
    for train in flood:
        pair.to_server([train], train.path)
    answers = pair.from_server()
    assert not pair.server_endpoint.connections and not pair.server_endpoint._by_cid
    assert len(answers) == MAX_STATELESS
    assert all(len(answer.data) < 200 for answer in answers)


@pytest.mark.attack("c: token forgery/leak", "CVE-2026-42764", "CVE-2026-26081")
def test_forged_tokens() -> None:
    """Any bytes of either kind, of any length: refused or ignored, never accepted and never an exception."""
    for policy in ("never", "always"):
        for kind in (b"\x9b\x52", b"\x9b\x4e", b"", b"\x00"):
            for content in (0, 8, 22, 38, 60):
                forged_token(policy, kind, bytes(content))
            now = int(EPOCH.timestamp() * 1000).to_bytes(8, "big")
            for content in (0, 11, 12, 27, 28, 44):
                forged_token(policy, kind, now + bytes(content))


def forged_token(policy: str, kind: bytes, content: bytes) -> None:
    """In an Initial that is right otherwise."""
    pair = Pair(server={"retry": policy})
    outgoing = pair.client._state.spaces[INITIAL].crypto.outgoing
    hello = write_crypto(0, bytes(outgoing.get(0, outgoing.end)))
    data = long_packet(pair.client._state, INITIAL, hello, number=5, token=kind + content, pad_to=1200)
    pair.to_server([Train(data, len(data), TO_CLIENT)])
    is_refused = kind == b"\x9b\x52"
    for connection in pair.server_endpoint.connections:
        assert not connection._state.path.validated and not is_refused and policy == "never"
    answers = pair.from_server()
    assert answers and sum(len(answer.data) for answer in answers) <= 3 * len(data)
    assert pair.server_endpoint.counters.tokens_refused == is_refused
    assert pair.server_endpoint.counters.retries_sent == (policy == "always" and not is_refused)


@pytest.mark.attack("CVE-2024-45311")
def test_an_initial_of_before_the_retry_again() -> None:
    """The first Initial comes twice, before and after the Retry: one connection, and it works."""
    pair = Pair(server={"retry": "always"})
    first = pair.from_client()
    pair.to_server(first)
    retry = pair.from_server()
    pair.to_client(retry)
    second = pair.from_client()
    pair.to_server(second + first + second)
    assert len(pair.server_endpoint.connections) == 1
    pair.exchange()
    assert pair.client.handshake_confirmed
    pair.to_server(first + second)
    assert len(pair.server_endpoint.connections) == 1
    pair.client.close(now=pair.now)
    pair.exchange()
    pair.advance(60)
    assert not pair.server_endpoint._by_cid


@pytest.mark.attack("c: NEW_TOKEN flood (server→client)")
def test_a_flood_of_tokens() -> None:
    peer = Peer(plays="server")
    for i in range(500):
        peer.sends(write_new_token(i.to_bytes(4, "big") * 20))
    store = peer.pair.client_endpoint.configuration.token_store
    kept = 0
    while store.take("localhost 192.0.2.1 443 0x00000001") is not None:
        kept += 1
    assert kept == 4 and peer.engine.closed is None


@pytest.mark.attack("aioquic #635")
def test_version_negotiation_is_not_answered() -> None:
    pair = Pair()
    packet = write_version_negotiation(b"a" * 8, b"b" * 8, [1]).ljust(1200, b"\0")
    for first in (0x80, 0xC0, 0xFF):
        pair.to_server([Train(bytes([first]) + packet[1:], len(packet), TO_CLIENT)])
    assert not pair.from_server()

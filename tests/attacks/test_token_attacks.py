"""Attacks on tokens, Retry and version negotiation, mounted (RFC 9000 §8.1.4, §21)."""

from __future__ import annotations

import pytest
from peer import TO_CLIENT, Pair, Peer

from quicstack.stateless import MAX_STATELESS
from quicstack.train import Path, Train
from quicstack.wire.frame import write_new_token
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
    for policy in ("never", "always", "auto"):
        pair = Pair(server={"retry": policy})
        (sent,) = pair.from_client()
        at = sent.data.index(pair.client.original_dcid) + 8 + 9  # the Token Length, 0 in a first Initial
        for kind in (b"\x9b\x52", b"\x9b\x4e", b"", b"\x00"):
            for length in (0, 8, 22, 38, 60):
                token = kind + bytes(length)
                assert len(token) < 64
                data = sent.data[:at] + bytes([len(token)]) + token + sent.data[at + 1 :]
                pair.to_server([Train(data, len(data), TO_CLIENT)])
                for answer in pair.from_server():
                    assert len(answer.data) <= len(data)
                assert not any(c._state.path.validated for c in pair.server_endpoint.connections)


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

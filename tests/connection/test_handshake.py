"""Handshake, versions, Retry, packets out of order, limits on an unproven address (RFC 9000 §6-§8, RFC 9001 §4)."""

from __future__ import annotations

import random

import pytest
from peer import TO_CLIENT, TO_SERVER, Pair, certificate, long_packet, opens_long

from quicstack.errors import ConfigurationError, ConnectionClosed, ConnectionTimeout, TransportErrorCode
from quicstack.tls.trust import Trust
from quicstack.train import Path, Train
from quicstack.transport.packet_protection import retry_integrity_tag
from quicstack.wire import frame as f
from quicstack.wire.packet import read_long_header, write_retry, write_version_negotiation
from quicstack.wire.version import QUIC_V1, VERSIONS


def train(datagram: bytes, path: Path = TO_SERVER) -> Train:
    return Train(datagram, len(datagram), path)


def test_handshake() -> None:
    pair = Pair()
    pair.exchange()
    for side in (pair.client, pair.server):
        assert side.handshake_complete
        assert side.handshake_confirmed
        assert side.alpn_protocol == "test"
        assert side.cipher_suite_name == "TLS_AES_128_GCM_SHA256"
        assert side.group_name == "x25519"
    assert pair.server.server_name == "localhost"


def test_exported_keying_material() -> None:
    """RFC 8446 §7.5."""
    pair = Pair()
    with pytest.raises(ConfigurationError, match="only when the handshake is complete"):
        pair.client.export_keying_material("EXPORTER-test", b"", 32)
    pair.exchange()
    exported = pair.client.export_keying_material("EXPORTER-test", b"context", 32)
    assert len(exported) == 32
    assert pair.server.export_keying_material("EXPORTER-test", b"context", 32) == exported


def test_client_certificates() -> None:
    """RFC 8446 §4.3.2. A refusal comes when the client has finished: as a close like any other."""
    asking: dict[str, object] = {
        "client_authentication": "required",
        "client_trust": Trust.roots(certificate().certificates),
    }
    pair = Pair({"client_certificate": certificate()}, asking)
    pair.exchange()
    assert pair.server.handshake_complete
    assert pair.server.peer_certificates == pair.client.peer_certificates == certificate().certificates
    pair = Pair(None, asking)
    pair.exchange()
    closed = pair.client.closed
    assert isinstance(closed, ConnectionClosed)
    assert (closed.code, closed.by_peer) == (0x174, True)


@pytest.mark.conformance("T47")
def test_client_initials_are_padded() -> None:
    """§14.1."""
    pair = Pair()
    for sent in pair.from_client():
        assert all(len(datagram) >= 1200 for datagram in sent.datagrams())


def test_a_small_initial_makes_no_connection() -> None:
    """§14.1."""
    pair = Pair()
    (sent,) = pair.from_client()
    pair.to_server([Train(sent.data[:1199], 1199, TO_CLIENT)])
    assert not pair.server_endpoint.connections
    assert not pair.from_server()


@pytest.mark.conformance("T45")
def test_amplification() -> None:
    """§8.1: three times what came, until the address is proven; probe timeouts included."""
    pair = Pair()
    sent = pair.from_client()
    received = sum(len(s.data) for s in sent)
    pair.to_server(sent)
    total = sum(len(s.data) for s in pair.from_server())
    for _ in range(40):
        deadline = pair.server_endpoint.next_timeout()
        if deadline is None or deadline > pair.now + 9:
            break
        pair.now = max(pair.now, deadline)
        pair.server_endpoint.handle_timeout(pair.now)
        total += sum(len(s.data) for s in pair.from_server())
        assert total <= 3 * received
    assert total > received


@pytest.mark.conformance("I01", "I03", "T29")
def test_unknown_version() -> None:
    """§6.1, RFC 8999 §6: connection IDs come back swapped, whatever their length."""
    pair = Pair()
    pair.from_client()
    dcid, scid = bytes(range(255)), bytes(range(100, 200))
    unknown = b"\xc0" + (0x5A6A7A8A).to_bytes(4, "big") + bytes([255]) + dcid + bytes([100]) + scid
    pair.to_server([train(unknown.ljust(1200, b"\0"), TO_CLIENT)])
    (answer,) = pair.from_server()
    assert answer.data[1:5] == bytes(4)
    assert answer.data[5:6] + answer.data[6:106] == bytes([100]) + scid
    assert answer.data[106:107] + answer.data[107:362] == bytes([255]) + dcid
    versions = [answer.data[i : i + 4] for i in range(362, len(answer.data), 4)]
    assert QUIC_V1.to_bytes(4, "big") in versions
    assert any(v[0] & 15 == v[1] & 15 == v[2] & 15 == v[3] & 15 == 10 for v in versions)


@pytest.mark.conformance("I04", "T30")
def test_no_answer_to_version_negotiation_or_small_packets() -> None:
    """§6.1, §14.1."""
    pair = Pair()
    negotiation = write_version_negotiation(b"a" * 8, b"b" * 8, [QUIC_V1])
    for datagram in (negotiation.ljust(1200, b"\0"), b"\xc0\x5a\x6a\x7a\x8a\x08" + bytes(900)):
        pair.to_server([train(datagram, TO_CLIENT)])
        assert not pair.from_server()
        assert not pair.server_endpoint.connections


def negotiation(pair: Pair, versions: list[int]) -> Train:
    state = pair.client._state
    return train(write_version_negotiation(state.local_cids.first, state.original_dcid, versions))


def test_client_gives_up_when_its_version_is_refused() -> None:
    """§6.2."""
    pair = Pair()
    pair.from_client()
    pair.to_client([negotiation(pair, [0x6B3343CF, 0x1A2A3A4A])])
    error = pair.client.closed
    assert isinstance(error, ConnectionClosed) and "0x6b3343cf" in str(error)
    assert not pair.from_client()


@pytest.mark.attack("c: VN injection")
@pytest.mark.conformance("T32")
@pytest.mark.parametrize("what", ["lists our version", "other connection ID", "truncated", "after a packet"])
def test_version_negotiation_that_is_ignored(what: str) -> None:
    """§6.2, RFC 8999 §6."""
    pair = Pair()
    sent = pair.from_client()
    answer = negotiation(pair, [QUIC_V1 if what == "lists our version" else 0x1A2A3A4A])
    if what == "other connection ID":
        answer = train(write_version_negotiation(b"x" * 8, pair.client.original_dcid, [0x1A2A3A4A]))
    if what == "truncated":
        answer = train(answer.data[:-1])
    if what == "after a packet":
        pair.to_server(sent)
        pair.to_client(pair.from_server())
    pair.to_client([answer])
    assert pair.client.closed is None
    if what != "after a packet":
        pair.to_server(sent)
    pair.exchange()
    assert pair.client.handshake_confirmed


def retry(pair: Pair, token: bytes = b"a token", scid: bytes = b"retried!", original: bytes | None = None) -> Train:
    state = pair.client._state
    packet = write_retry(VERSIONS[1], state.local_cids.first, scid, token)
    return train(packet + retry_integrity_tag(VERSIONS[1], original or state.original_dcid, packet))


@pytest.mark.conformance("C14", "T50")
def test_retry_is_followed() -> None:
    """§17.2.5: the token comes back, to the new connection ID, and packet numbers go on."""
    pair = Pair()
    (first,) = pair.from_client()
    before = pair.client._state.spaces[0].next_packet_number
    pair.to_client([retry(pair)])
    sent = pair.from_client()
    header = read_long_header(sent[0].data, 0, VERSIONS[1])
    assert header.token == b"a token"
    assert header.dcid == b"retried!"
    assert pair.client._state.spaces[0].next_packet_number > before
    # The same ClientHello, under keys of the new connection ID.
    server = Pair(seed=9)
    server.to_server(sent)
    assert server.server_endpoint.connections


@pytest.mark.conformance("C19", "T50")
@pytest.mark.attack("c: Retry injection")
@pytest.mark.parametrize("what", ["bad tag", "no token", "second", "same connection ID", "after a packet"])
def test_retry_that_is_ignored(what: str) -> None:
    """§17.2.5.2: what the client sends next has the token and connection ID that it had before."""
    pair = Pair()
    sent = pair.from_client()
    packet = retry(pair)
    token, dcid = b"", pair.client.original_dcid
    if what == "bad tag":
        packet = retry(pair, original=b"another")
    if what == "no token":
        packet = retry(pair, token=b"")
    if what == "same connection ID":
        packet = retry(pair, scid=pair.client.original_dcid)
    if what == "second":
        pair.to_client([packet])
        pair.from_client()
        packet = retry(pair, token=b"another token", scid=b"again!!!")
        token, dcid = b"a token", b"retried!"
    if what == "after a packet":
        pair.to_server(sent)
        state = pair.server._state
        dcid = state.local_cids.first
        pair.to_client([train(long_packet(state, 0, f.write_ack([(0, 0)], 0), number=0))])
    pair.to_client([packet])
    assert not pair.from_client()
    pair.now += 1.1
    pair.client_endpoint.handle_timeout(pair.now)
    again = [read_long_header(one.data, 0, VERSIONS[1]) for one in pair.from_client()]
    assert again and {(header.token, header.dcid) for header in again} == {(token, dcid)}


@pytest.mark.attack("c: Retry injection")
def test_a_retry_that_the_server_does_not_confirm() -> None:
    """§7.3: retry_source_connection_id must be there if, and only if, there was a Retry."""
    pair = Pair()
    pair.from_client()
    pair.to_client([retry(pair)])
    pair.exchange()
    error = pair.client.closed
    assert isinstance(error, ConnectionClosed)
    assert error.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR
    assert not error.by_peer


@pytest.mark.parametrize("seed", range(20))
def test_datagrams_in_any_order_twice_over(seed: int) -> None:
    """§12.2, RFC 9001 §5.7: reordered, duplicated, before their keys; the handshake completes all the same."""
    rng = random.Random(seed)
    pair = Pair(seed=seed + 10, client={"groups": (0x11EC, 0x1D)} if seed % 2 and _has_mlkem() else None)
    bag: list[tuple[bool, bytes]] = []
    for _ in range(600):
        for sent in pair.from_client():
            bag += [(True, datagram) for datagram in sent.datagrams()] * rng.choice([1, 2])
        for sent in pair.from_server():
            bag += [(False, datagram) for datagram in sent.datagrams()] * rng.choice([1, 2])
        if pair.client.handshake_confirmed and pair.server_endpoint.connections and pair.server.handshake_confirmed:
            return
        if bag:
            to_server, datagram = bag.pop(rng.randrange(len(bag)))
            if to_server:
                pair.to_server([train(datagram, TO_CLIENT)])
            else:
                pair.to_client([train(datagram)])
        pair.now += 0.004
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
    raise AssertionError("the handshake was never confirmed")


def _has_mlkem() -> bool:
    from quicstack.tls.groups import available_groups

    return 0x11EC in available_groups()


def test_a_client_hello_in_many_pieces_backwards() -> None:
    """RFC 9000 §7.5, RFC 9001 §4.1.3: CRYPTO frames in any order, over several packets, as browsers send them."""
    pair = Pair()
    (sent,) = pair.from_client()
    state = pair.client._state
    hello = bytes(state.spaces[0].crypto.outgoing.get(0, state.spaces[0].crypto.outgoing.end))
    pieces = [(i, hello[i : i + 37]) for i in range(0, len(hello), 37)]
    pieces.reverse()
    state.spaces[0].next_packet_number = len(pieces)
    for number, (offset, piece) in enumerate(pieces):
        packet = long_packet(state, 0, f.write_crypto(offset, piece), number=number, pad_to=1200)
        pair.to_server([train(packet, TO_CLIENT)])
    assert pair.server.server_name == "localhost"
    pair.to_client(pair.from_server())
    assert pair.client.handshake_complete


@pytest.mark.attack("c: coalesced garbage")
def test_coalesced_packets_are_independent() -> None:
    """§12.2: one that cannot be opened does not spoil the next."""
    pair = Pair()
    pair.to_server(pair.from_client())
    (sent,) = pair.from_server()
    header = read_long_header(sent.data, 0, VERSIONS[1])
    spoiled = bytearray(sent.data)
    spoiled[header.end - 1] ^= 1
    pair.to_client([train(bytes(spoiled))])
    # The Handshake packet of the same datagram waits for its keys, which come with the Initial.
    assert len(pair.client._state.spaces[1].waiting) == 1
    pair.to_client([train(sent.data)])
    assert pair.client.handshake_complete


@pytest.mark.attack("c: undecryptable flood before keys")
def test_packets_before_their_keys_are_few() -> None:
    """RFC 9001 §5.7."""
    pair = Pair()
    pair.to_server(pair.from_client())
    state = pair.server._state
    for number in range(100):
        packet = long_packet(state, 1, b"\x01", number=number)
        pair.client_endpoint.receive(train(packet), pair.now)
    assert len(pair.client._state.spaces[1].waiting) <= 16


def test_a_peer_that_lies_about_connection_ids() -> None:
    """§7.3: initial_source_connection_id is compared with what the packets said."""
    liar = Pair(seed=5)
    liar.client._state.local_parameters.initial_source_connection_id = b"liar"
    # The ClientHello is made at once, so the lie has to be told by a fresh handshake engine.
    from quicstack.connection import handshake

    liar.client._state.spaces[0].crypto.outgoing.clear()
    liar.client._state.spaces[0].crypto.outgoing.__init__()  # type: ignore[misc]
    handshake.start(liar.client._state, liar.now)
    liar.to_server(liar.from_client())
    error = liar.server.closed
    assert isinstance(error, ConnectionClosed)
    assert error.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR


def test_nobody_answers() -> None:
    pair = Pair()
    pair.from_client()
    pair.advance(10.5)
    assert isinstance(pair.client.closed, ConnectionTimeout)
    assert isinstance(pair.client.closed, TimeoutError)
    assert not pair.client_endpoint.connections


def test_idle_timeout() -> None:
    """§10.1: the smaller of both sides' values, in silence."""
    pair = Pair(client={"max_idle_timeout": 5.0})
    pair.exchange()
    pair.advance(4.5)
    assert pair.server.closed is None
    server = pair.server
    pair.advance(2)
    for side in (pair.client, server):
        assert isinstance(side.closed, ConnectionTimeout)
    assert not pair.server_endpoint.connections
    assert not pair.from_server()


def test_close_during_the_handshake_says_little() -> None:
    """§10.2.3: an application's code and words do not travel under keys that anyone can compute."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.from_server()
    pair.server.close(7, "secret", now=pair.now)
    (sent,) = pair.from_server()
    closes = [
        frame.fields for _, frames in opens_long(pair.client._state, sent.data) for frame in frames
        if frame.name == "CONNECTION_CLOSE"
    ]  # fmt: skip
    assert closes and all(close["error_code"] == 0x0C and close["reason"] == b"" for close in closes)


def test_0rtt_packets_are_dropped() -> None:
    """§17.2.3: a server that cannot open 0-RTT goes on without it."""
    pair = Pair()
    (sent,) = pair.from_client()
    header = read_long_header(sent.data, 0, VERSIONS[1])
    zero_rtt = b"\xd0\x00\x00\x00\x01\x08" + header.dcid + b"\x08" + header.scid + b"\x40\x40" + bytes(64)
    pair.to_server([train(sent.data + zero_rtt, TO_CLIENT)])
    pair.exchange()
    assert pair.server.handshake_confirmed

"""The handshake and its packets, rule by rule (RFC 9000 §6 to §8, §12, §17; RFC 9001 §4, §5.7)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, Pair, Peer, long_packet, opens_long

from quicstack.errors import TransportErrorCode
from quicstack.train import Path, Train
from quicstack.wire import frame as f
from quicstack.wire.packet import read_long_header, write_version_negotiation
from quicstack.wire.version import VERSIONS

E = TransportErrorCode


def stream(stream_id: int, data: bytes, offset: int = 0, fin: bool = False) -> bytes:
    return f.stream_header(stream_id, offset, len(data), fin) + data


def train(datagram: bytes, path: Path = TO_CLIENT, ecn: int = 0) -> Train:
    return Train(datagram, len(datagram), path, ecn)


def data(peer: Peer) -> dict[object, int]:
    """Bytes heard of each stream."""
    found: dict[object, int] = {}
    for frame in peer.hears():
        if frame.name == "STREAM":
            payload = frame.fields["data"]
            assert isinstance(payload, bytes | bytearray)
            found[frame.fields["stream_id"]] = found.get(frame.fields["stream_id"], 0) + len(payload)
    return found


# -- the handshake (§6 to §8, §17) ---------------------------------------------------------------------------------


@pytest.mark.conformance("I05")
@pytest.mark.parametrize("first", [0x80, 0xFF])
def test_any_first_byte_of_version_negotiation(first: int) -> None:
    """RFC 8999 §6."""
    pair = Pair()
    pair.from_client()
    state = pair.client._state
    answer = write_version_negotiation(state.local_cids.first, state.original_dcid, [0x1A2A3A4A])
    pair.to_client([train(bytes([first]) + answer[1:])])
    assert pair.client.closed is not None


def test_version_negotiation_is_never_coalesced() -> None:
    """§12.2: it has no length."""
    pair = Pair()
    pair.from_client()
    state = pair.client._state
    cids = b"\x08" + state.local_cids.first + b"\x08" + state.original_dcid
    noise = b"\xe0\x00\x00\x00\x01" + cids + b"\x20" + bytes(32)
    answer = write_version_negotiation(state.local_cids.first, state.original_dcid, [0x1A2A3A4A])
    pair.to_client([train(noise + answer)])
    assert pair.client.closed is None


def test_a_length_beyond_the_datagram() -> None:
    """§12.2."""
    pair = Pair()
    pair.to_server(pair.from_client())
    (sent, *_) = pair.from_server()
    header = read_long_header(sent.data, 0, VERSIONS[1])
    pair.to_client([train(sent.data[: header.end - 1])])
    assert pair.client._state.peer_scid is None


def test_a_packet_for_another_id_in_the_same_datagram() -> None:
    """§12.2: ignored, although we would know the ID."""
    pair = Pair()
    pair.exchange()
    state = pair.client._state
    cids = list(pair.server._state.local_cids.active.values())
    first = b"\xe0\x00\x00\x00\x01\x08" + cids[1] + b"\x08" + bytes(8) + b"\x20" + bytes(32)
    space = state.spaces[ONE_RTT]
    short = space.seal_keys.seal(b"\x43" + cids[2] + (900).to_bytes(4, "big"), 4, 900, bytes(3) + b"\x01")  # type: ignore[union-attr]
    pair.to_server([train(first + short)])
    assert pair.server._state.spaces[ONE_RTT].acks.largest < 900
    pair.to_server([train(first.replace(cids[1], cids[2]) + short)])
    assert pair.server._state.spaces[ONE_RTT].acks.largest == 900


def test_a_token_in_an_initial_of_the_server() -> None:
    """§17.2.2."""
    pair = Pair()
    pair.to_server(pair.from_client())
    packet = long_packet(pair.server._state, INITIAL, b"\x01", number=40, token=b"token")
    pair.to_client([train(packet)])
    assert pair.client._state.spaces[INITIAL].acks.largest < 40


@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE])
def test_reserved_bits_of_long_headers(space: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """§17.2: looked at only in packets that open."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    state = pair.server._state
    import peer as peer_module

    write = peer_module.write_long_header
    monkeypatch.setattr(peer_module, "write_long_header", lambda *args: bytes([(h := write(*args))[0] | 0x0C]) + h[1:])
    if space == INITIAL:  # the client has thrown its keys away by then
        pair = Pair(seed=7)
        pair.to_server(pair.from_client())
        state = pair.server._state
    packet = long_packet(state, space, b"\x01", number=40)
    pair.to_client([train(packet[:-1] + bytes([packet[-1] ^ 1]))])
    assert pair.client.closed is None
    pair.to_client([train(packet)])
    assert getattr(pair.client.closed, "code", None) == E.PROTOCOL_VIOLATION


def test_an_application_close_before_the_application() -> None:
    """§12.5: 0x1d in a Handshake packet."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    packet = long_packet(pair.server._state, HANDSHAKE, f.write_connection_close(5, b"", None), number=40)
    pair.to_client([train(packet)])
    assert getattr(pair.client.closed, "code", None) == E.PROTOCOL_VIOLATION


@pytest.mark.conformance("C11", "C12")
def test_packets_of_levels_that_are_gone() -> None:
    """RFC 9001 §4.9: Initials and Handshake packets of old change nothing, an injected close least of all."""
    pair = Pair()
    pair.to_server(pair.from_client())
    state = pair.server._state
    initial = long_packet(state, INITIAL, f.write_connection_close(2, b"", 0), number=90)
    pair.to_client(pair.from_server())
    first_reply = pair.from_client()
    handshake = long_packet(state, HANDSHAKE, f.write_connection_close(2, b"", 0), number=90)
    pair.to_client([train(initial)])
    pair.to_server(first_reply)
    pair.exchange()
    pair.to_client([train(handshake)])
    assert pair.client.closed is None and pair.server.closed is None


@pytest.mark.conformance("C11a")
def test_no_initial_after_the_first_handshake_packet() -> None:
    """RFC 9001 §4.9.1."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.from_client()
    pair.client.close(5, now=pair.now)
    for sent in pair.from_client():
        assert all(kind != INITIAL for kind, _ in opens_long(pair.server._state, sent.data))


@pytest.mark.conformance("C05", "C18")
def test_one_rtt_packets_wait_for_the_handshake() -> None:
    """RFC 9001 §5.7: neither delivered nor acknowledged by the server before Finished."""
    pair = Pair()
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    (finished, *_) = pair.from_client()
    early = pair.client.open_stream()
    early.write(b"early")
    pair.now += 0.01
    packets = pair.from_client()
    short = [sent.data[read_long_header(sent.data, 0, VERSIONS[1]).end :] if sent.data[0] & 0x80 else sent.data
             for sent in packets]  # fmt: skip
    pair.to_server([train(datagram) for datagram in short])
    assert pair.server.stream(0) is None
    assert pair.server._state.spaces[ONE_RTT].acks.largest == -1
    pair.to_server([finished])
    received = pair.server.stream(0)
    assert received is not None and received.read() == b"early"


@pytest.mark.attack("c: undecryptable flood before keys")
def test_waiting_packets_are_few_and_small() -> None:
    """RFC 9001 §5.7: what is kept for keys to come has a bound in bytes too."""
    pair = Pair()
    pair.to_server(pair.from_client())
    cid = pair.server._state.local_cids.first
    for _ in range(40):
        pair.to_server([train(b"\x40" + cid + bytes(9000))])
    assert sum(len(packet.data) for packet in pair.server._state.spaces[ONE_RTT].waiting) <= 1 << 15


@pytest.mark.conformance("T48")
def test_a_client_without_anything_to_say_keeps_the_server_going() -> None:
    """§8.1: the anti-deadlock probe: Handshake if there are keys, else a padded Initial."""
    pair = Pair()
    pair.to_server(pair.from_client())
    trains = pair.from_server()
    header = read_long_header(trains[0].data, 0, VERSIONS[1])
    pair.to_client([train(trains[0].data[: header.end])])
    pair.from_client()
    for _ in range(3):
        deadline = pair.client_endpoint.next_timeout()
        assert deadline is not None
        pair.now = max(pair.now, deadline)
        pair.client_endpoint.handle_timeout(pair.now)
    sent = pair.from_client()
    assert sent and all(one.data[0] & 0x80 for one in sent)
    assert all(kind == 2 or len(one.data) >= 1200 for one in sent
               for kind, _ in opens_long(pair.server._state, one.data))  # fmt: skip

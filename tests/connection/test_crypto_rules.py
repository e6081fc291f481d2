"""Levels of encryption, their keys and what travels in them, rule by rule (RFC 9001 §4 to §6)."""

from __future__ import annotations

import pytest
from peer import HANDSHAKE, INITIAL, ONE_RTT, TO_CLIENT, Pair, Peer, long_packet, opens_long

from quicstack.connection import key_update
from quicstack.connection.connection import Connection
from quicstack.errors import TransportErrorCode
from quicstack.train import Path, Train
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame, parse_frames
from quicstack.wire.packet import LONG_HEADER, read_long_header, write_long_header
from quicstack.wire.packet_number import decode_packet_number
from quicstack.wire.version import VERSIONS, PacketType

E = TransportErrorCode
VERSION_EXTENSION = b"\x00\x2b\x00\x03\x02\x03\x04"


def train(datagram: bytes, path: Path = TO_CLIENT) -> Train:
    return Train(datagram, len(datagram), path)


def datagrams(trains: list[Train]) -> list[bytes]:
    return [datagram for sent in trains for datagram in sent.datagrams()]


def pieces(datagram: bytes) -> list[bytes]:
    """The packets of a datagram, a short header packet last."""
    found = []
    while datagram and datagram[0] & LONG_HEADER:
        end = read_long_header(datagram, 0, VERSIONS[1]).end
        found.append(datagram[:end])
        datagram = datagram[end:]
    return [*found, datagram] if datagram.strip(b"\0") else found


def opens_short(side: Connection, packet: bytes) -> list[Frame]:
    """The frames of a 1-RTT packet that ``side`` can read."""
    space = side._state.spaces[ONE_RTT]
    assert space.open_keys is not None
    header, length = space.open_keys.unmask(packet, 0, 1 + side._state.local_cids.length)
    number = decode_packet_number(int.from_bytes(header[-length:], "big"), 8 * length, space.acks.largest)
    return parse_frames(space.open_keys.open(header, number, packet[len(header) :]))


def crypto(side: Connection, trains: list[Train]) -> dict[int, bytes]:
    """What lies at offset 0 of the CRYPTO stream of each packet type."""
    found = {}
    for datagram in datagrams(trains):
        for kind, frames in opens_long(side._state, datagram):
            for frame in frames:
                if frame.name == "CRYPTO" and frame.fields["offset"] == 0:
                    data = frame.fields["data"]
                    assert isinstance(data, bytes | bytearray)
                    found[kind] = bytes(data)
    return found


def in_flight_of_the_server() -> tuple[Pair, list[Train]]:
    """The server has answered the ClientHello, and the client has not read it yet."""
    pair = Pair()
    pair.to_server(pair.from_client())
    return pair, pair.from_server()


# -- CRYPTO frames (§4.1.3) ----------------------------------------------------------------------------------------


@pytest.mark.conformance("C01")
def test_handshake_messages_without_records() -> None:
    pair = Pair()
    hello = pair.from_client()
    pair.to_server(hello)
    assert crypto(pair.server, hello)[PacketType.INITIAL][0] == 1  # ClientHello
    answer = pair.from_server()
    pair.to_client(answer)
    assert {kind: data[0] for kind, data in crypto(pair.client, answer).items()} == {
        PacketType.INITIAL: 2,  # ServerHello
        PacketType.HANDSHAKE: 8,  # EncryptedExtensions
    }
    assert {kind: data[0] for kind, data in crypto(pair.server, pair.from_client()).items()} == {
        PacketType.HANDSHAKE: 20,  # Finished
    }


@pytest.mark.conformance("C03")
def test_old_levels_take_nothing_new() -> None:
    """The same bytes again are a retransmission; bytes behind them have no place any more."""
    pair, _ = in_flight_of_the_server()
    state = pair.client._state
    end = pair.server._state.spaces[INITIAL].crypto.incoming.end
    again = f.write_crypto(end - 40, bytes(40))
    pair.to_server([train(long_packet(state, INITIAL, again, number=50, pad_to=1200))])
    assert pair.server.closed is None
    more = f.write_crypto(end, b"\x01")
    pair.to_server([train(long_packet(state, INITIAL, more, number=51, pad_to=1200))])
    assert getattr(pair.server.closed, "code", None) == E.PROTOCOL_VIOLATION


@pytest.mark.conformance("C06")
def test_a_client_hello_is_answered_when_it_is_whole() -> None:
    """§4.3: in several packets and any order; acknowledgements may come before, a ServerHello may not."""
    pair = Pair()
    pair.from_client()
    state = pair.client._state
    outgoing = state.spaces[INITIAL].crypto.outgoing
    hello = bytes(outgoing.get(0, outgoing.end))
    parts = [(at, hello[at : at + 60]) for at in range(0, len(hello), 60)]
    order = parts[1::2] + parts[2::2] + parts[:1]
    for number, (offset, part) in enumerate(order):
        assert pair.server_endpoint.connections or number == 0
        packet = long_packet(state, INITIAL, f.write_crypto(offset, part), number=10 + number, pad_to=1200)
        pair.now += 0.01
        pair.to_server([train(packet)])
        answer = pair.from_server()
        names = [frame.name for datagram in datagrams(answer)
                 for _, frames in opens_long(state, datagram) for frame in frames]  # fmt: skip
        assert ("CRYPTO" in names) == (number == len(order) - 1)


@pytest.mark.conformance("C10")
def test_an_alert_is_the_code_of_a_close() -> None:
    """§4.8: and never a message of its own."""
    pair = Pair()
    pair.from_client()
    state = pair.client._state
    outgoing = state.spaces[INITIAL].crypto.outgoing
    hello = bytes(outgoing.get(0, outgoing.end))
    assert hello.count(VERSION_EXTENSION) == 1
    old = hello.replace(VERSION_EXTENSION, VERSION_EXTENSION[:-1] + b"\x03")
    pair.to_server([train(long_packet(state, INITIAL, f.write_crypto(0, old), pad_to=1200))])
    frames = [frame for datagram in datagrams(pair.from_server())
              for _, frames in opens_long(state, datagram) for frame in frames]  # fmt: skip
    assert {frame.name for frame in frames} <= {"ACK", "PADDING", "CONNECTION_CLOSE"}
    (close,) = [frame.fields for frame in frames if frame.name == "CONNECTION_CLOSE"]
    assert close["error_code"] == 0x0100 + 70  # protocol_version


# -- the end of the handshake (§4.1.2) and of its keys (§4.9) ------------------------------------------------------


@pytest.mark.conformance("C02")
def test_handshake_done_comes_at_once_and_once() -> None:
    """On a path of 40 ms, so that no timeout asks for it a second time."""
    pair = Pair()
    names: list[str] = []
    for flight in range(40):
        sent = pair.from_client()
        pair.now += 0.02
        pair.client_endpoint.handle_timeout(pair.now)
        pair.to_server(sent)
        answer = pair.from_server()
        pair.now += 0.02
        pair.server_endpoint.handle_timeout(pair.now)
        pair.to_client(answer)
        for packet in (packet for datagram in datagrams(answer) for packet in pieces(datagram)):
            if not packet[0] & LONG_HEADER:
                names += [frame.name for frame in opens_short(pair.client, packet)]
        assert ("HANDSHAKE_DONE" in names) == pair.client.handshake_confirmed == (flight > 0)
        if flight:
            pair.client.ping()
    assert names.count("HANDSHAKE_DONE") == 1


@pytest.mark.conformance("C11")
def test_a_server_forgets_initial_keys_with_the_first_handshake_packet() -> None:
    pair, answer = in_flight_of_the_server()
    late = long_packet(pair.client._state, INITIAL, f.write_connection_close(2, b"", 0), number=90, pad_to=1200)
    pair.to_client(answer)
    pair.to_server(pair.from_client())
    assert pair.server._state.spaces[INITIAL].discarded
    dropped = pair.server.stats().counters.packets_dropped
    pair.to_server([train(late)])
    assert pair.server.closed is None
    assert pair.server.stats().counters.packets_dropped == dropped + 1


@pytest.mark.conformance("C11a")
def test_a_server_sends_no_initial_after_the_first_handshake_packet() -> None:
    """Nor an acknowledgement of one, nor a close."""
    pair, answer = in_flight_of_the_server()
    pair.to_client(answer)
    finished = pair.from_client()
    again = long_packet(pair.client._state, HANDSHAKE, b"\x01", number=70)
    pair.to_server(finished[:1])
    pair.to_server([train(again)])
    pair.server.close(5, now=pair.now)
    sent = datagrams(pair.from_server())
    assert sent
    for datagram in sent:
        for packet in pieces(datagram):
            if packet[0] & LONG_HEADER:
                assert read_long_header(packet, 0, VERSIONS[1]).packet_type != PacketType.INITIAL


@pytest.mark.conformance("C12")
@pytest.mark.parametrize("side", ["client", "server"])
def test_handshake_keys_go_when_it_is_confirmed(side: str) -> None:
    pair, answer = in_flight_of_the_server()
    pair.to_client(answer)
    finished = pair.from_client()
    sender = pair.server if side == "client" else pair.client
    late = long_packet(sender._state, HANDSHAKE, f.write_connection_close(2, b"", 0), number=90)
    pair.to_server(finished)
    pair.exchange()
    (pair.to_client if side == "client" else pair.to_server)([train(late)])
    assert getattr(pair, side).handshake_confirmed and getattr(pair, side).closed is None
    assert getattr(pair, side)._state.spaces[HANDSHAKE].open_keys is None


@pytest.mark.conformance("C18a")
def test_a_client_reads_no_application_data_before_the_servers_finished() -> None:
    """§5.7."""
    pair = Pair()
    pair.to_server(pair.from_client())
    early = pair.server.open_stream(unidirectional=True)
    early.write(b"early", fin=True)
    packets = [packet for datagram in datagrams(pair.from_server()) for packet in pieces(datagram)]
    by_type = {packet[0] & 0xB0 if packet[0] & LONG_HEADER else 0: packet for packet in packets}
    initial, handshake, short = by_type[0x80], by_type[0xA0], by_type[0]
    pair.to_client([train(short), train(initial), train(short)])
    assert pair.client._state.spaces[HANDSHAKE].open_keys is not None
    assert pair.client.stream(3) is None and not pair.client.handshake_complete
    assert pair.client._state.spaces[ONE_RTT].acks.largest == -1
    pair.to_client([train(handshake)])
    received = pair.client.stream(3)
    assert pair.client.handshake_complete and received is not None and received.read() == b"early"


# -- packet protection and key update (§5, §6) ---------------------------------------------------------------------


@pytest.mark.conformance("C16")
def test_the_smallest_packets_have_room_for_a_sample() -> None:
    """§5.4.2: packet number and frames are four bytes together at least, so 20 bytes follow the connection ID."""
    pair, answer = in_flight_of_the_server()
    pair.to_client(answer)
    shortest = {True: 1200, False: 1200}
    for _ in range(6):
        pair.client.ping()
        trains = pair.from_client()
        for datagram in datagrams(trains):
            for packet in pieces(datagram):
                if packet[0] & LONG_HEADER:
                    header = read_long_header(packet, 0, VERSIONS[1])
                    size = header.end - header.pn_offset
                else:
                    size = len(packet) - 1 - len(pair.client._state.peer_cids.current.cid)
                shortest[packet[0] & LONG_HEADER > 0] = min(size, shortest[packet[0] & LONG_HEADER > 0])
        pair.to_server(trains)
        pair.now += 0.05
        pair.to_client(pair.from_server())
    assert 20 <= shortest[False] < 30
    assert shortest[True] >= 20


@pytest.mark.conformance("C16")
@pytest.mark.parametrize(("size", "opens"), [(2, False), (3, True)])
def test_long_header_packets_too_short_for_a_sample(size: int, opens: bool) -> None:
    """§5.4.2: a packet number of one byte, two bytes of frames and the tag are 19 bytes."""
    pair, answer = in_flight_of_the_server()
    pair.to_client(answer)
    state = pair.server._state
    keys = state.spaces[HANDSHAKE].seal_keys
    assert keys is not None
    cids = state.peer_cids.current.cid, state.local_cids.first
    header = write_long_header(state.version, PacketType.HANDSHAKE, *cids, b"", size + 16, 77, 1)
    body = keys._seal((keys.iv ^ 77).to_bytes(12, "big"), b"\x01" * size, header)
    mask = keys.masks(body[3:19].ljust(16, b"\0"))
    packet = bytes([header[0] ^ mask[0] & 0x0F]) + header[1:-1] + bytes([77 ^ mask[1]]) + body
    pair.to_client([train(packet + bytes(10))])
    assert (pair.client._state.spaces[HANDSHAKE].acks.largest == 77) == opens
    assert pair.client.closed is None


@pytest.mark.conformance("C22")
def test_the_next_update_waits_for_an_acknowledgement() -> None:
    """§6.1: that the peer sends under new keys itself is not enough."""
    peer = Peer()
    peer.hears(ack=True)
    state = peer.engine._state
    assert peer.engine.update_keys(peer.now)
    peer.engine.ping()
    first = state.spaces[ONE_RTT].next_packet_number
    peer.hears()
    key_update.update_send_keys(peer.state, peer.now)
    peer.sends(b"\x01")
    assert state.key_phase.receive_bit == state.key_phase.send_bit
    assert not peer.engine.update_keys(peer.now)
    peer.acknowledges(first - 1)
    assert not peer.engine.update_keys(peer.now)
    peer.acknowledges(first)
    assert peer.engine.update_keys(peer.now)


@pytest.mark.conformance("C22a")
def test_header_protection_outlives_key_updates() -> None:
    """§5.4, §6.1: headers open with the first key, payloads do not."""
    pair = Pair()
    pair.exchange()
    first = pair.server._state.spaces[ONE_RTT].open_keys
    assert first is not None
    for _ in range(2):
        assert pair.client.update_keys(pair.now)
        pair.exchange()
    assert pair.client._state.key_phase.generation == 2
    pair.client.ping()
    (datagram,) = datagrams(pair.from_client())
    number = pair.client._state.spaces[ONE_RTT].next_packet_number - 1
    header, length = first.unmask(datagram, 0, 1 + pair.server._state.local_cids.length)
    assert header[0] & 0x18 == 0
    assert int.from_bytes(header[-length:], "big") == number & (1 << 8 * length) - 1
    latest = pair.server._state.spaces[ONE_RTT].open_keys
    assert latest is not None and latest is not first
    assert latest.open(header, number, datagram[len(header) :])


@pytest.mark.conformance("C23")
def test_an_update_is_answered_in_kind() -> None:
    """§6.2: whoever receives under the next keys sends under the next keys, the acknowledgement first."""
    pair = Pair()
    pair.exchange()
    pair.client.update_keys(pair.now)
    pair.client.ping()
    pair.to_server(pair.from_client())
    pair.now += 0.05
    pair.server_endpoint.handle_timeout(pair.now)
    (answer,) = datagrams(pair.from_server())
    keys, cids = pair.client._state.spaces[ONE_RTT].open_keys, pair.client._state.local_cids
    assert keys is not None
    header, _ = keys.unmask(answer, 0, 1 + cids.length)
    assert header[0] & 0x04  # the Key Phase bit
    pair.to_client([train(answer)])
    assert pair.client._state.key_phase.receive_bit == 1
    assert pair.client.update_keys(pair.now)  # acknowledged


@pytest.mark.conformance("C24")
def test_two_updates_without_an_acknowledgement() -> None:
    """§6.2: of a peer that does not wait for the first to be confirmed."""
    peer = Peer()
    first, second = peer.state.spaces[ONE_RTT], peer.state.key_phase
    for _ in range(2):
        assert first.seal_keys is not None
        first.seal_keys = first.seal_keys.next_phase()
        second.send_bit ^= 1
        peer.sends(b"\x01")
    assert getattr(peer.engine.closed, "code", None) == E.KEY_UPDATE_ERROR

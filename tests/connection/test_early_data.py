"""0-RTT (RFC 9001 §4.6, RFC 9000 §7.4.1): accepted, rejected, altered, late and replayed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from early import Again, packet_types, with_context
from peer import TO_CLIENT, Peer, environment

from quicstack.connection.early_data import MAX_KEPT
from quicstack.errors import ConnectionClosed, StreamReset, TransportErrorCode
from quicstack.replay_guard import MemoryReplayGuard
from quicstack.session_store import MemorySessionStore
from quicstack.tls.messages import NewSessionTicket
from quicstack.tls.session import Session
from quicstack.train import Path, Train
from quicstack.transport.packet_space import MAX_WAITING
from quicstack.wire import frame
from quicstack.wire.packet import read_long_header
from quicstack.wire.transport_parameters import (
    TransportParameters,
    read_transport_parameters,
    write_transport_parameters,
)
from quicstack.wire.version import QUIC_V1, QUIC_V2, VERSIONS, PacketType

ZERO_RTT, ONE_RTT = PacketType.ZERO_RTT, PacketType.ONE_RTT
E = TransportErrorCode


def code_of(error: object) -> int:
    assert isinstance(error, ConnectionClosed), error
    return error.code


def test_data_arrives_with_the_client_hello() -> None:
    again = Again()
    client = again.resume(b"hello")
    assert client.sends_early_data and client.early_data_accepted is None
    again.to_server(again.from_client())
    stream = again.server.stream(0)
    assert stream is not None and stream.read() == b"hello" and stream.at_end
    assert again.server.early_data_accepted and again.server.may_be_a_replay
    again.exchange()
    assert client.early_data_accepted and client.session_resumed and client.handshake_confirmed
    assert not again.server.may_be_a_replay and not client.sends_early_data
    assert client.peer_certificates and client.stream(0) is not None


def test_off_until_switched_on() -> None:
    for settings in ({"client": {"early_data": False}}, {"server": {"early_data": False}}):
        again = Again(**settings)  # type: ignore[arg-type]
        client = again.resume(b"")
        assert not client.sends_early_data
        again.exchange()
        assert client.session_resumed and client.early_data_accepted is None


def test_each_session_is_used_once() -> None:
    again = Again(server={"session_tickets": 1})
    assert again.resume(b"").sends_early_data
    assert not again.resume(b"").sends_early_data


def test_no_store_no_tickets() -> None:
    again = Again(client={"session_store": None}, server={"session_tickets": 0})
    again.exchange()
    assert not again.resume(b"").sends_early_data


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.conformance("T42")
@pytest.mark.parametrize("limit", ["initial_max_data", "initial_max_stream_data_bidi_remote"])
def test_within_the_remembered_limits(limit: str) -> None:
    again = Again(server={limit: 1000})
    client = again.resume(b"x" * 5000)
    again.to_server(again.from_client())
    stream = again.server.stream(0)
    assert stream is not None and len(stream.read()) == 1000
    assert again.server.closed is None and client.closed is None


FORGOTTEN = (
    "ack_delay_exponent", "max_ack_delay", "initial_source_connection_id", "original_destination_connection_id",
    "retry_source_connection_id", "preferred_address", "stateless_reset_token", "min_ack_delay", "version_information",
)  # fmt: skip


@pytest.mark.conformance("T42")
def test_what_is_remembered() -> None:
    """RFC 9000 §7.4.1: neither connection IDs, tokens and addresses, nor what concerns delays."""
    again = Again(server={"ack_delay_exponent": 5, "max_ack_delay": 0.05, "initial_max_streams_uni": 77})
    seen: list[TransportParameters] = []

    def look(session: Session) -> Session:
        seen.append(read_transport_parameters(session.context[4:], from_server=True))
        return session

    again.alter_session(look)
    client = again.resume(b"")
    assert client._state.early.remembered == seen[0]
    plain = TransportParameters()
    for name in FORGOTTEN:
        assert getattr(seen[0], name) == getattr(plain, name), name
    assert seen[0].initial_max_streams_uni == 77 and seen[0].active_connection_id_limit == 4


LIMITS = {
    "initial_max_data": 1 << 19,
    "initial_max_stream_data_bidi_local": 1 << 17,
    "initial_max_stream_data_bidi_remote": 1 << 17,
    "initial_max_stream_data_uni": 1 << 17,
    "initial_max_streams_bidi": 100,
    "initial_max_streams_uni": 100,
    "active_connection_id_limit": 3,
    "max_datagram_frame_size": 1000,
}


@pytest.mark.conformance("T43")
@pytest.mark.parametrize("limit", LIMITS)
def test_a_server_with_lower_limits_rejects(limit: str) -> None:
    again = Again()
    client = again.resume(b"hello", **{limit: LIMITS[limit]})
    again.exchange()
    assert client.session_resumed and client.early_data_accepted is False
    stream = again.server.stream(0)
    assert stream is not None and stream.read() == b"hello"


def _enlarged(again: Again, name: str) -> None:
    def change(session: Session) -> Session:
        parameters = read_transport_parameters(session.context[4:], from_server=True)
        setattr(parameters, name, getattr(parameters, name) + 1)
        return with_context(session, session.context[:4] + write_transport_parameters(parameters))

    again.alter_session(change)


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param("initial_max_data", marks=pytest.mark.conformance("T43"), id="T43"),
        pytest.param("max_datagram_frame_size", marks=pytest.mark.conformance("D03"), id="D03"),
        "initial_max_streams_uni",
    ],
)
def test_a_client_sees_a_limit_reduced(limit: str) -> None:
    """The server takes 0-RTT and says less than what the client has of it."""
    again = Again(server={"max_datagram_frame_size": 1200})
    _enlarged(again, limit)
    client = again.resume()
    again.exchange()
    assert code_of(client.closed) == E.PROTOCOL_VIOLATION and limit in str(client.closed)


@pytest.mark.conformance("T130b")
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame.stream_header(0, 900, 200, False) + bytes(200), E.FLOW_CONTROL_ERROR),
        (frame.stream_header(4 * 128, 0, 1, False) + b"x", E.STREAM_LIMIT_ERROR),
    ],
    ids=["flow control", "streams"],
)
def test_beyond_the_limits(sent: bytes, code: int) -> None:
    again = Again(server={"initial_max_stream_data_bidi_remote": 1000})
    again.resume(b"")
    again.to_server(again.from_client())
    again.delivers_early(sent)
    assert code_of(again.server.closed) == code


# -- frames and packets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(frame.write_ack([(0, 0)], 0), marks=pytest.mark.conformance("T92"), id="T92-ack"),
        pytest.param(frame.write_ack([(0, 0)], 0, (1, 0, 0)), marks=pytest.mark.conformance("T92"), id="T92-ack-ecn"),
        pytest.param(frame.write_crypto(0, b"\2\0\0"), marks=pytest.mark.conformance("C34", "T92"), id="C34"),
        pytest.param(b"\x06\0\2\0\0", marks=pytest.mark.conformance("h3spec-34"), id="h3spec-34"),
        pytest.param(b"\x1e", marks=pytest.mark.conformance("T92"), id="T92-handshake-done"),
        pytest.param(frame.write_new_token(b"t"), marks=pytest.mark.conformance("T92"), id="T92-new-token"),
        pytest.param(b"\x1b" + bytes(8), marks=pytest.mark.conformance("T92"), id="T92-path-response"),
        pytest.param(frame.write_limit(0x19, 0), marks=pytest.mark.conformance("T92"), id="T92-retire"),
        frame.write_ack_frequency(0, 1, 1000, 1),
        b"\x1f",
    ],
)
def test_frames_that_0rtt_forbids(sent: bytes) -> None:
    again = Again()
    again.resume(b"")
    again.to_server(again.from_client())
    again.delivers_early(sent)
    assert code_of(again.server.closed) == E.PROTOCOL_VIOLATION
    assert "EARLY_DATA" in str(again.server.closed)


def test_reserved_bits() -> None:
    again = Again()
    again.resume(b"")
    again.to_server(again.from_client())
    again.delivers(again.early_packet(b"\1", first_byte=0x0C))
    assert code_of(again.server.closed) == E.PROTOCOL_VIOLATION and "reserved" in str(again.server.closed)


@pytest.mark.conformance("T100a")
def test_acknowledged_in_1rtt_packets() -> None:
    again = Again()
    client = again.resume()
    sent = again.from_client()
    assert (QUIC_V1, ZERO_RTT) in packet_types(sent)
    again.to_server(sent)
    server = again.server._state
    for space in server.spaces[:2]:
        assert space.acks.largest <= 1  # ClientHello alone
    assert server.spaces[2].acks.largest == 0 and not server.handshake_complete
    answer = again.from_server()
    again.now += 0.03
    again.server_endpoint.handle_timeout(again.now)
    answer += again.from_server()
    assert (0, ONE_RTT) in packet_types(answer)
    again.to_client(answer)
    assert client._state.spaces[2].largest_acked == 0
    assert client._state.spaces[0].largest_acked == 0


@pytest.mark.conformance("T114", "C13")
def test_no_0rtt_packet_after_the_keys_of_1rtt() -> None:
    again = Again()
    client = again.resume(b"a")
    stream = client.stream(0)
    assert stream is not None
    first = again.from_client()
    assert (QUIC_V1, ZERO_RTT) in packet_types(first)
    numbers = client._state.spaces[2].next_packet_number
    again.to_server(first)
    again.to_client(again.from_server())
    assert client._state.early.seal_keys is None
    client.open_stream().write(b"more")
    second = again.from_client()
    kinds = [kind for _, kind in packet_types(second)]
    assert ZERO_RTT not in kinds and ONE_RTT in kinds
    assert client._state.spaces[2].next_packet_number > numbers  # one space


@pytest.mark.conformance("C13")
def test_a_late_0rtt_packet() -> None:
    """Three PTOs after the handshake is the end of the server's 0-RTT keys; until then a packet may be late."""
    again = Again()
    again.resume(b"")
    late = [again.early_packet(frame.stream_header(4 * i, 0, 1, True) + b"x") for i in range(2)]
    again.exchange()
    server = again.server._state
    assert server.early.open_keys is not None
    again.delivers(late[0])
    assert again.server.stream(0) is not None
    again.advance(3 * server.recovery.pto_duration(2) + 0.001)
    assert server.early.open_keys is None
    again.delivers(late[1])
    assert again.server.stream(4) is None and again.server.closed is None


@pytest.mark.conformance("C13a")
@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_client_drops_0rtt_packets(when: str) -> None:
    again = Again()
    client = again.resume(b"")
    keys = client._state.early.seal_keys
    dcid, scid = client._state.local_cids.first, b"12345678"
    if when == "later":
        again.exchange()
        scid = again.server._state.local_cids.first
    header = bytes((0xD3,)) + QUIC_V1.to_bytes(4, "big")
    for cid in (dcid, scid):
        header += bytes((len(cid),)) + cid
    assert keys is not None
    packet = keys.seal(header + (0x4000 | 4 + 20 + 16).to_bytes(2, "big") + bytes(4), 4, 0, b"\1" + bytes(19))
    dropped = client.stats().counters.packets_dropped
    again.to_client([Train(packet, len(packet), TO_CLIENT)])
    assert client.closed is None and client.stats().counters.packets_dropped == dropped + 1
    assert not client._state.early.waiting


# -- rejection ---------------------------------------------------------------------------------------------------------


@pytest.mark.conformance("C09")
def test_rejected_data_arrives_once_by_1rtt() -> None:
    again = Again()
    client = again.resume(b"hello", early_data=False)
    unidirectional = client.open_stream(unidirectional=True)
    unidirectional.write(b"one way", fin=True)
    sent = again.from_client()
    again.to_server(sent)
    assert again.server.stream(0) is None  # not processed
    again.to_client(again.from_server())
    assert client.early_data_accepted is False and not client.sends_early_data
    again.exchange()
    for stream_id, data in ((0, b"hello"), (2, b"one way")):
        stream = again.server.stream(stream_id)
        assert stream is not None and stream.read() == data and stream.at_end
    assert unidirectional.send_done and client.closed is None and again.server.closed is None


@pytest.mark.conformance("C09")
def test_rejected_streams_obey_the_limits_of_now() -> None:
    again = Again()
    client = again.resume(b"x" * 3000, initial_max_data=500, initial_max_streams_bidi=1)
    beyond = client.open_stream()
    beyond.write(b"never")
    again.exchange()
    assert client.closed is None and again.server.closed is None
    with pytest.raises(StreamReset):
        beyond.read()
    assert not client.can_open_stream() and client.stream(beyond.id) is None
    stream = again.server.stream(0)
    assert stream is not None
    received = b""
    while data := stream.read():
        received += data
        again.exchange()
    assert received == b"x" * 3000


def test_rejected_in_another_protocol() -> None:
    """RFC 9001 §4.6.2: what was written was not meant for the protocol that was chosen now."""
    again = Again(client={"groups": (0x1D,)})
    client = again.resume(b"hello", early_data=False)
    client._state.early.alpn_protocol = "another"
    again.exchange()
    assert again.server.stream(0) is None and client.closed is None
    assert client.open_stream().id == 0


@pytest.mark.conformance("C09a")
def test_an_ack_for_a_rejected_packet() -> None:
    again = Again()
    client = again.resume(b"hello", early_data=False)
    again.exchange()
    server = again.server._state
    space = server.spaces[2]
    assert client.early_data_accepted is False and space.seal_keys is not None
    header = bytes((0x43,)) + server.peer_cids.current.cid + space.next_packet_number.to_bytes(4, "big")
    packet = space.seal_keys.seal(header, 4, space.next_packet_number, frame.write_ack([(0, 0)], 0))
    again.to_client([Train(packet, len(packet), TO_CLIENT)])
    assert code_of(client.closed) == E.PROTOCOL_VIOLATION and "rejected" in str(client.closed)


@pytest.mark.conformance("C09a", "TLS06")
def test_a_hello_retry_request_rejects() -> None:
    again = Again(client={"groups": (0x1D, 0x17)})
    client = again.resume(b"hello", groups=(0x17,))
    again.exchange()
    assert client.group_name == "secp256r1"
    assert client.early_data_accepted is False and client.session_resumed
    stream = again.server.stream(0)
    assert stream is not None and stream.read() == b"hello"


def test_reset_in_0rtt_and_rejected() -> None:
    again = Again()
    client = again.resume(b"", early_data=False)
    stream = client.open_stream()
    stream.write(b"abc")
    first = again.from_client()
    stream.reset(7)
    again.to_server(first + again.from_client())
    again.exchange()
    peer = again.server.stream(0)
    assert peer is not None and peer.reset_code == 7 and peer.bytes_received == 0


# -- on the way --------------------------------------------------------------------------------------------------------


def test_lost_0rtt_packets_are_sent_again() -> None:
    again = Again()
    client = again.resume(b"y" * 4000)
    first, *lost = again.from_client()
    assert lost
    again.to_server([first])
    again.exchange(rounds=40, delay=0.2)
    stream = again.server.stream(0)
    assert client.early_data_accepted and stream is not None and stream.read() == b"y" * 4000


def test_before_the_client_hello_is_complete() -> None:
    again = Again(client={"groups": (0x1D,)})
    client = again.resume(b"z" * 2000)
    first, *others = again.from_client()
    again.to_server([*others, first])  # without a connection there is nothing to keep them for
    again.exchange(rounds=40, delay=0.2)
    stream = again.server.stream(0)
    assert client.handshake_confirmed and stream is not None and stream.read() == b"z" * 2000


def test_after_a_retry() -> None:
    again = Again()
    client = again.resume(b"hello", retry="always")
    again.to_server(again.from_client())
    again.to_client(again.from_server())
    second = again.from_client()
    assert (QUIC_V1, ZERO_RTT) in packet_types(second)
    again.to_server(second)
    stream = again.server.stream(0)
    assert stream is not None and stream.read() == b"hello" and again.server.address_validated
    again.exchange()
    assert client.early_data_accepted


@pytest.mark.conformance("V2-09")
def test_no_0rtt_packet_of_the_negotiated_version() -> None:
    """The server moves to version 2; what it takes of 0-RTT is of version 1."""
    versions = {"versions": (QUIC_V2, QUIC_V1)}
    again = Again(client={"versions": (QUIC_V1,)}, server={"versions": (QUIC_V1,)})
    again.alter_session(lambda session: session)
    again.client_endpoint.configuration = replace(
        again.client_endpoint.configuration, versions=(QUIC_V2, QUIC_V1), original_version=QUIC_V1
    )
    client = again.resume(b"hello", **versions)
    stream = client.stream(0)
    first = again.from_client()
    assert (QUIC_V1, ZERO_RTT) in packet_types(first)
    again.to_server(first)
    assert again.server.version == QUIC_V2
    received = again.server.stream(0)
    assert received is not None and received.read() == b"hello"
    answers = again.from_server()
    client.open_stream().write(b"more")
    initial = answers[0].data[: read_long_header(answers[0].data, 0, VERSIONS[QUIC_V2]).end]
    again.to_client([Train(initial, len(initial), TO_CLIENT)])
    assert not client.handshake_complete
    assert client.version == QUIC_V2 and stream is not None
    sent = again.from_client()
    assert (QUIC_V2, ZERO_RTT) not in packet_types(sent)
    again.to_client(answers)
    again.exchange()
    assert client.early_data_accepted and client.handshake_confirmed


def test_another_version_starts_without_a_session() -> None:
    again = Again(client={"versions": (QUIC_V1,)}, server={"versions": (QUIC_V1,)})
    again.client_endpoint.configuration = replace(again.client_endpoint.configuration, versions=(QUIC_V2,))
    assert not again.resume(b"", versions=(QUIC_V2,)).sends_early_data


# -- attacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.attack("c: 0-RTT replay")
def test_a_replayed_first_flight() -> None:
    """To the same server a second time, and to another process with the same keys that has just begun."""
    again = Again()
    again.resume(b"pay")
    flight = again.from_client()
    guard = MemoryReplayGuard(again.server_endpoint._environment.wall_time())
    again.restart_server(replay_guard=guard)
    again.to_server(flight)
    assert again.server.early_data_accepted and again.server.stream(0) is not None
    again.restart_server(replay_guard=guard)
    again.to_server(flight)
    assert again.server.early_data_accepted is False and again.server.stream(0) is None
    assert again.server.session_resumed  # the handshake goes on
    again.restart_server(replay_guard=MemoryReplayGuard(environment(7).wall_time() + 1))
    again.to_server(flight)
    assert again.server.early_data_accepted is False and again.server.stream(0) is None


@pytest.mark.attack("CVE-2024-49214 / CVE-2024-39321")
def test_0rtt_from_an_address_that_is_not_the_clients() -> None:
    again = Again()
    again.resume(b"please")
    again.to_server(again.from_client(), path=Path(("192.168.1.1", 4000)))
    server = again.server
    assert server.stream(0) is not None and server.path.remote[0] == "192.168.1.1"
    assert not server.address_validated and server.may_be_a_replay
    again.restart_server()
    again.client = again.client_endpoint.connect(again.client.path, again.now)
    again.exchange()
    assert again.server.address_validated and not again.server.may_be_a_replay


@pytest.mark.attack("c: undecryptable flood before keys")
def test_a_flood_before_keys() -> None:
    again = Again()
    again.resume(b"")
    packets = [again.early_packet(b"\1" + bytes(100)) for _ in range(3 * MAX_WAITING)]
    (first, *_) = again.from_client()
    again.to_server([Train(first.data, first.segment_size, TO_CLIENT)])
    state = again.server._state
    state.early.open_keys = None  # as if the ClientHello were not complete
    for packet in packets:
        again.delivers(packet)
    assert len(state.early.waiting) == MAX_WAITING and again.server.closed is None


@pytest.mark.attack("c: session ticket flood")
def test_a_flood_of_tickets() -> None:
    store = MemorySessionStore()
    peer = Peer("server", session_store=store)
    (key,) = store._tokens
    for number in range(2 * MAX_KEPT):
        ticket = NewSessionTicket(3600, 1, b"n", b"ticket %d" % number, {}).write()
        offset = peer.state.spaces[2].crypto.outgoing.end
        peer.state.spaces[2].crypto.outgoing.write(ticket)
        peer.sends(frame.write_crypto(offset, ticket))
    assert peer.engine.closed is None and peer.engine._state.early.sessions > MAX_KEPT
    assert len(store._tokens[key]) <= 4


@pytest.mark.parametrize("others", [{"early_data": False}, {}])
def test_datagrams_in_0rtt(others: dict[str, object]) -> None:
    again = Again()
    client = again.resume(b"", **others)
    assert client.max_datagram_payload > 1000 and client.send_datagram(b"now")
    again.to_server(again.from_client())
    assert again.server.receive_datagram() == (None if others else b"now")

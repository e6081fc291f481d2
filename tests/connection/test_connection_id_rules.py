"""Connection IDs: issued, used, asked back and retired, as it can be seen on the wire (RFC 9000 §5.1, §19.15)."""

from __future__ import annotations

import pytest
from peer import ONE_RTT, TO_CLIENT, Pair, Peer, opens_short

from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Train
from quicstack.transport.outbox import SentValue
from quicstack.wire import frame as f
from quicstack.wire.frame_study import Frame
from quicstack.wire.packet import read_long_header
from quicstack.wire.version import VERSIONS

E = TransportErrorCode
PREFERRED: dict[str, object] = {"preferred_ipv4": ("192.0.2.99", 8443)}


def named(frames: list[Frame], name: str) -> list[dict[str, object]]:
    return [frame.fields for frame in frames if frame.name == name]


def new(sequence: int, retire_prior_to: int = 0) -> bytes:
    cid = b"id" + sequence.to_bytes(6, "big")
    return f.write_new_connection_id(sequence, retire_prior_to, cid, sequence.to_bytes(16, "big"))


def short_headers(pair: Pair, trains: list[Train], server: bool) -> list[Frame]:
    """The frames of the 1-RTT packets among what one side of a pair sent."""
    state = (pair.client if server else pair.server)._state
    frames: list[Frame] = []
    for train in trains:
        for datagram in train.datagrams():
            while datagram and datagram[0] & 0x80:
                datagram = datagram[read_long_header(datagram, 0, VERSIONS[1]).end :]
            if datagram and state.spaces[ONE_RTT].open_keys is not None:
                frames += opens_short(state, datagram)[1]
    return frames


def watch(pair: Pair, rounds: int = 12) -> tuple[list[Frame], list[Frame]]:
    """Run a handshake and more; the 1-RTT frames of the client and of the server."""
    by_client: list[Frame] = []
    by_server: list[Frame] = []
    for _ in range(rounds):
        to_server, to_client = pair.from_client(), pair.from_server()
        pair.now += 0.01
        pair.client_endpoint.handle_timeout(pair.now)
        pair.server_endpoint.handle_timeout(pair.now)
        pair.to_server(to_server)
        pair.to_client(to_client)
        by_client += short_headers(pair, to_server, server=False)
        by_server += short_headers(pair, to_client, server=True)
    return by_client, by_server


# -- zero-length IDs -----------------------------------------------------------------------------------------------


@pytest.mark.conformance("T22")
def test_an_endpoint_without_ids_issues_none() -> None:
    """§19.15: it may be given some, though."""
    pair = Pair(client={"connection_id_length": 0})
    by_client, by_server = watch(pair)
    assert pair.client.handshake_confirmed and pair.client.closed is None
    assert not named(by_client, "NEW_CONNECTION_ID")
    assert [fields["sequence_number"] for fields in named(by_server, "NEW_CONNECTION_ID")] == [1, 2, 3]


@pytest.mark.conformance("T22")
@pytest.mark.parametrize("offender", ["client", "server"])
def test_an_endpoint_without_ids_that_issues_one(offender: str) -> None:
    """§19.15: PROTOCOL_VIOLATION, as the offender reads it. (Our servers always have IDs, so one is made to forget.)"""
    pair = Pair(client={"connection_id_length": 0 if offender == "client" else 8})
    pair.exchange()
    liar, judge = (pair.client, pair.server) if offender == "client" else (pair.server, pair.client)
    if offender == "server":
        judge._state.peer_cids.current.cid = b""
    liar._state.outbox.push(SentValue(lambda: f.write_new_connection_id(9, 0, b"abcdefgh", bytes(16))))
    if offender == "client":
        pair.exchange(rounds=4)
        error = liar.closed
        assert isinstance(error, ConnectionClosed) and error.by_peer
        assert error.code == E.PROTOCOL_VIOLATION
    else:
        pair.to_client(pair.from_server())
        assert getattr(judge.closed, "code", None) == E.PROTOCOL_VIOLATION


# -- IDs that we issue ---------------------------------------------------------------------------------------------


@pytest.mark.conformance("T23")
@pytest.mark.parametrize("limit", [2, 3, 100])
@pytest.mark.parametrize("preferred", [False, True])
def test_no_more_are_issued_than_the_peer_takes(limit: int, preferred: bool) -> None:
    """§5.1.1: the one of the handshake counts, and the one in preferred_address."""
    pair = Pair({"active_connection_id_limit": limit, "use_preferred_address": False}, PREFERRED if preferred else {})
    by_client, by_server = watch(pair)
    assert pair.client.closed is None
    issued = named(by_server, "NEW_CONNECTION_ID")
    assert 1 + preferred + len(issued) <= limit
    assert 1 + preferred + len(issued) == min(limit, 4)


@pytest.mark.conformance("T24a")
@pytest.mark.parametrize("preferred", [False, True])
def test_numbers_begin_after_what_the_handshake_gave(preferred: bool) -> None:
    """§5.1.1: with 1, or with 2 when preferred_address has number 1; IDs and tokens differ from those before."""
    pair = Pair({"use_preferred_address": False}, PREFERRED if preferred else {})
    _, by_server = watch(pair)
    issued = named(by_server, "NEW_CONNECTION_ID")
    assert [fields["sequence_number"] for fields in issued] == list(range(1 + preferred, 4))
    parameters = pair.client.peer_transport_parameters
    assert parameters is not None
    cids = [fields["connection_id"] for fields in issued] + [parameters.initial_source_connection_id]
    tokens = [fields["stateless_reset_token"] for fields in issued] + [parameters.stateless_reset_token]
    if parameters.preferred_address is not None:
        cids.append(parameters.preferred_address.connection_id)
        tokens.append(parameters.preferred_address.stateless_reset_token)
    assert len(set(cids)) == len(set(tokens)) == 4


@pytest.mark.conformance("T24")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_a_retired_id_is_replaced(plays: str) -> None:
    """§5.1.1: one for one, with the next number, and the packets under the new one are taken."""
    peer = Peer(plays)
    for expected, retired in [([4], [1]), ([5, 6], [2, 3]), ([], [2])]:
        peer.sends(*[f.write_limit(f.RETIRE_CONNECTION_ID, number) for number in retired])
        issued = named(peer.hears(ack=True), "NEW_CONNECTION_ID")
        assert [fields["sequence_number"] for fields in issued] == expected
        for fields in issued:
            cid = fields["connection_id"]
            assert isinstance(cid, bytes)
            peer.state.peer_cids.current.cid = cid
            assert acknowledged(peer, peer.sends(b"\x01"))


def acknowledged(peer: Peer, number: int) -> bool:
    """The engine reports a packet as received within its max_ack_delay."""
    for frame in peer.hears() + peer.advance(0.03):
        ranges = frame.fields.get("ranges", ())
        assert isinstance(ranges, list | tuple)
        if any(smallest <= number <= largest for smallest, largest in ranges):
            return True
    return False


@pytest.mark.conformance("T24b")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_every_issued_id_is_good_at_any_time(plays: str) -> None:
    """§5.1.1: a peer that changes it with each packet, and back, without moving."""
    peer = Peer(plays)
    cids = [peer.state.peer_cids.current.cid, *[known.cid for known in peer.state.peer_cids.spare]]
    assert len(cids) == 4
    path = peer.engine.path
    for cid in cids + cids[::-1]:
        peer.state.peer_cids.current.cid = cid
        assert acknowledged(peer, peer.sends(b"\x01"))
        assert not named(peer.hears(), "PATH_CHALLENGE")
    assert peer.engine.path == path


@pytest.mark.conformance("T24b")
def test_the_id_of_the_preferred_address_is_good_at_once() -> None:
    """§5.1.1, §9.6.1: in the handshake already, and at the address that the handshake goes to."""
    pair = Pair({"use_preferred_address": False}, PREFERRED)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    parameters = pair.client.peer_transport_parameters
    assert parameters is not None and parameters.preferred_address is not None
    pair.client._state.peer_cids.current.cid = parameters.preferred_address.connection_id
    sent = pair.from_client()
    assert read_long_header(sent[0].data, 0, VERSIONS[1]).dcid == parameters.preferred_address.connection_id
    pair.to_server(sent)
    assert pair.server.handshake_confirmed
    pair.client.open_stream().write(b"to the other ID")
    pair.now += 0.01
    pair.to_server(pair.from_client())
    received = pair.server.stream(0)
    assert received is not None and received.read() == b"to the other ID"
    assert pair.server.path == TO_CLIENT


# -- IDs that the peer issues --------------------------------------------------------------------------------------


@pytest.mark.conformance("T23")
def test_as_many_as_we_take_and_one_more() -> None:
    """§5.1.1: counted after what the same frame asks back."""
    peer = Peer(active_connection_id_limit=5)
    peer.sends(new(4))
    assert peer.closed_with() is None
    peer.sends(new(5, 1))
    assert peer.closed_with() is None
    peer.sends(new(6))
    assert peer.closed_with() == E.CONNECTION_ID_LIMIT_ERROR


@pytest.mark.conformance("T25")
@pytest.mark.parametrize("plays", ["client", "server"])
def test_what_is_asked_back_is_not_used_any_more(plays: str) -> None:
    """§5.1.2: packets bear a new ID from then on, and each old one is retired."""
    peer = Peer(plays)
    peer.engine.open_stream().write(bytes(100))
    peer.hears(ack=True)
    peer.sends(new(4, 2), new(5, 3))
    issued = peer.state.local_cids.active
    allowed = {issued[3], b"id" + (4).to_bytes(6, "big"), b"id" + (5).to_bytes(6, "big")}
    peer.engine.open_stream().write(bytes(3000))
    frames: list[Frame] = []
    for _ in range(3):
        peer.pair.now += 0.01
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            for datagram in train.datagrams():
                assert datagram[1:9] in allowed
                frames += peer.opens(datagram)[1]
    assert sorted(fields["sequence_number"] for fields in named(frames, "RETIRE_CONNECTION_ID")) == [0, 1, 2]  # type: ignore[type-var]
    assert named(frames, "STREAM")


@pytest.mark.conformance("T27", "T27a")
def test_a_lower_retire_prior_to_gives_nothing_back() -> None:
    """§19.15: what was asked back stays so when a later frame names less, and is retired once for each number."""
    peer = Peer()
    peer.sends(new(9, 7))
    assert sorted(fields["sequence_number"] for fields in named(peer.hears(ack=True), "RETIRE_CONNECTION_ID")) == [
        0, 1, 2, 3,
    ]  # fmt: skip
    peer.sends(new(10, 0), new(10, 0), new(9, 7))
    assert not named(peer.hears(ack=True), "RETIRE_CONNECTION_ID")
    peer.sends(new(6), new(5), new(6))
    assert [fields["sequence_number"] for fields in named(peer.hears(ack=True), "RETIRE_CONNECTION_ID")] == [6, 5]
    peer.sends(new(6), new(5))
    assert not named(peer.hears(ack=True) + peer.advance(1.0), "RETIRE_CONNECTION_ID")
    assert peer.engine.closed is None


@pytest.mark.conformance("T26")
def test_retirements_without_acknowledgement_end_it() -> None:
    """§5.1.2: twice our limit has to be borne, without end it is not."""
    peer = Peer(active_connection_id_limit=4)
    for number in range(4, 4 + 2 * 4):
        peer.sends(new(number, number))
        assert len(named(peer.hears(), "RETIRE_CONNECTION_ID")) <= 4
    assert peer.engine.closed is None
    for number in range(12, 200):
        peer.sends(new(number, number))
        if peer.engine.closed is not None:
            break
    assert number <= 4 * 4 + 4
    assert peer.closed_with() == E.CONNECTION_ID_LIMIT_ERROR


@pytest.mark.conformance("T26")
def test_retirements_that_are_acknowledged_never_end() -> None:
    """§5.1.2: it is what waits that is bounded, not how often IDs change."""
    peer = Peer(active_connection_id_limit=4)
    for number in range(4, 104):
        peer.sends(new(number, number))
        peer.hears(ack=True)
    assert peer.engine.closed is None

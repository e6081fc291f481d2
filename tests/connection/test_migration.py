"""Clients that move, to an address of theirs or to one that the server prefers (RFC 9000 §9)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from peer import ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer

from quicstack.connection import handshake
from quicstack.connection.paths import _preferred_remote
from quicstack.errors import MigrationRefused, TransportError, TransportErrorCode
from quicstack.train import Path, SendError, Train
from quicstack.transport.path import MigrationOutcome
from quicstack.wire.frame import write_ack
from quicstack.wire.frame_study import Frame
from quicstack.wire.ranges import RangeSet
from quicstack.wire.transport_parameters import read_transport_parameters, write_transport_parameters

WLAN = Path(TO_SERVER.remote, ("198.51.100.77", 40000), 0, 1)
SEEN_AS = Path(("198.51.100.77", 40000))
PREFERRED = ("192.0.2.99", 8443)


class Moving(Pair):
    """A pair whose client has two addresses, and whose server may have two as well."""

    def __init__(self, **settings: dict[str, object]) -> None:
        super().__init__(**settings)
        self.sent: list[tuple[str, Path, int, bytes]] = []
        self.lose_wlan = False
        self.step(12)

    def step(self, rounds: int = 8) -> None:
        for _ in range(rounds):
            to_server, to_client = self.from_client(), self.from_server()
            self.now += 0.01
            self.client_endpoint.handle_timeout(self.now)
            self.server_endpoint.handle_timeout(self.now)
            for train in to_server:
                remote = SEEN_AS.remote if train.path.socket else TO_CLIENT.remote
                local = train.path.remote if train.path.remote != TO_SERVER.remote else None
                self.sent.append(("client", train.path, len(train.data), train.data[1:9]))
                if not (self.lose_wlan and train.path.socket):
                    seen = Path(remote, local)
                    self.server_endpoint.receive(Train(train.data, train.segment_size, seen, train.ecn), self.now)
            for train in to_client:
                socket = int(train.path.remote == SEEN_AS.remote)
                source = train.path.local or TO_SERVER.remote
                self.sent.append(("server", train.path, len(train.data), train.data[1:9]))
                here = Path(source, WLAN.local if socket else None, 0, socket)
                self.client_endpoint.receive(Train(train.data, train.segment_size, here, train.ecn), self.now)


@pytest.mark.conformance("T68", "T55")
def test_a_client_moves() -> None:
    """§9.1, §9.2, §9.5: the new path is proven by full datagrams first, and each address has IDs of its own."""
    pair = Moving()
    before = {cid for _, _, _, cid in pair.sent}
    pair.sent.clear()
    migration = pair.client.migrate(WLAN, pair.now)
    stream = pair.client.open_stream()
    pair.step()
    assert migration.outcome is MigrationOutcome.MOVED
    assert pair.client.path == WLAN and pair.server.path == SEEN_AS
    first = next(entry for entry in pair.sent if entry[0] == "client" and entry[1] == WLAN)
    assert first[2] >= 1200
    for side, new in (("client", WLAN), ("server", SEEN_AS)):
        on_new = {cid for who, path, _, cid in pair.sent if who == side and path == new}
        on_old = {cid for who, path, _, cid in pair.sent if who == side and path != new}
        assert on_new and not on_new & (on_old | before)
    stream.write(b"hello", fin=True)
    pair.step()
    (heard,) = list(pair.server._state.streams)
    assert heard.read() == b"hello"
    back = pair.client.migrate(TO_SERVER, pair.now)
    pair.step()
    assert back.outcome is MigrationOutcome.MOVED and pair.server.path == TO_CLIENT


def test_a_path_that_carries_nothing_is_not_taken() -> None:
    """§9.2: the connection stays where it is."""
    pair = Moving()
    pair.lose_wlan = True
    migration = pair.client.migrate(WLAN, pair.now)
    pair.step(600)
    assert migration.outcome is MigrationOutcome.FAILED
    assert pair.client.path == TO_SERVER and pair.server.path == TO_CLIENT
    assert pair.client.closed is None
    assert 1 <= len([entry for entry in pair.sent if entry[1] == WLAN]) <= 4


@pytest.mark.conformance("T60")
def test_nobody_moves_before_the_handshake_is_confirmed() -> None:
    pair = Pair()
    with pytest.raises(MigrationRefused, match="not confirmed"):
        pair.client.migrate(WLAN, pair.now)
    assert {train.path for train in pair.from_client()} == {TO_SERVER}


@pytest.mark.conformance("T61")
def test_a_server_may_forbid_moving() -> None:
    pair = Moving(server={"disable_active_migration": True})
    with pytest.raises(MigrationRefused, match="disable_active_migration"):
        pair.client.migrate(WLAN, pair.now)
    with pytest.raises(MigrationRefused, match="only clients"):
        pair.server.migrate(SEEN_AS, pair.now)


@pytest.mark.conformance("T61")
def test_who_moves_all_the_same_is_proven_and_served() -> None:
    peer = Peer(disable_active_migration=True)
    peer.sends(b"\x01", path=SEEN_AS)
    frames = peer.hears()
    assert "PATH_CHALLENGE" in [frame.name for frame in frames]
    assert peer.engine.closed is None and not peer.endpoint.counters.stateless_resets_sent


@pytest.mark.conformance("T66")
def test_both_paths_are_challenged_after_a_move() -> None:
    """§9.3.3."""
    peer = Peer()
    peer.sends(b"\x01", path=SEEN_AS)
    challenged: dict[Path, Frame] = {}
    for _ in range(3):
        peer.pair.now += 0.01
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            for frame in peer.opens(train.data)[1]:
                if frame.name == "PATH_CHALLENGE":
                    challenged[train.path] = frame
    assert set(challenged) == {SEEN_AS, TO_CLIENT}
    assert len({frame.fields["data"] for frame in challenged.values()}) == 2


@pytest.mark.conformance("T67")
@pytest.mark.parametrize(("host", "is_reset"), [(TO_CLIENT.remote[0], False), ("203.0.113.5", True)])
def test_another_address_is_another_path(host: str, is_reset: bool) -> None:
    """§9.4: congestion window and RTT begin anew unless only the port changed."""
    peer = Peer()
    recovery = peer.engine._state.recovery
    controller = recovery.congestion_controller
    peer.sends(b"\x01", path=Path((host, 61111)))
    assert (recovery.congestion_controller is not controller) is is_reset
    assert (recovery.rtt.first_rtt_sample is None) is is_reset


def test_who_comes_back_soon_finds_what_was_known() -> None:
    """§9.4."""
    peer = Peer()
    recovery = peer.engine._state.recovery
    controller = recovery.congestion_controller
    peer.sends(b"\x01", path=SEEN_AS)
    assert recovery.congestion_controller is not controller
    peer.sends(b"\x01", path=TO_CLIENT)
    assert recovery.congestion_controller is controller


@pytest.mark.conformance("T69", "T69a")
def test_a_server_prefers_another_address() -> None:
    """§9.6: proven first, both ways, then used; the ID that came with it has number 1."""
    pair = Moving(server={"preferred_ipv4": PREFERRED})
    pair.step()
    assert pair.client.path.remote == PREFERRED
    assert pair.server.path.local == PREFERRED
    stream = pair.client.open_stream()
    stream.write(b"over there", fin=True)
    pair.step()
    (heard,) = list(pair.server._state.streams)
    assert heard.read() == b"over there"
    assert pair.server._state.local_cids._next > 2


def test_a_client_need_not_go_where_the_server_prefers() -> None:
    pair = Moving(client={"use_preferred_address": False}, server={"preferred_ipv4": PREFERRED})
    pair.step()
    assert pair.client.path == TO_SERVER


@pytest.mark.conformance("T161")
@pytest.mark.attack("c: probing request forgery")
@pytest.mark.parametrize("host", ["127.0.0.1", "224.0.0.1"])
def test_nobody_is_sent_to_the_loopback(host: str) -> None:
    """§21.5.6."""
    pair = Moving(server={"preferred_ipv4": (host, 8443)})
    pair.step()
    assert {path.remote for who, path, _, _ in pair.sent if who == "client"} <= {TO_SERVER.remote}


@pytest.mark.attack("c: probing request forgery")
@pytest.mark.parametrize(
    ("server", "preferred", "goes"),
    [
        ("8.8.8.8", "10.0.0.1", False),
        ("8.8.8.8", "169.254.169.254", False),
        ("8.8.8.8", "8.8.4.4", True),
        ("10.0.0.2", "10.0.0.1", True),
        ("10.0.0.2", "127.0.0.1", False),
        ("server.simulated", "10.0.0.1", True),
    ],
)
def test_a_server_of_the_internet_sends_nobody_into_his_own_network(server: str, preferred: str, goes: bool) -> None:
    """§21.5.6: the first datagrams to another address could be a request to something that trusts the client."""
    pair = Moving(server={"preferred_ipv4": (preferred, 8443)})
    pair.step()
    state = pair.client._state
    state.path.address = Path((server, 443))
    parameter = pair.server._state.local_parameters.preferred_address
    assert parameter is not None
    assert (_preferred_remote(state, parameter) is not None) is goes


@pytest.mark.conformance("MTU02")
def test_a_host_that_cannot_send_1200_bytes_closes() -> None:
    """§14.2."""
    pair = Moving()
    pair.client.open_stream().write(bytes(5000))
    train = pair.client_endpoint.next_train(pair.now)
    assert train is not None and train.segment_size == 1200
    pair.client_endpoint.send_failed(train, SendError.TOO_BIG, pair.now)
    (close,) = pair.from_client()
    assert len(close.data) < 1200
    pair.to_server([close])
    assert getattr(pair.server.closed, "code", None) == TransportErrorCode.NO_VIABLE_PATH


def test_a_probe_that_the_host_refuses_costs_nothing() -> None:
    on = {"path_mtu_discovery": True}
    pair = Moving(client=on, server=on)
    assert pair.client.stats().max_datagram_size == 1472
    assert pair.server.stats().max_datagram_size == 1472
    pair.client.open_stream().write(bytes(5000))
    train = pair.client_endpoint.next_train(pair.now)
    assert train is not None and train.segment_size == 1472
    pair.client_endpoint.send_failed(train, SendError.TOO_BIG, pair.now)
    assert pair.client.stats().max_datagram_size == 1200 and pair.client.closed is None


@pytest.mark.attack("c: NAT-rebind storm")
def test_a_storm_of_addresses_is_bounded() -> None:
    """A source port for each packet: few paths are remembered, few IDs used up, and the connection goes on."""
    peer = Peer()
    for port in range(2000, 2200):
        peer.sends(b"\x01", path=Path((TO_CLIENT.remote[0], port)))
        peer.hears()
    assert len(peer.engine._state.other_paths) <= 3
    assert peer.engine.closed is None
    peer.sends(b"\x01", path=TO_CLIENT)
    assert peer.engine.path == TO_CLIENT and peer.state.spaces[ONE_RTT].next_packet_number > 200


@pytest.mark.conformance("T70")
@pytest.mark.attack("c: preferred_address CID length 0")
def test_a_server_without_ids_has_no_preferred_address() -> None:
    """§18.2: neither as a server that uses none, nor with an empty one in the parameter."""
    pair = Pair(server={"preferred_ipv4": PREFERRED})
    pair.to_server(pair.from_client())
    client = pair.client._state
    parameters = pair.server._state.local_parameters
    whole = write_transport_parameters(parameters)
    assert parameters.preferred_address is not None
    emptied = replace(parameters, preferred_address=replace(parameters.preferred_address, connection_id=b""))
    with pytest.raises(TransportError) as caught:
        read_transport_parameters(write_transport_parameters(emptied), from_server=True)
    assert caught.value.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR
    client.peer_scid = parameters.initial_source_connection_id
    client.peer_cids.replace_first(b"")
    with pytest.raises(TransportError) as caught:
        handshake.apply_peer_parameters(client, whole, pair.now)
    assert caught.value.code == TransportErrorCode.TRANSPORT_PARAMETER_ERROR


@pytest.mark.conformance("T58")
@pytest.mark.parametrize("back_on", [SEEN_AS, TO_CLIENT], ids=["the same path", "another path"])
def test_a_response_proves_the_path_wherever_it_comes_an_ack_does_not(back_on: Path) -> None:
    """§8.2.3."""
    peer = Peer()
    peer.sends(b"\x01", path=SEEN_AS)
    peer.engine.open_stream(unidirectional=True).write(bytes(50_000))
    answer = None
    numbers = []
    for _ in range(4):
        peer.pair.now += 0.01
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            for datagram in train.datagrams():
                number, found = peer.opens(datagram)
                numbers.append(number)
                for frame in found:
                    if frame.name == "PATH_CHALLENGE" and train.path == SEEN_AS:
                        answer = frame.fields["data"]
    peer.received.update(numbers)
    acked = RangeSet()
    for number in numbers:
        acked.add(number, number + 1)
    ack, _ = peer.packet(write_ack([(start, stop - 1) for start, stop in reversed(list(acked))], 0))
    peer.delivers(ack, SEEN_AS)
    assert not peer.engine._state.path.validated
    assert isinstance(answer, bytes)
    peer.delivers(peer.packet(b"\x1b" + answer)[0], back_on)
    assert peer.engine.path == SEEN_AS and peer.engine._state.path.validated


@pytest.mark.conformance("T69")
def test_nothing_but_probes_from_the_preferred_address_before_it_is_proven() -> None:
    """§9.6.2: the server answers and probes from there, and sends everything else from where it was."""
    peer = Peer(preferred_ipv4=PREFERRED)
    there = Path(TO_CLIENT.remote, PREFERRED)
    peer.engine.open_stream(unidirectional=True).write(bytes(3000))
    peer.sends(b"\x1a12345678" + bytes(1200), path=there)
    peer.sends(b"\x01", path=there)
    heard: dict[Path, set[str]] = {}
    for _ in range(3):
        peer.pair.now += 0.03
        peer.endpoint.handle_timeout(peer.now)
        while (train := peer.endpoint.next_train(peer.now)) is not None:
            for datagram in train.datagrams():
                heard.setdefault(train.path, set()).update(frame.name for frame in peer.opens(datagram)[1])
    assert heard[there] == {"PATH_RESPONSE", "PATH_CHALLENGE", "PADDING"}
    assert "STREAM" in heard[TO_CLIENT]

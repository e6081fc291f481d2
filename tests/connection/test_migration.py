"""Clients that move, to an address of theirs or to one that the server prefers (RFC 9000 §9)."""

from __future__ import annotations

import pytest
from peer import ONE_RTT, TO_CLIENT, TO_SERVER, Pair, Peer

from quicstack.errors import MigrationRefused, TransportErrorCode
from quicstack.train import Path, SendError, Train
from quicstack.transport.path import MigrationOutcome
from quicstack.wire.frame_study import Frame

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
        assert on_new and not on_new & on_old
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

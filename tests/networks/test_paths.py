"""Paths that change, forget, mark, shrink or take for ever."""

from __future__ import annotations

from random import Random

import pytest

from quicstack.simulator import (
    BulkTransfer,
    Datagram,
    Delay,
    Direction,
    EcnBleach,
    EcnMark,
    Host,
    Loss,
    MtuLimit,
    Nat,
    Node,
    Queue,
    Simulation,
    configurations,
)

UP, DOWN = Random("up").randbytes(400_000), Random("down").randbytes(400_000)


class Restless(BulkTransfer):
    """Says something every 100 ms. Who only listens behind a NAT that rebinds cannot be found again by the other."""

    def start(self, host: Host) -> None:
        super().start(host)
        self.beat(host)

    def beat(self, host: Host) -> None:
        if self.connection is not None and self.connection.closed is None:
            self.connection.ping()
            host.wake()
            host.clock.after(0.1, self.beat, host)


def hosts(client_application: type[BulkTransfer] = BulkTransfer, **settings: object):
    """A client, what runs on it, and the same of a server, with a transfer each way."""
    for_client, for_server = configurations(**settings)
    server = Host(for_server, server=True, application=(at_server := BulkTransfer(DOWN)))
    client = Host(for_client, application=(at_client := client_application(UP, to=server)))
    return client, at_client, server, at_server


def run(*nodes: Node, seed: int = 0, limit: float = 100.0, **settings: object) -> tuple[Simulation, Host, Host]:
    """A transfer each way over these nodes arrives whole."""
    client, at_client, server, at_server = hosts(**settings)
    simulation = Simulation([client, *nodes, server], seed=seed)
    simulation.run(until=lambda: at_client.finished and at_server.finished, limit=limit)
    assert [transfer.received == UP for transfer in at_server.transfers] == [True]
    assert [transfer.received == DOWN for transfer in at_client.transfers] == [True]
    assert len(server.endpoint.connections) == 1
    return simulation, client, server


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("addresses", [["203.0.113.1"], ["203.0.113.1", "203.0.113.2"]], ids=["port", "address"])
def test_a_nat_that_rebinds_all_the_time(addresses: list[str], seed: int) -> None:
    nat = Nat(addresses, rebind_at=[0.2 + 0.25 * number for number in range(400)])
    run(nat, Delay(0.02), Loss(0.01), Queue(50), seed=seed, client_application=Restless)
    assert nat.rebindings >= 2


def test_a_nat_that_forgets_the_silent() -> None:
    """The connection outlives the mapping; whoever is behind the NAT has to speak first."""
    client, at_client, server, at_server = hosts(max_idle_timeout=300.0)
    nat = Nat(idle_timeout=30.0)
    simulation = Simulation([client, nat, Delay(0.02), server])
    simulation.run(until=lambda: at_client.finished and at_server.finished)
    simulation.run(until=simulation.now + 100.0)
    connection = at_client.connection
    assert connection is not None
    stream = connection.open_stream()
    stream.owner = connection  # none of the transfer's
    stream.write(b"still there?", fin=True)
    simulation.run(until=lambda: stream.readable > 0, limit=5.0)
    assert nat.rebindings == 1
    assert stream.peek(4) == DOWN[:4]


def test_marks_slow_a_sender_down_without_loss() -> None:
    _, client, server = run(Delay(0.02), EcnMark(0.02), Queue(1000))
    for host in (client, server):
        (connection,) = host.endpoint.connections
        assert connection.stats().counters.packets_lost == 0
        assert connection._state.recovery.congestion_controller.ssthresh < float("inf")


@pytest.mark.parametrize("codepoint", [0, 1, 3])
def test_a_path_that_spoils_ecn_is_used_without(codepoint: int) -> None:
    bleach = EcnBleach(codepoint)
    run(Delay(0.02), bleach, Queue(100))


def test_packets_fit_every_path_that_quic_can_use() -> None:
    """RFC 9000 §14: 1200 bytes of payload are always allowed, and what is larger is a probe, three for each size."""
    limit = MtuLimit(1200 + 28)
    run(Delay(0.02), limit, path_mtu_discovery=True)
    assert 3 <= limit.lanes[Direction.FORWARD].dropped <= 3 * 5


@pytest.mark.conformance("MTU01")
@pytest.mark.parametrize(("carries", "at_least"), [(1300, 1268), (1472, 1472), (1492, 1472)])
def test_datagrams_grow_to_what_the_path_carries(carries: int, at_least: int) -> None:
    """RFC 9000 §14.3, RFC 8899: few datagrams are larger than the path, and their loss slows nobody down."""
    limit = MtuLimit(carries + 28)
    _, client, server = run(Delay(0.005), Queue(2000, rate=4e6), limit, path_mtu_discovery=True)
    for host, direction in ((client, Direction.FORWARD), (server, Direction.BACKWARD)):
        (connection,) = host.endpoint.connections
        assert at_least <= connection.stats().max_datagram_size <= min(carries, 1472)
        assert limit.lanes[direction].dropped <= 3 * 5
        assert connection.stats().counters.packets_lost <= limit.lanes[direction].dropped


class Shrinks(Node):
    """A path whose limit changes at a time, and says so to nobody."""

    def __init__(self, at: float, size: int) -> None:
        super().__init__()
        self.at = at
        self.size = size

    def receive(self, datagram: Datagram) -> None:
        if self.clock.now >= self.at and len(datagram.data) > self.size:
            self.drop(datagram)
        else:
            self.forward(datagram)


@pytest.mark.conformance("MTU01")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [1200, 1400])
def test_a_path_that_shrinks_in_the_middle(size: int, seed: int) -> None:
    """RFC 8899 §4.3: a black hole is noticed, what fell into it goes out again in packets that fit."""
    shrinks = Shrinks(0.4, size)
    _, client, _ = run(Delay(0.02), Loss(0.01), Queue(50, rate=10e6), shrinks, seed=seed, path_mtu_discovery=True)
    assert shrinks.lanes[Direction.FORWARD].dropped > 0
    (connection,) = client.endpoint.connections
    assert connection.stats().max_datagram_size <= size


@pytest.mark.conformance("MTU02")
def test_a_path_that_shrinks_below_every_datagram() -> None:
    """RFC 9000 §14.2: nothing gets through, so what is still sent is a few probes, and the connection ends."""
    client, at_client, server, _ = hosts(max_idle_timeout=5.0, path_mtu_discovery=True)
    shrinks = Shrinks(0.3, 600)
    simulation = Simulation([client, Delay(0.02), Queue(50, rate=10e6), shrinks, server])
    simulation.run(until=lambda: simulation.now >= 2.0)
    dropped = shrinks.lanes[Direction.FORWARD].dropped
    simulation.run(until=lambda: not client.endpoint.connections, limit=100.0)
    assert at_client.connection is not None and at_client.connection.closed is not None
    assert shrinks.lanes[Direction.FORWARD].dropped - dropped <= 20


def test_a_round_trip_of_two_weeks() -> None:
    """Nothing in the engine knows how long a second is: every timer follows from the path."""
    week = 7 * 86_400.0
    simulation, client, _ = run(Delay(week), limit=1e9, max_idle_timeout=100 * week, handshake_timeout=100 * week)
    (connection,) = client.endpoint.connections
    assert connection.stats().smoothed_rtt == pytest.approx(2 * week, rel=0.1)
    assert simulation.now > 8 * week

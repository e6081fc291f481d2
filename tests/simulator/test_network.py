"""From a list to a network."""

from __future__ import annotations

import pytest

from quicstack.errors import ConfigurationError
from quicstack.simulator import Capture, DatagramHost, Delay, Direction, Loss, Queue, Rewrite, Simulation


def letter(letter: bytes) -> Rewrite:
    """Leaves its mark on what passes."""
    return Rewrite(lambda datagram, direction, now: [datagram._replace(data=datagram.data + letter)])


def test_nodes_are_met_in_the_order_of_the_list_and_back() -> None:
    left, right = DatagramHost(), DatagramHost()
    simulation = Simulation([left, letter(b"a"), letter(b"b"), letter(b"c"), right])
    left.send(b">", right.address)
    right.send(b"<", left.address)
    simulation.run()
    assert right.received[0].data == b">abc"
    assert left.received[0].data == b"<cba"


def test_hosts_share_an_end_and_branches_have_nodes_of_their_own() -> None:
    alice, bob, carol, dave = (DatagramHost() for _ in range(4))
    simulation = Simulation(
        [[alice, [bob, letter(b"1"), letter(b"2")]], letter(b"t"), [[letter(b"3"), letter(b"4"), carol], dave]]
    )
    alice.send(b"", carol.address)
    bob.send(b"", carol.address)
    bob.send(b"", dave.address)
    carol.send(b"", bob.address)
    dave.send(b"", alice.address)
    alice.send(b"", bob.address)
    simulation.run()
    assert [datagram.data for datagram in carol.received] == [b"t34", b"12t34"]
    assert [datagram.data for datagram in dave.received] == [b"12t"]
    assert [datagram.data for datagram in alice.received] == [b"t"]
    assert sorted(datagram.data for datagram in bob.received) == [b"21", b"43t21"]


def test_flows_share_a_bottleneck() -> None:
    senders = [DatagramHost() for _ in range(3)]
    receiver, queue = DatagramHost(), Queue(5, rate=1e6)
    simulation = Simulation([[*senders], queue, receiver])
    for sender in senders:
        for _ in range(4):
            sender.send(bytes(100), receiver.address)
    simulation.run()
    assert len(receiver.received) == 6
    assert queue.lanes[Direction.FORWARD].dropped == 6


def test_addresses_are_given_unless_chosen() -> None:
    first, second, chosen, server = (
        DatagramHost(),
        DatagramHost(),
        DatagramHost(address=("198.51.100.7", 9)),
        DatagramHost(),
    )
    Simulation([[first, second, chosen], server])
    assert len({first.address, second.address, chosen.address, server.address}) == 4
    assert chosen.address == ("198.51.100.7", 9)


def test_a_host_with_two_addresses_hears_both() -> None:
    left, right = DatagramHost(other_hosts=("192.0.2.77",)), DatagramHost()
    simulation = Simulation([left, right])
    right.send(b"one", left.address)
    right.send(b"two", ("192.0.2.77", 4))
    right.send(b"none", ("192.0.2.78", 4))
    simulation.run()
    assert [datagram.data for datagram in left.received] == [b"one", b"two"]


def test_every_place_has_its_own_randomness() -> None:
    def losses(seed: int, *extra: Capture) -> list[bytes]:
        left, right = DatagramHost(), DatagramHost()
        simulation = Simulation([left, Loss(0.5), *extra, right], seed=seed)
        for number in range(64):
            left.send(bytes([number]), right.address)
        simulation.run()
        return [datagram.data for datagram in right.received]

    assert losses(1) == losses(1) == losses(1, Capture())
    assert losses(1) != losses(2)

    left, right = DatagramHost(), DatagramHost()
    one, two = Loss(0.5), Loss(0.5)
    Simulation([left, one, two, right])
    lanes = [node.lanes[direction] for node in (one, two) for direction in Direction]
    draws = {lane.random.random() for lane in lanes} | {left.random.random(), right.random.random()}
    assert len(draws) == 6


@pytest.mark.parametrize(
    "nodes",
    [
        lambda: [DatagramHost()],
        lambda: [Delay(1.0), DatagramHost()],
        lambda: [DatagramHost(), Delay(1.0)],
        lambda: [DatagramHost(), DatagramHost(), DatagramHost()],
        lambda: [[[Delay(1.0), DatagramHost()]], DatagramHost()],
        lambda: [[DatagramHost(address=("a", 1)), DatagramHost(address=("a", 2))], DatagramHost()],
    ],
)
def test_what_is_not_a_network(nodes) -> None:
    with pytest.raises(ConfigurationError):
        Simulation(nodes())

"""A NAT that forgets."""

from __future__ import annotations

from quicstack.simulator import Datagram, DatagramHost, Nat, Simulation


class Echo(DatagramHost):
    """Answers, and remembers where questions came from."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[tuple[str, int]] = []

    def receive(self, datagram: Datagram) -> None:
        self.sources.append(datagram.source)
        self.send(datagram.data, datagram.source)


def ask(nat: Nat, *times: float) -> tuple[list[tuple[str, int]], int]:
    """Send at these times; where it came from, as the server sees it, and how many answers came back."""
    client, server = DatagramHost(address=("10.0.0.1", 50000)), Echo()
    simulation = Simulation([client, nat, server])
    for time in times:
        simulation.clock.at(time, client.send, b"?", server.address)
    simulation.run()
    assert all(datagram.destination == ("10.0.0.1", 50000) for datagram in client.received)
    return server.sources, len(client.received)


def test_the_private_address_is_hidden_and_answers_find_back() -> None:
    sources, answers = ask(Nat("203.0.113.9", first_port=7000), 0.0, 100.0)
    assert sources == [("203.0.113.9", 7000)] * 2
    assert answers == 2


def test_rebinding_changes_the_port_and_the_next_address() -> None:
    nat = Nat(["203.0.113.1", "203.0.113.2"], rebind_at=[10.0, 20.0], first_port=7000)
    sources, answers = ask(nat, 0.0, 11.0, 21.0)
    assert sources == [("203.0.113.1", 7000), ("203.0.113.2", 7001), ("203.0.113.1", 7002)]
    assert answers == 3
    assert nat.rebindings == 2


def test_rebinding_after_idleness() -> None:
    nat = Nat(idle_timeout=30.0, first_port=7000)
    sources, _ = ask(nat, 0.0, 29.0, 58.0, 100.0)
    assert [port for _, port in sources] == [7000, 7000, 7000, 7001]
    assert nat.rebindings == 1


def test_what_comes_for_a_forgotten_mapping_is_lost() -> None:
    client, server, nat = DatagramHost(), DatagramHost(), Nat()
    simulation = Simulation([client, nat, server])
    client.send(b"?", server.address)
    simulation.run()
    public = server.received[0].source
    server.send(b"found", public)
    simulation.run()
    nat.rebind()
    server.send(b"lost", public)
    server.send(b"nobody's", ("203.0.113.77", 1))
    simulation.run()
    assert [datagram.data for datagram in client.received] == [b"found"]


def test_two_hosts_behind_one_nat() -> None:
    alice, bob, server = DatagramHost(), DatagramHost(), Echo()
    simulation = Simulation([[alice, bob], Nat(), server])
    alice.send(b"from alice", server.address)
    bob.send(b"from bob", server.address)
    simulation.run()
    assert [datagram.data for datagram in alice.received] == [b"from alice"]
    assert [datagram.data for datagram in bob.received] == [b"from bob"]
    assert len(set(server.sources)) == 2


def test_a_nat_on_a_branch() -> None:
    alice, bob, server = DatagramHost(), DatagramHost(), Echo()
    simulation = Simulation([[[alice, Nat()], bob], server])
    alice.send(b"from alice", server.address)
    bob.send(b"from bob", server.address)
    simulation.run()
    assert server.sources == [("203.0.113.1", 61000), bob.address]
    assert [datagram.data for datagram in alice.received] == [b"from alice"]
    assert [datagram.data for datagram in bob.received] == [b"from bob"]

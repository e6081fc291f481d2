"""The plain host."""

from __future__ import annotations

from quicstack.simulator import DatagramHost, Simulation


def test_without_a_callback_datagrams_are_kept() -> None:
    left, right = DatagramHost(), DatagramHost()
    simulation = Simulation([left, right])
    left.send(b"hello", right.address, ecn=2)
    simulation.run()
    (datagram,) = right.received
    assert (datagram.data, datagram.source, datagram.ecn) == (b"hello", left.address, 2)


def test_a_source_can_be_spoofed() -> None:
    left, right = DatagramHost(), DatagramHost()
    simulation = Simulation([left, right])
    left.send(b"hello", right.address, source=("198.51.100.66", 6))
    simulation.run()
    assert right.received[0].source == ("198.51.100.66", 6)


def test_hosts_without_a_network_between_them_do_not_recurse() -> None:
    ping = DatagramHost(lambda host, datagram: host.send(datagram.data[1:], datagram.source) if datagram.data else None)
    pong = DatagramHost(lambda host, datagram: host.send(datagram.data[1:], datagram.source) if datagram.data else None)
    simulation = Simulation([ping, pong])
    ping.send(bytes(20_000), pong.address)
    assert simulation.run() == 0.0


def test_the_path_between_two_hosts() -> None:
    left, right = DatagramHost(), DatagramHost()
    Simulation([left, right])
    assert left.path_to(right).remote == right.address
    assert left.path_to(right).local == left.address

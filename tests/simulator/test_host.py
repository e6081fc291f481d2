"""A host with an endpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quicstack.errors import CertificateError
from quicstack.simulator import (
    BulkTransfer,
    Capture,
    Delay,
    Direction,
    EcnMark,
    Host,
    LimitReached,
    Nat,
    Simulation,
    configurations,
    identity,
)
from quicstack.tls.trust import Trust

FOR_CLIENT, FOR_SERVER = configurations()


def test_a_handshake_takes_one_round_trip() -> None:
    client, server = Host(FOR_CLIENT), Host(FOR_SERVER, server=True)
    simulation = Simulation([client, Delay(0.05), server])
    connection = client.connect(server)
    assert simulation.run(until=lambda: connection.handshake_complete) == pytest.approx(0.1)
    assert simulation.run(until=lambda: connection.handshake_confirmed) == pytest.approx(0.2)
    (other,) = server.endpoint.connections
    assert other.handshake_confirmed
    assert connection.path.remote == server.address


def test_virtual_time_is_all_the_time_there_is() -> None:
    client, server = Host(FOR_CLIENT), Host(FOR_SERVER, server=True)
    simulation = Simulation([client, Delay(0.05), server])
    connection = client.connect(server)
    simulation.run()
    assert connection.terminated
    assert simulation.now == pytest.approx(30.0, abs=1.0)
    assert not client.endpoint.connections
    assert not server.endpoint.connections


def test_the_program_acts_between_runs() -> None:
    client, server = Host(FOR_CLIENT), Host(FOR_SERVER, server=True)
    simulation = Simulation([client, Delay(0.05), server])
    connection = client.connect(server)
    simulation.run(until=lambda: connection.handshake_complete)
    connection.open_stream().write(b"hello", fin=True)
    (other,) = server.endpoint.connections
    streams = other.take_ready().streams
    simulation.run(until=lambda: bool(streams.extend(other.take_ready().streams) or streams))
    assert streams[0].read() == b"hello"


def test_the_date_is_virtual_too() -> None:
    for_client = replace(FOR_CLIENT, trust=Trust.roots(identity().certificates))
    client, server = Host(for_client), Host(FOR_SERVER, server=True)
    simulation = Simulation([client, server], epoch=4e9)
    connection = client.connect(server)
    simulation.run(until=lambda: connection.closed is not None)
    assert isinstance(connection.closed, CertificateError)


def test_several_hosts_and_connections() -> None:
    server = Host(FOR_SERVER, server=True, application=(answers := BulkTransfer(b"answer")))
    applications = [BulkTransfer(bytes([number]) * 5000, to=server, streams=2) for number in range(3)]
    hosts = [Host(FOR_CLIENT, application=application) for application in applications]
    simulation = Simulation([hosts, Delay(0.01), server])
    simulation.run(until=lambda: all(application.finished for application in applications))
    assert len(server.endpoint.connections) == 3
    assert sorted(transfer.received[:1] for transfer in answers.transfers) == [b"\0", b"\0", b"\1", b"\1", b"\2", b"\2"]


def test_marks_reach_the_endpoint_and_come_from_it() -> None:
    capture = Capture()
    server = Host(FOR_SERVER, server=True, application=BulkTransfer(b""))
    client = Host(FOR_CLIENT, application=(transfer := BulkTransfer(bytes(200_000), to=server)))
    simulation = Simulation([client, Delay(0.01), EcnMark(0.2), capture, server])
    simulation.run(until=lambda: transfer.finished)
    marks = {passage.datagram.ecn for passage in capture.passages if passage.direction is Direction.FORWARD}
    assert marks >= {2, 3}
    assert transfer.connection is not None
    assert transfer.connection.stats().counters.packets_lost == 0


def test_a_client_behind_a_nat_that_rebinds() -> None:
    server = Host(FOR_SERVER, server=True, application=(answer := BulkTransfer(bytes(300_000))))
    client = Host(FOR_CLIENT, application=(transfer := BulkTransfer(bytes(300_000), to=server)))
    nat = Nat(["203.0.113.1", "203.0.113.2"], rebind_at=[0.1, 0.3])
    simulation = Simulation([client, nat, Delay(0.025), server])
    simulation.run(until=lambda: transfer.finished and answer.finished)
    assert nat.rebindings == 2
    (other,) = server.endpoint.connections
    assert other.path.remote[0] == "203.0.113.1"


def test_the_host_refuses_what_its_interface_cannot_carry() -> None:
    client, server = Host(FOR_CLIENT, mtu=1000), Host(FOR_SERVER, server=True)
    simulation = Simulation([client, server])
    connection = client.connect(server)
    with pytest.raises(LimitReached):
        simulation.run(until=lambda: connection.handshake_complete, limit=5.0)
    assert client.endpoint.counters.send_errors > 0
    assert not server.endpoint.connections


def test_a_defect_is_raised() -> None:
    client, server = Host(FOR_CLIENT), Host(FOR_SERVER, server=True)
    simulation = Simulation([client, Delay(0.01), server])
    connection = client.connect(server)
    simulation.run(until=lambda: connection.handshake_confirmed)
    (other,) = server.endpoint.connections
    other._state.datagrams_in = None  # who could have done that?
    connection.send_datagram(b"x")
    with pytest.raises(RuntimeError, match="defect"):
        simulation.run()

"""Bulk transfers."""

from __future__ import annotations

from quicstack.simulator import BulkTransfer, Delay, Host, Simulation, configurations


def transfer(up: bytes, down: bytes, streams: int = 1) -> tuple[BulkTransfer, BulkTransfer]:
    for_client, for_server = configurations()
    server = Host(for_server, server=True, application=(at_server := BulkTransfer(down)))
    client = Host(for_client, application=(at_client := BulkTransfer(up, to=server, streams=streams)))
    simulation = Simulation([client, Delay(0.01), server])
    simulation.run(until=lambda: at_client.finished and at_server.finished)
    return at_client, at_server


def test_both_sides_get_what_the_other_sent() -> None:
    client, server = transfer(b"u" * 100_000, b"d" * 70_000)
    assert [bytes(transfer.received) for transfer in server.transfers] == [b"u" * 100_000]
    assert [bytes(transfer.received) for transfer in client.transfers] == [b"d" * 70_000]


def test_more_than_a_send_buffer() -> None:
    client, server = transfer(b"u" * 3_000_000, b"")
    assert server.transfers[0].received == b"u" * 3_000_000
    assert client.transfers[0].received == b""


def test_several_streams() -> None:
    client, server = transfer(b"up", b"down", streams=20)
    assert [bytes(transfer.received) for transfer in server.transfers] == [b"up"] * 20
    assert [bytes(transfer.received) for transfer in client.transfers] == [b"down"] * 20

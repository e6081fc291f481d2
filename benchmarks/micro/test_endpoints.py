"""Whole endpoints in memory: a handshake, a turn of a bulk transfer, and the simulator."""

from __future__ import annotations

from typing import Any

import pytest
from engine import Transfer

from quicstack.simulator import BulkTransfer, Delay, Host, Loss, Queue, Simulation, configurations
from quicstack.tls.groups import HAS_MLKEM, X25519, X25519MLKEM768

GROUPS = [
    pytest.param(X25519, id="x25519"),
    pytest.param(
        X25519MLKEM768, id="mlkem", marks=pytest.mark.skipif(not HAS_MLKEM, reason="cryptography lacks ML-KEM")
    ),
]


@pytest.mark.parametrize("group", GROUPS)
def test_handshake(benchmark: Any, group: int) -> None:
    """Both sides, until it is confirmed; a new pair of endpoints each time."""
    configurations()  # whose certificate is made once
    transfer = benchmark(Transfer, groups=(group,))
    assert transfer.connection.handshake_confirmed


def test_bulk(benchmark: Any) -> None:
    """A megabyte, both sides."""
    transfer = Transfer()
    transfer.run(5_000_000)
    benchmark(transfer.run, 1_000_000)


def test_simulator(benchmark: Any) -> None:
    """A megabyte each way over 10 Mbit/s, 100 ms and 1 % loss."""

    def simulate() -> bool:
        for_client, for_server = configurations()
        server = Host(for_server, server=True, application=BulkTransfer(bytes(1_000_000)))
        client = Host(for_client, application=(transfer := BulkTransfer(bytes(1_000_000), to=server)))
        network = [client, Delay(0.05), Loss(0.01), Queue(64, rate=10e6), server]
        Simulation(network, seed=1).run(until=lambda: transfer.finished)
        return transfer.finished

    assert benchmark.pedantic(simulate, rounds=3)

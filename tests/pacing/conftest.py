"""Makes the relay importable from the tests beside it, and downloads over a simulated network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quicstack.connection.connection import Connection
from quicstack.simulator import BulkTransfer, Host, Node, Simulation, configurations

sys.path.insert(0, str(Path(__file__).parent))


class Download:
    """``size`` bytes from a server through ``nodes``. ``seconds`` is from the request to the last byte."""

    def __init__(self, size: int, *nodes: Node, seed: int = 1, **settings: Any) -> None:
        for_client, for_server = configurations(**settings)
        self.server = Host(for_server, server=True, application=BulkTransfer(bytes(size)))
        transfer = BulkTransfer(b"?", to=self.server)
        client = Host(for_client, application=transfer)
        simulation = Simulation([client, *nodes, self.server], seed=seed)
        simulation.run(until=lambda: bool(transfer.transfers))
        self.started = simulation.now
        simulation.run(until=lambda: transfer.finished)
        self.seconds = simulation.now - self.started
        (self.connection,) = self.server.endpoint.connections

    connection: Connection

    @property
    def packets_lost(self) -> int:
        return self.connection.stats().counters.packets_lost


@pytest.fixture
def download() -> Callable[..., Download]:
    return Download

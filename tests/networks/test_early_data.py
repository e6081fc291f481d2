"""0-RTT over networks that lose, reorder and duplicate: taken or rejected, the data arrives once and whole."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from quicstack.connection.connection import Connection
from quicstack.simulator import Delay, Duplicate, Host, Jitter, Loss, Reorder, Simulation, configurations

DATA = Random("early").randbytes(30_000)


class Collect:
    """A server that keeps what arrives, by connection and stream, from the first 0-RTT packet on."""

    def __init__(self) -> None:
        self.received: dict[tuple[Connection, int], bytearray] = {}
        self.finished = 0

    def start(self, host: Host) -> None:
        pass

    def ready(self, host: Host, connection: Connection) -> None:
        for stream in connection.take_ready().streams:
            self.received.setdefault((connection, stream.id), bytearray()).extend(stream.read())
            if stream.owner is None and stream.at_end:
                stream.owner = self
                self.finished += 1
                if stream.can_send:
                    stream.finish()


@pytest.mark.parametrize("is_taken", [True, False], ids=["taken", "rejected"])
@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 40))])
def test_arrives_once_and_whole(seed: int, is_taken: bool) -> None:
    for_client, for_server = configurations(early_data=True, handshake_timeout=60.0)
    server = Host(replace(for_server, ticket_key=bytes(32)), server=True, application=(first := Collect()))
    client = Host(for_client)
    network = [Delay(0.02), Jitter(0.005), Reorder(0.05), Duplicate(0.05), Loss(0.1)]
    simulation = Simulation([client, *network, server], seed=seed)
    connection = client.connect(server)
    store = for_client.session_store
    simulation.run(until=lambda: connection.handshake_confirmed and bool(store._tokens))  # type: ignore[union-attr]
    connection.close(now=simulation.now)
    simulation.run(until=simulation.now + 1)
    settings = {"initial_max_data": 1000} if not is_taken else {}
    server.endpoint.configuration = replace(server.endpoint.configuration, **settings)  # type: ignore[arg-type]
    connection = client.connect(server)
    assert connection.sends_early_data
    streams = [connection.open_stream(), connection.open_stream(unidirectional=True)]
    for stream in streams:
        assert stream.write(DATA, fin=True) == len(DATA)
    simulation.run(until=lambda: first.finished == 2 and all(stream.send_done for stream in streams))
    assert sorted(map(bytes, first.received.values())) == [DATA, DATA]
    assert connection.early_data_accepted is is_taken and connection.session_resumed

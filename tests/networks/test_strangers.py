"""aioquic on the other side of a lossy network: a megabyte each way, whoever is the client.

Its randomness is the operating system's, so the same seed loses the same datagrams by number and not by content.
"""

from __future__ import annotations

from random import Random

import pytest

from quicstack.simulator import BulkTransfer, Delay, Host, Loss, Node, Simulation, configurations

MEGABYTE = 1_000_000
UP, DOWN = Random("up").randbytes(MEGABYTE), Random("down").randbytes(MEGABYTE)
RATES = (0.0, 0.01, 0.05)
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]


def network(rate: float) -> list[Node]:
    return [Delay(0.02), Loss(rate)]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_we_call(aioquic_host, rate: float, seed: int) -> None:
    for_client, _ = configurations(handshake_timeout=60.0)
    server = aioquic_host(DOWN)
    client = Host(for_client, application=(ours := BulkTransfer(UP, to=server)))
    simulation = Simulation([client, *network(rate), server], seed=seed)
    simulation.run(until=lambda: ours.finished and server.finished)
    assert (server.received == UP, ours.transfers[0].received == DOWN) == (True, True)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", SEEDS)
def test_we_are_called(aioquic_host, rate: float, seed: int) -> None:
    _, for_server = configurations(handshake_timeout=60.0)
    server = Host(for_server, server=True, application=(ours := BulkTransfer(DOWN)))
    client = aioquic_host(UP, to=server)
    simulation = Simulation([client, *network(rate), server], seed=seed)
    simulation.run(until=lambda: ours.finished and client.finished)
    assert (client.received == DOWN, ours.transfers[0].received == UP) == (True, True)


@pytest.mark.parametrize("rate", RATES)
def test_the_stranger_with_itself(aioquic_host, rate: float) -> None:
    """What fails above and here as well is not ours."""
    server = aioquic_host(DOWN)
    client = aioquic_host(UP, to=server)
    simulation = Simulation([client, *network(rate), server], seed=0)
    simulation.run(until=lambda: client.finished and server.finished)
    assert (client.received == DOWN, server.received == UP) == (True, True)

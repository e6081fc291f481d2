"""Networks that lose, reorder, duplicate and corrupt: everything arrives, in order and unchanged, every time the same.

The fast tests take a few of the fifty seeds, the slow ones all the others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest

from quicstack.simulator import (
    BlackHole,
    BulkTransfer,
    BurstLoss,
    Capture,
    Corrupt,
    Delay,
    Duplicate,
    Host,
    Jitter,
    Loss,
    Node,
    Queue,
    Reorder,
    Simulation,
    configurations,
)

MEGABYTE = 1_000_000
UP, DOWN = Random("up").randbytes(MEGABYTE), Random("down").randbytes(MEGABYTE)
PATIENT = {"handshake_timeout": 60.0, "max_idle_timeout": 600.0}
RATES = (0.0, 0.01, 0.05, 0.1, 0.3)
FAST_SEEDS = (0,)


def seeds(first: tuple[int, ...] = FAST_SEEDS, count: int = 50) -> list[object]:
    """The first few for every day, all fifty for those who have a minute."""
    slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(count) if seed not in first]
    return [*first, *slow]


def bad_network(rate: float) -> list[Node]:
    """Loss at ``rate`` in each direction on a path that has every other fault as well, and 20 Mbit/s."""
    return [
        Delay(0.02),
        Jitter(0.002),
        Reorder(0.02),
        Duplicate(0.02),
        Corrupt(0.02),
        Loss(rate),
        Queue(100, rate=20e6),
    ]


def transfer(nodes: list[Node], seed: int, **settings: float) -> tuple[Simulation, Capture, BulkTransfer, BulkTransfer]:
    """A megabyte each way at the same time; returns when both sides have everything and know that it arrived."""
    for_client, for_server = configurations(**(PATIENT | settings))
    server = Host(for_server, server=True, application=(at_server := BulkTransfer(DOWN)))
    client = Host(for_client, application=(at_client := BulkTransfer(UP, to=server)))
    capture = Capture()
    simulation = Simulation([client, *nodes, capture, server], seed=seed)
    simulation.run(until=lambda: at_client.finished and at_server.finished)
    return simulation, capture, at_client, at_server


def assert_unchanged(at_client: BulkTransfer, at_server: BulkTransfer) -> None:
    # Compared without a diff: a megabyte of it would help nobody.
    assert [transfer.received == UP for transfer in at_server.transfers] == [True]
    assert [transfer.received == DOWN for transfer in at_client.transfers] == [True]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", seeds())
def test_a_megabyte_each_way(rate: float, seed: int) -> None:
    _, _, at_client, at_server = transfer(bad_network(rate), seed)
    assert_unchanged(at_client, at_server)


@pytest.mark.parametrize("seed", seeds())
def test_a_megabyte_each_way_with_bursts_of_loss(seed: int) -> None:
    # Bursts count datagrams: longer ones swallow ACKs, sent one for each PTO, for minutes.
    _, _, at_client, at_server = transfer([Delay(0.02), BurstLoss(0.01, 0.3)], seed)
    assert_unchanged(at_client, at_server)


@pytest.mark.parametrize("seed", seeds(tuple(range(15))))
def test_a_handshake_at_30_percent_loss(seed: int) -> None:
    for_client, for_server = configurations()
    client, server = Host(for_client), Host(for_server, server=True)
    simulation = Simulation([client, Delay(0.02), Loss(0.3), server], seed=seed)
    connection = client.connect(server)
    simulation.run(until=lambda: connection.handshake_confirmed, limit=30.0)
    assert connection.closed is None
    (other,) = server.endpoint.connections
    assert other.handshake_confirmed


@pytest.mark.parametrize("begin", [0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("seed", seeds((0,)))
def test_a_black_hole_of_two_seconds_heals(begin: float, seed: int) -> None:
    """It may begin in the handshake, at its end, or in the middle of the transfer."""
    simulation, _, at_client, at_server = transfer([Delay(0.02), BlackHole(begin, 2.0), Queue(100)], seed)
    assert_unchanged(at_client, at_server)
    assert 2.0 < simulation.now < 12.0


DIGEST = """
from quicstack.simulator import *
for_client, for_server = configurations()
server = Host(for_server, server=True, application=BulkTransfer(bytes(100_000)))
client = Host(for_client, application=(transfer := BulkTransfer(bytes(100_000), to=server, streams=5)))
capture = Capture()
simulation = Simulation([client, Delay(0.02), Loss(0.1), Duplicate(0.1), capture, server], seed=3)
simulation.run(until=lambda: transfer.finished)
print(capture.digest())
"""


def test_the_same_seed_gives_the_same_bytes_in_every_process() -> None:
    """Whatever the hashes of strings are, and so the order of sets."""
    digests = set()
    for hash_seed in ("0", "1", "random"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", DIGEST]
        digests.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1


def test_the_same_seed_gives_the_same_bytes() -> None:
    first = transfer(bad_network(0.05), 7)[1]
    second = transfer(bad_network(0.05), 7)[1]
    assert len(first.passages) > 1500
    assert first.digest() == second.digest()
    assert first.digest() != transfer(bad_network(0.05), 8)[1].digest()

"""100,000 hostile datagrams: one endpoint, no exception, no growth, and somebody else is served all the while."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from attack import Application, Attack, answer

from quicstack.connection.connection import Connection
from quicstack.simulator import configurations

SETTINGS = {"max_idle_timeout": 5.0, "handshake_timeout": 5.0}
MEGABYTE = 1 << 20


class Echo:
    """Answers what it gets, whatever that is."""

    def ready(self, connection: Connection) -> None:
        answer(connection)


def attack_on_server(application: Application, seed: int, **settings: object) -> Attack:
    for_client, for_server = configurations(**(SETTINGS | settings))
    return Attack(for_server, for_client, application, server=True, seed=seed)


def attack_on_client(application: Application, seed: int, **settings: object) -> Attack:
    for_client, for_server = configurations(**(SETTINGS | settings))
    return Attack(for_client, for_server, application, server=False, seed=seed)


def resident_memory() -> int:
    """Bytes of this process that are in memory now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("attack", [attack_on_server, attack_on_client])
def test_a_few_thousand_datagrams(attack) -> None:
    under_attack = attack(Echo(), seed=1)
    under_attack.run(5_000)
    under_attack.rest()
    assert under_attack.closed_by_victim > 100
    assert len(under_attack.victim.connections) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("attack", [attack_on_server, attack_on_client])
def test_a_hundred_thousand_datagrams(attack) -> None:
    under_attack = attack(Echo(), seed=2)
    under_attack.run(10_000)
    under_attack.rest()
    before = resident_memory()
    under_attack.run(90_000)
    under_attack.rest()
    assert len(under_attack.victim.connections) == 1
    assert resident_memory() - before < 5 * MEGABYTE

"""100,000 hostile datagrams: one endpoint, no exception, no growth, and somebody else is served all the while."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from attack import Application, Attack
from served import Echo, Http3

from quicstack.simulator import configurations

MEGABYTE = 1 << 20


def on_server(application: Application, seed: int) -> Attack:
    for_client, for_server = settings(application)
    return Attack(for_server, for_client, application, server=True, seed=seed)


def on_client(application: Application, seed: int) -> Attack:
    for_client, for_server = settings(application)
    return Attack(for_client, for_server, application, server=False, seed=seed)


def settings(application: Application):
    """Timeouts are short: what is still open is not grown."""
    return configurations(max_idle_timeout=5.0, handshake_timeout=5.0, alpn_protocols=(application.alpn,))


def resident_memory() -> int:
    """Bytes of this process that are in memory now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def check(attack: Attack, datagrams: int) -> None:
    """So many hostile datagrams, after which nothing is left of those who sent them."""
    closed_before = attack.closed_by_victim
    attack.run(datagrams)
    attack.rest()
    assert attack.closed_by_victim - closed_before > datagrams / 100
    assert list(attack.victim.connections) == [attack.victim_friendship]
    assert attack.victim.next_timeout() is not None


@pytest.mark.attack("fuzz-exception-on-peer-data")
@pytest.mark.parametrize("application", [Echo, Http3])
@pytest.mark.parametrize("attack", [on_server, on_client])
def test_a_few_thousand_datagrams(attack, application) -> None:
    check(attack(application(), seed=1), 1_250)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("attack", "application", "count"), [(on_server, Http3, 100_000), (on_client, Http3, 50_000)])
def test_a_hundred_thousand_datagrams(attack, application, count: int) -> None:
    under_attack = attack(application(), seed=2)
    check(under_attack, 10_000)
    before = resident_memory()
    check(under_attack, count - 10_000)
    growth = resident_memory() - before
    print(f"{growth / MEGABYTE:.2f} MiB more than after 10,000 datagrams")
    assert growth < 5 * MEGABYTE

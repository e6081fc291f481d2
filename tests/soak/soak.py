"""A long life: many connections for a day of virtual time under random faults, and memory that stays flat.

``python tests/soak/soak.py --connections 1000 --hours 24`` writes ``docs/soak.md``. The test beside it runs the same
for half an hour of fifty connections.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import os
import platform
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import cryptography

sys.path.insert(0, str(Path(__file__).parent))

from traffic import Home, Service
from weather import OUTAGES_A_DAY, REBINDINGS_A_DAY, home_line

from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.simulator import Host, Nat, Node, Simulation, configurations

SLOTS = 20
HOUR = 3600.0
CLEARING = 3000.0
"""Virtual seconds after the last errand in which everything under way gets done."""
SETTINGS = {
    "max_idle_timeout": 600.0, "keep_alive": 300.0, "handshake_timeout": 120.0, "path_mtu_discovery": True,
    "max_probed_datagram_size": 1400,
}  # fmt: skip
FLATNESS = 1.05
"""How much more the second half of a run may hold than the first half after the warm-up."""


@dataclass
class Sample:
    """What was held at one moment."""

    virtual: float
    cpu: float
    resident: int
    blocks: int
    clients: int
    servers: int
    objects: int
    streams: int
    packets: int


@dataclass
class Soak:
    """A run that can be looked at. ``hurry`` squeezes a day's faults and errands into that part of a day."""

    connections: int
    seconds: float
    seed: int = 1
    pause: float = 900.0
    hurry: float = 1.0
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        for_client, for_server = configurations(**SETTINGS)
        random = Random(f"soak {self.seed}")
        self.service = Service()
        self.server = Host(for_server, server=True, application=self.service)
        self.homes: list[Home] = []
        self.lines: list[list[Host | Node]] = []
        for number in range((self.connections + SLOTS - 1) // SLOTS):
            slots = min(SLOTS, self.connections - number * SLOTS)
            home = Home(self.server, slots, pause=self.pause, ends=self.seconds)
            host = Host(for_client, application=home, other_hosts=(f"10.2.0.{number + 1}",))
            self.homes.append(home)
            self.lines.append(home_line(host, number, self.seconds, random, self.hurry))
        self.simulation = Simulation([self.lines, self.server], seed=self.seed)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [self.server.endpoint, *(home.host.endpoint for home in self.homes)]

    def run(self, every: float) -> None:
        """The whole of it, with a look at everything each ``every`` virtual seconds."""
        now = 0.0
        while now < self.seconds:
            now = min(now + every, self.seconds)
            self.simulation.run(until=now)
            self.check_tables()
            self.samples.append(sample := self.look())
            print(f"{now / HOUR:6.1f} h {sample}", flush=True)
        self.wind_up()

    def look(self) -> Sample:
        gc.collect()
        living = [connection for endpoint in self.endpoints for connection in endpoint.connections]
        return Sample(
            virtual=self.simulation.now,
            cpu=time.process_time(),
            resident=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            blocks=sys.getallocatedblocks(),
            clients=sum(len(home.host.endpoint.connections) for home in self.homes),
            servers=len(self.server.endpoint.connections),
            objects=len(self.service.objects) + sum(len(home.objects) for home in self.homes),
            streams=sum(len(connection._state.streams.streams) for connection in living),
            packets=sum(connection._state.counters.packets_sent for connection in living),
        )

    def check_tables(self) -> None:
        """No table of an endpoint names a connection that is gone, and none grows beyond what its connections need."""
        for endpoint in self.endpoints:
            living = set(endpoint.connections)
            assert set(endpoint._by_cid.values()) <= living
            assert set(endpoint._by_token.values()) <= living
            assert set(endpoint._deadlines._known) == living
            assert set(endpoint._handshakes) <= living
            assert len(endpoint._fresh_cids) <= 2 * len(living)
            assert len(endpoint._deadlines._heap) <= 2 * len(endpoint._deadlines._known) + 65
            for connection in living:
                check_connection(connection)

    def wind_up(self) -> None:
        """No more errands: what is under way gets done, then nothing is left to be done; then everybody goes."""
        self.simulation.run(until=self.seconds + CLEARING)
        for endpoint in self.endpoints:
            assert_at_rest(endpoint)
        now = self.simulation.now
        for number, home in enumerate(self.homes):
            if number % 2:
                home.host.endpoint.close(now)
        self.simulation.run(until=now + 600.0)
        self.server.endpoint.close(self.simulation.now)
        self.simulation.run()  # until nothing at all is left to happen: no timer runs on
        for endpoint in self.endpoints:
            assert_nothing_left(endpoint)
        for home in self.homes:
            assert not home.by_connection
        gc.collect()
        for holder in (self.service, *self.homes):
            for connection in holder.objects:
                raise AssertionError(f"{connection!r} is kept by {gc.get_referrers(connection)}")

    @property
    def nats(self) -> list[Nat]:
        return [node for line in self.lines for node in line if isinstance(node, Nat)]

    def causes(self) -> Counter[str]:
        return sum((home.causes for home in self.homes), Counter())

    def errands(self) -> Counter[str]:
        return sum((home.errands for home in self.homes), Counter())

    def growth(self) -> tuple[float, float]:
        """Allocated blocks and resident bytes: the last quarter against the second quarter of the run."""
        samples = self.samples
        quarter = len(samples) // 4
        before, after = samples[quarter : 2 * quarter], samples[-quarter:]
        ratios = [
            sum(getattr(sample, name) for sample in after) / sum(getattr(sample, name) for sample in before)
            for name in ("blocks", "resident")
        ]
        return ratios[0], ratios[1]


def check_connection(connection: Connection) -> None:
    """What a connection keeps stays within its limits."""
    state = connection._state
    assert connection.internal_error is None
    assert len(state.other_paths) <= 3
    assert len(state.local_cids.active) <= 8
    assert len(state.peer_cids.elsewhere) + len(state.peer_cids.reset_tokens) <= 16
    assert len(state.spaces[2].acks._ranges) <= 256
    assert state.recovery.bytes_in_flight >= 0


def assert_at_rest(endpoint: Endpoint) -> None:
    """A connection that has nothing to do keeps nothing of what it did."""
    for connection in endpoint.connections:
        state = connection._state
        assert not state.streams.streams, f"{connection!r} keeps {list(state.streams.streams)}"
        assert not state.streams._waiting
        assert not state.outbox.sending and not state.outbox.touched
        assert len(state.datagrams_in) == len(state.datagrams_out) == 0


def assert_nothing_left(endpoint: Endpoint) -> None:
    assert not endpoint.connections and endpoint.next_timeout() is None
    for name in ("_by_cid", "_by_token", "_ready", "_bell", "_handshakes", "_fresh_cids"):
        assert not getattr(endpoint, name), f"{name}: {getattr(endpoint, name)}"
    assert endpoint._budget.used == 0


def table(heads: str, rows: list[str]) -> str:
    return "\n".join([f"| {heads} |", "|---" * (heads.count("|") + 1) + "|", *(f"| {row} |" for row in rows)])


def counted(counts: Counter[str]) -> list[str]:
    return [f"{name} | {count:,}" for name, count in sorted(counts.items())]


def report(soak: Soak, revision: str, wall: float) -> str:
    """docs/soak.md."""
    blocks, resident = soak.growth()
    step = max(1, len(soak.samples) // 24)
    rows = [
        f"{s.virtual / HOUR:.1f} | {s.cpu:,.0f} | {s.resident / 2**20:.1f} | {s.blocks:,} | {s.clients:,} | "
        f"{s.servers:,} | {s.objects:,} | {s.streams:,}"
        for s in soak.samples[step - 1 :: step]
    ]
    heads = "virtual hours | processor s | resident MiB | allocated blocks | client connections | server connections"
    rebindings = sum(nat.rebindings for nat in soak.nats)
    datagrams = sum(nat.lanes[way].forwarded for nat in soak.nats for way in nat.lanes)
    about = f"""
        The last long run of `make soak`: {soak.connections:,} connections between {len(soak.homes)} hosts behind NATs
        and one server, for {soak.seconds / HOUR:g} hours of virtual time. Each line has up to 5 % loss, reordering,
        duplicates, corrupted datagrams, a NAT that rebinds about {REBINDINGS_A_DAY} times a day (every second one to
        another address), and about {OUTAGES_A_DAY} outages a day, most below a minute, some longer than the idle
        timeout.
        Connections do an errand every {soak.pause:g} seconds on average, with long silences between; nineteen of
        twenty keep themselves alive; some vanish without a word. Every byte received is compared with what was sent,
        and an errand that is not done in time ends the run, as does an internal error."""
    where = f"""
        {datetime.date.today():%Y-%m-%d}, revision {revision}, {platform.python_implementation()}
        {platform.python_version()}, cryptography {cryptography.__version__}, seed {soak.seed}:
        {soak.samples[-1].cpu:,.0f} s of processor, {wall:,.0f} s on the clock of a shared machine."""
    result = f"""
        **Result.** No assertion, no internal error, no errand that hung, no byte wrong. {datagrams:,} datagrams passed
        the NATs, which rebound {rebindings:,} times. Memory, last quarter against second quarter: allocated blocks
        {100 * (blocks - 1):+.1f} %, resident {100 * (resident - 1):+.1f} %. After the last connection had closed, every
        table of every endpoint was empty, no timer ran, and no connection object was alive."""
    parts = [
        "# Soak",
        *(textwrap.fill(" ".join(text.split()), 120) for text in (about, where, result)),
        table(heads + " | connection objects | open streams", rows),
        "What the clients did:",
        table("errand | times", counted(soak.errands())),
        "How connections ended, as clients saw it (what vanished, the server saw as silence):",
        table("end | times", counted(soak.causes())),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=900.0)
    parser.add_argument("--report", type=Path, default=Path("docs/soak.md"))
    arguments = parser.parse_args()
    begin = time.monotonic()
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    soak = Soak(arguments.connections, arguments.hours * HOUR, arguments.seed, arguments.pause)
    soak.run(every=min(HOUR, soak.seconds / 12))
    blocks, resident = soak.growth()
    assert blocks < FLATNESS and resident < FLATNESS, f"memory grows: {blocks:.3f} blocks, {resident:.3f} resident"
    arguments.report.write_text(report(soak, revision, time.monotonic() - begin))


if __name__ == "__main__":
    main()

"""Over a real path, as far as a machine alone has one: 100 Mbit/s, 50 ms, 0.1 % of packets lost. (`make bench-all`)

    python benchmarks/paths.py --seeds 5 --megabytes 60

Server, client and network are a process each; the network is the relay of ``interop/``. What the congestion controller
allows is what it reaches in the simulator on the same path, where computing takes no time. The same packets are lost in
both, counted from the first one: with so few losses, chance would otherwise weigh more than everything else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import report
import workloads
from compare import make_certificate

from interop.link import Faults, Link
from interop.pcap import Address, PcapWriter
from interop.relay import Nat, Plan, Port, Relay
from quicstack import Cubic, NewReno
from quicstack.simulator import Asymmetric, BulkTransfer, Delay, Host, LossAt, Queue, Simulation, configurations

HERE = Path(__file__).parent
CONTROLLERS = {"cubic": Cubic, "newreno": NewReno}
HANDSHAKE = 40
"""Packets at the start that are not lost, each way."""
SO_RCVBUFFORCE = 33


class Way(NamedTuple):
    rate: float = 100e6
    rtt: float = 0.05
    loss: float = 0.001
    queue: int = 520
    """Packets: what the path holds in a round trip."""

    def losses(self, seed: int, direction: str) -> list[int]:
        chance = random.Random(f"{seed} {direction}")
        return [number for number in range(HANDSHAKE, 400_000) if chance.random() < self.loss]


# -- the relay, as a process


class WideNat(Nat):
    def port_of(self, client: Address) -> Port:
        is_known = client in self.ports
        port = super().port_of(client)
        if not is_known:
            widen(port)
        return port


def widen(port: Port) -> None:
    """Room for what arrives while this process waits for its turn: a packet lost here would be nobody's loss."""
    with contextlib.suppress(PermissionError):
        port.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)


def overflowed(ports: list[int]) -> int:
    """What the kernel dropped because these sockets were full (proc(5), /proc/net/udp)."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[12]) for row in rows if int(row[1].split(":")[1], 16) in ports)


def relay(server_port: int, path: Way, seed: int) -> None:
    """Until standard input ends; then says what it dropped that it should not have."""
    plan = Plan([(("127.0.0.1", 0), ("127.0.0.1", server_port))], "", seed, path.rtt / 2, Faults())
    with PcapWriter(Path(os.devnull)) as nowhere:
        network = Relay(plan, nowhere, nowhere)
        network.nat = WideNat("127.0.0.1", changes_address=False)
        (front,) = (port for port, _ in network.fronts)
        widen(front)
        for name in ("up", "down"):
            drops = frozenset(number + 1 for number in path.losses(seed, name))
            chance = random.Random(seed)
            link = Link(chance, Faults(), rate=path.rate, queue=path.queue, delay=path.rtt / 2, drops=drops)
            setattr(network, name, link)
        print(front.address[1], flush=True)
        network.run()
        backs = [port.address[1] for port in network.nat.ports.values()]
        print(overflowed([front.address[1], *backs]), flush=True)


# -- both runs


@contextlib.contextmanager
def process(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | variables,
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def over_sockets(path: Way, controller: str, seed: int, size: int, folder: str) -> dict[str, float]:
    """Seconds for a download of ``size`` bytes through the relay."""
    server_program = str(HERE / "stacks/quicstack_stack.py")
    with process(server_program, "server", "asyncio", "quic", folder, BENCH_CONTROLLER=controller) as server:
        assert server.stdout
        port = json.loads(server.stdout.readline())["port"]
        with process(__file__, "--relay", str(port), "--path", json.dumps(path), "--seed", str(seed)) as network:
            assert network.stdout
            facts = asyncio.run(download(int(network.stdout.readline()), size))
            output, _ = network.communicate()  # which closes its input
            return facts | {"overflowed": int(output)}


async def download(port: int, size: int) -> dict[str, float]:
    from stacks.quicstack_stack import connector

    link = await connector(port, "quic", False)()
    facts = await asyncio.wait_for(workloads.download(link, size), 150)
    await link.close()
    return facts


def simulated(path: Way, controller: str, seed: int, size: int) -> float:
    """Seconds for the same download where computing takes no time."""
    for_client, for_server = configurations(congestion_controller=CONTROLLERS[controller], cipher_suites=(0x1301,))
    server = Host(for_server, server=True, application=BulkTransfer(bytes(size)))
    client = Host(for_client, application=(transfer := BulkTransfer(b"?", to=server)))
    losses = Asymmetric(LossAt(path.losses(seed, "up")), LossAt(path.losses(seed, "down")))
    network = [client, Queue(path.queue, rate=path.rate), Delay(path.rtt / 2), losses, server]
    simulation = Simulation(network, seed=seed)
    simulation.run(until=lambda: bool(transfer.transfers))
    started = simulation.now
    simulation.run(until=lambda: transfer.finished)
    return simulation.now - started


def compare(path: Way, controller: str, seeds: int, size: int, folder: str) -> dict[str, Any]:
    """The share of what the controller allows: all that was simulated, by all that was measured."""
    allowed, measured, overflow = [], [], 0
    for seed in range(1, seeds + 1):
        allowed.append(simulated(path, controller, seed, size))
        facts = over_sockets(path, controller, seed, size, folder)
        measured.append(facts["seconds"])
        overflow += int(facts["overflowed"])
    shares = [allowed[at] / measured[at] for at in range(seeds)]
    rates = [size * 8 / sum(times) * seeds / 1e6 for times in (allowed, measured)]
    share = sum(allowed) / sum(measured)
    spread = f"{min(shares):.0%} - {max(shares):.0%}, median {statistics.median(shares):.0%}"
    verdict = "reached" if share >= 0.95 else "**short**"
    lossy = f"{path.loss:.1%}" if path.loss else "no"
    text = (
        f"| {controller}, {lossy} loss | {rates[0]:.1f} | {rates[1]:.1f} | {share:.1%} ({spread}) | 95 % | "
        f"{verdict} | {overflow} |"
    )
    return {"text": text, "allowed": allowed, "measured": measured, "share": share, "overflowed": overflow,
            "median": statistics.median(shares)}  # fmt: skip


HEAD = """| controller | allowed, Mbit/s | measured, Mbit/s | share (of each seed) | goal | | dropped by a late relay |
|---|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description="The share of what the congestion controller allows on a real path.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=60, help="of each download; without loss four times as much")
    parser.add_argument("--controllers", nargs="*", default=list(CONTROLLERS))
    parser.add_argument("--report", type=Path, help="a folder for the results")
    parser.add_argument("--relay", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.relay:
        relay(arguments.relay, Way(*arguments.path), arguments.seed)
        return
    facts, results = report.machine(), []
    size = int(arguments.megabytes * 1e6)
    started = time.monotonic()
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(Path(folder))
        for controller in arguments.controllers:
            results.append(compare(Way(), controller, arguments.seeds, size, folder))
            print(results[-1]["text"], flush=True)
        results.append(compare(Way(loss=0.0), arguments.controllers[0], 1, 4 * size, folder))
        print(results[-1]["text"], f"\n\n{time.monotonic() - started:.0f} seconds")
    if arguments.report:
        text = "\n".join([HEAD, *(result["text"] for result in results)])
        report.save(arguments.report, "paths", facts, [{"text": text, "rows": results}])


if __name__ == "__main__":
    main()

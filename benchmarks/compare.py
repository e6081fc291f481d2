"""Every stack at the same work, in turn, over the loopback: `make bench` (short) and `make bench-all`.

    python benchmarks/compare.py --pairs 5 --work bulk-quic requests-quic --stacks quicstack aioquic

A server and a client in a process each, each on a core of its own. The stacks take turns, A B A B, because a shared
machine is faster in one minute than in the next: what counts is the ratio inside a pair, and the table gives the median
of those. CPU is what the operating system charged to each process while the work went on, without start and imports.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-peers"


class Stack(NamedTuple):
    program: str
    layers: tuple[str, ...]
    environment: str | None = None
    """The folder under .venv-peers with its Python; None: the one that runs this."""
    variables: tuple[tuple[str, str], ...] = ()


STACKS = {
    "quicstack": Stack("quicstack_stack.py", ("quic", "h3", "wt")),
    "aioquic": Stack("aioquic_stack.py", ("quic", "h3")),
    "qh3": Stack("aioquic_stack.py", ("quic", "h3"), None, (("BENCH_STACK", "qh3"),)),
    "aiopquic": Stack("aiopquic_stack.py", ("quic",), "aiopquic"),
    "pywebtransport": Stack("pywebtransport_stack.py", ("wt",), "pywebtransport-new"),
}


class Work(NamedTuple):
    title: str
    work: str
    layer: str
    numbers: dict[str, tuple[int, ...]]
    """For our stack and, under "peer", for slower ones: rates need no equal amounts, only runs that are long enough."""
    unit: str
    figure: str
    """Which figure is compared: "mbit", "rate" (a second), "p50" (us, smaller is better), "kib" (smaller is better)."""
    short: bool = False
    goal: float | None = None
    """Ratio to aioquic that we want."""


def _work() -> dict[str, Work]:
    found: dict[str, Work] = {}
    for layer in ("quic", "h3", "wt"):
        for way in ("download", "upload"):
            numbers = {"quicstack": (300_000_000,), "native": (300_000_000,), "peer": (24_000_000,)}
            found[f"{way}-{layer}"] = Work(
                f"bulk {way}, {layer}", way, layer, numbers, "Mbit/s", "mbit", layer == "quic", 12.0
            )
    for layer in ("quic", "h3"):
        for at_once, goal in ((1, 3.5), (50, 6.0)):
            numbers = {"quicstack": (6_000, at_once), "native": (6_000, at_once), "peer": (2_000, at_once)}
            found[f"requests-{at_once}-{layer}"] = Work(
                f"request-response, {at_once} in flight, {layer}", "requests", layer, numbers, "1/s", "rate",
                layer == "quic", goal,
            )  # fmt: skip
    for at_once in (1, 20):
        numbers = {"quicstack": (300, at_once), "native": (300, at_once), "peer": (120, at_once)}
        found[f"handshakes-{at_once}"] = Work(
            f"full handshakes, {at_once} at once", "handshakes", "quic", numbers, "1/s", "rate", at_once == 20, 4.0
        )
    for size, goal in ((100, 4.0), (1000, 12.0)):
        numbers = {"quicstack": (200_000, size), "native": (200_000, size), "peer": (30_000, size)}
        found[f"datagrams-{size}"] = Work(
            f"datagrams of {size} B, one way", "datagrams", "quic", numbers, "1/s", "rate", False, goal
        )
    numbers = {"quicstack": (3_000,), "native": (3_000,), "peer": (2_000,)}
    found["echo"] = Work("datagram echo, 100 B, p50", "echo", "quic", numbers, "us", "p50")
    numbers = {"quicstack": (1_000,), "native": (1_000,), "peer": (1_000,)}
    found["idle"] = Work("memory of an idle connection, client + server", "idle", "quic", numbers, "KiB", "kib")
    return found


WORK = _work()
NATIVE = ("qh3", "aiopquic", "pywebtransport")
PACKET = 1200


def python_of(stack: Stack) -> str:
    return sys.executable if stack.environment is None else str(PEERS / stack.environment / "bin/python")


def is_installed(name: str) -> bool:
    if Path(python_of(STACKS[name])).exists():
        return True
    print(f"  {name} is not installed: run `make peers`", file=sys.stderr)
    return False


def run(name: str, work: Work, loop: str, folder: str) -> dict[str, Any]:
    """One run in two fresh processes: the facts that its client says."""
    stack = STACKS[name]
    program = [python_of(stack), str(HERE / "stacks" / stack.program)]
    environment = os.environ | dict(stack.variables)
    numbers = work.numbers["quicstack" if name == "quicstack" else "native" if name in NATIVE else "peer"]
    server = subprocess.Popen(
        [*program, "server", loop, work.layer, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert server.stdin and server.stdout
    with contextlib.ExitStack() as after:
        after.callback(server.wait)
        after.callback(server.kill)
        port = json.loads(server.stdout.readline())["port"]
        client = subprocess.run(
            [*program, "client", loop, work.layer, str(port), work.work, *map(str, numbers)],
            stdout=subprocess.PIPE, text=True, timeout=300, env=environment,
        )  # fmt: skip
        if client.returncode:
            raise RuntimeError(f"{name} failed at {work.title}")
        facts: dict[str, Any] = json.loads(client.stdout.splitlines()[-1])
    return facts


def figure(work: Work, facts: dict[str, Any]) -> float:
    if work.figure == "mbit":
        return float(facts["bytes"] * 8 / facts["seconds"] / 1e6)
    if work.figure == "rate":
        return float(facts["count"] / facts["seconds"])
    if work.figure == "kib":
        return float((facts["client_bytes"] + facts["server_bytes"]) / 1024)
    return float(facts["p50"])


def cost(work: Work, facts: dict[str, Any]) -> str:
    """CPU of client + server: seconds a gigabyte, or microseconds a piece of work."""
    if work.figure == "mbit":
        return (
            f"{facts['client_cpu'] / facts['bytes'] * 1e9:.1f} + {facts['server_cpu'] / facts['bytes'] * 1e9:.1f} s/GB"
        )
    if work.figure == "kib":
        return f"{facts['client_bytes'] / 1024:.0f} + {facts['server_bytes'] / 1024:.0f} KiB"
    count = facts["count"] or 1
    return f"{facts['client_cpu'] / count * 1e6:.0f} + {facts['server_cpu'] / count * 1e6:.0f} us"


def acks(facts: dict[str, Any]) -> str:
    sent, received = facts.get("packets_sent"), facts.get("packets_received")
    if not sent or not received:
        return ""
    return f"{100 * min(sent, received) / max(sent, received):.1f}"


def machine() -> dict[str, Any]:
    processor = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    versions = {}
    for package in ("quicstack", "aioquic", "qh3", "uvloop", "cryptography"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{os.cpu_count()} x {processor}",
        "load": round(os.getloadavg()[0], 2),
        "versions": versions,
    }


def make_certificate(folder: Path) -> None:
    """P-256, no intermediate: what every stack here can sign and check."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def compare(work: Work, stacks: list[str], loops: list[str], pairs: int, folder: str) -> list[dict[str, Any]]:
    """Every stack on every loop, in turn, ``pairs`` times."""
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    able = [name for name in stacks if work.layer in STACKS[name].layers and is_installed(name)]
    for _ in range(pairs):
        for name in able:
            for loop in loops:
                try:
                    facts = run(name, work, loop, folder)
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    print(f"  {name}, {loop}: {error}", file=sys.stderr)
                    continue
                runs.setdefault((name, loop), []).append(facts)
    rows = []
    for (name, loop), found in runs.items():
        values = [figure(work, facts) for facts in found]
        middle = sorted(found, key=lambda facts: figure(work, facts))[len(found) // 2]
        rows.append(
            {"work": work.title, "stack": name, "loop": loop, "values": values, "median": statistics.median(values),
             "cost": cost(work, middle), "acks": acks(middle), "facts": middle}
        )  # fmt: skip
    return rows


def ratio(work: Work, ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios inside the pairs; above 1 we are better."""
    pairs = zip(ours, theirs, strict=False)
    smaller_is_better = work.figure in ("p50", "kib")
    return statistics.median(b / a if smaller_is_better else a / b for a, b in pairs)


def table(work: Work, rows: list[dict[str, Any]]) -> str:
    best = {}
    for row in rows:
        better = min if work.figure in ("p50", "kib") else max
        known = best.get(row["stack"])
        if known is None or better(row["median"], known["median"]) == row["median"]:
            best[row["stack"]] = row
    head = f"| stack | loop | {work.unit} | runs | CPU, client + server | ACKs in 100 | to aioquic | to native |"
    lines = [f"### {work.title}", "", head, "|---|---|---|---|---|---|---|---|"]
    native = [best[name] for name in NATIVE if name in best]
    strongest = max(native, key=lambda row: ratio(work, row["values"], native[0]["values"]), default=None)
    for row in sorted(rows, key=lambda row: (row["stack"] != "quicstack", row["stack"], row["loop"])):
        marks = []
        for other in (best.get("aioquic"), strongest):
            is_ours = row["stack"] == "quicstack" and other is not None
            marks.append(f"x {ratio(work, row['values'], other['values']):.2f}" if is_ours and other else "")
        spread = f"{min(row['values']):,.0f} - {max(row['values']):,.0f}"
        lines.append(
            f"| {row['stack']} | {row['loop']} | {row['median']:,.0f} | {spread} | {row['cost']} | {row['acks']} | "
            + " | ".join(marks) + " |"
        )  # fmt: skip
    if work.goal is not None and "quicstack" in best and "aioquic" in best:
        reached = ratio(work, best["quicstack"]["values"], best["aioquic"]["values"])
        lines += ["", f"Goal: {work.goal} x aioquic. {'Reached' if reached >= work.goal else 'Short'}: {reached:.2f}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Every stack at the same work, in turn, over the loopback.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--work", nargs="*", help=", ".join(WORK))
    parser.add_argument("--stacks", nargs="*", default=list(STACKS))
    parser.add_argument("--loops", nargs="*", default=["asyncio", "uvloop"])
    parser.add_argument("--all", action="store_true", help="the long set")
    parser.add_argument("--json", type=Path, help="where to write the results")
    arguments = parser.parse_args()
    names = arguments.work or [name for name, work in WORK.items() if arguments.all or work.short]
    facts = machine()
    print(f"{facts['date']}, Python {facts['python']}, {facts['system']}, {facts['processor']}, load {facts['load']}")
    print(", ".join(f"{name} {number}" for name, number in facts["versions"].items()), "\n")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(Path(folder))
        for name in names:
            rows = compare(WORK[name], arguments.stacks, arguments.loops, arguments.pairs, folder)
            results += rows
            print(table(WORK[name], rows), "\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

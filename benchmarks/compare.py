"""Every stack at the same work, in turn, over the loopback: `make bench` (short) and `make bench-all`.

    python benchmarks/compare.py --pairs 5 --work download-quic requests-1-quic --stacks quicstack aioquic

A server and a client in a process each, each on a core of its own. The stacks take turns, A B A B, because a shared
machine is faster in one minute than in the next: what counts is the ratio inside a pair, and the table gives the median
of those. CPU is what the operating system charged to each process while the work went on, without start and imports.

What there is to measure is in `rows.py`, what each stack does in `workloads.py` and `stacks/`, the tables in
`tables.py`. ``--report FOLDER`` keeps the results there (`report.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import report
from rows import STACKS, WORK, Entry, Stack, Work
from tables import Line, line, table, verdicts

HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-peers"


def python_of(stack: Stack) -> str:
    return sys.executable if stack.environment is None else str(PEERS / stack.environment / "bin/python")


def is_installed(name: str) -> bool:
    """Whether the stack can be imported where it has to run."""
    stack = STACKS[name]
    module = dict(stack.variables).get("BENCH_STACK", name)
    python = python_of(stack)
    if Path(python).exists() and not subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
        return True
    print(f"{name} is not installed, and its lines are missing: run `make peers`.", flush=True)
    return False


def run(entry: Entry, loop: str, folder: str, scale: float) -> dict[str, Any]:
    """One run in two fresh processes: the facts that its client says."""
    stack = STACKS[entry.stack]
    program = [python_of(stack), str(HERE / "stacks" / stack.program)]
    environment = os.environ | dict(stack.variables) | dict(entry.variables)
    amount, *others = entry.numbers
    numbers = [max(1, round(amount * scale)), *others]
    server = subprocess.Popen(
        [*program, "server", loop, entry.layer, folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert server.stdin and server.stdout
    with contextlib.ExitStack() as after:
        after.callback(server.stdout.close)
        after.callback(server.stdin.close)
        after.callback(server.wait)
        after.callback(server.kill)
        port = json.loads(server.stdout.readline())["port"]
        client = subprocess.run(
            [*program, "client", loop, entry.layer, str(port), entry.work, *map(str, numbers)],
            stdout=subprocess.PIPE, text=True, timeout=120, env=environment,
        )  # fmt: skip
        if client.returncode or not client.stdout:
            raise RuntimeError(f"the client ended with {client.returncode}")
        facts: dict[str, Any] = json.loads(client.stdout.splitlines()[-1])
    return facts


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


def compare(work: Work, stacks: list[str], loops: list[str], pairs: int, folder: str, scale: float = 1) -> list[Line]:
    """Every stack on every loop, in turn, ``pairs`` times."""
    runs: dict[tuple[Entry, str], list[dict[str, Any]]] = {}
    for _ in range(1 if work.once else pairs):
        for entry in work.entries:
            if entry.stack not in stacks:
                continue
            for loop in loops:
                try:
                    facts = run(entry, loop, folder, scale)
                except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
                    print(f"{work.title}: {entry.name}, {loop}: {error}", flush=True)
                    continue
                runs.setdefault((entry, loop), []).append(facts)
    lines = [line(work, entry, loop, found) for (entry, loop), found in runs.items()]
    for (entry, loop), found in zip(runs, lines, strict=True):
        if entry.stack == "quicstack" and work.figure != "kib":
            counting = entry._replace(variables=(*entry.variables, ("BENCH_COUNT", "1")))
            found["acks"] = run(counting, loop, folder, scale / 5)["acks"]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Every stack at the same work, in turn, over the loopback.")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--work", nargs="*", help=", ".join(WORK))
    parser.add_argument("--stacks", nargs="*", default=list(STACKS))
    parser.add_argument("--loops", nargs="*", default=["asyncio", "uvloop"])
    parser.add_argument("--all", action="store_true", help="the long set")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="how much of each piece of work, e.g. 0.01 for a trial"
    )
    parser.add_argument("--report", type=Path, help="a folder for the results")
    arguments = parser.parse_args()
    names = arguments.work or [name for name, work in WORK.items() if arguments.all or work.short]
    facts = report.machine()
    print(report.describe(facts), "\n")
    stacks = [name for name in arguments.stacks if is_installed(name)]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(Path(folder))
        for name in names:
            work = WORK[name]
            lines = compare(work, stacks, arguments.loops, arguments.pairs, folder, arguments.scale)
            if not lines:
                continue
            text = table(work, lines)
            results.append({"row": name, "lines": lines, "verdicts": verdicts(work, lines), "text": text})
            print(text, "\n", flush=True)
    if arguments.report:
        report.save(arguments.report, "compare", facts, results)


if __name__ == "__main__":
    main()

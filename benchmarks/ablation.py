"""What each trick gains: the same work with and without it, in turn. (`make bench-all`)

    python benchmarks/ablation.py [--tricks masks gso] [--rounds 3]

``stacks/without.py`` has the tricks that can be switched off. CPU of both sides, smallest of the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import report
from compare import make_certificate, run
from rows import Entry
from stacks.without import TRICKS

WORK = {
    "bulk": Entry("quicstack", "quic", "download", (150_000_000,)),
    "request": Entry("quicstack", "quic", "requests", (3_000, 1)),
}
UNITS = {"bulk": "a packet in bulk", "request": "a request with its answer"}


def cost(entry: Entry, trick: str | None, folder: str, scale: float) -> tuple[float, float]:
    """CPU of both sides in microseconds, and how much was done a second."""
    without = (("BENCH_WITHOUT", trick),) if trick else ()
    facts = run(entry._replace(variables=without), "asyncio", folder, scale)
    count = facts["bytes"] / 1200 if "bytes" in facts else facts["count"]
    return (facts["client_cpu"] + facts["server_cpu"]) / count * 1e6, count / facts["seconds"]


def compare(trick: str, work: str, rounds: int, folder: str, scale: float) -> dict[str, Any]:
    found: dict[str | None, list[tuple[float, float]]] = {None: [], trick: []}
    for _ in range(rounds):
        for which, costs in found.items():
            costs.append(cost(WORK[work], which, folder, scale))
    with_it, without = (min(costs)[0] for costs in found.values())
    fast, slow = (max(rate for _, rate in costs) for costs in found.values())
    rates = (
        f"{slow * 9600 / 1e6:,.0f} | {fast * 9600 / 1e6:,.0f} Mbit/s"
        if work == "bulk"
        else f"{slow:,.0f} | {fast:,.0f} a second"
    )
    costs_too = f"{without:.1f} | {with_it:.1f} | {without - with_it:+.1f}"
    text = f"| {TRICKS[trick].title} | {UNITS[work]} | {costs_too} | {rates} |"
    print(text, flush=True)
    return {"name": trick, "work": work, "without": without, "with": with_it, "text": text}


HEAD = (
    "| trick | CPU of both sides, us | without it | with it | gain | rate without it | with it |\n" + "|---" * 7 + "|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="What each trick gains.")
    parser.add_argument("--tricks", nargs="*", default=list(TRICKS), help=", ".join(TRICKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each piece of work")
    parser.add_argument("--report", type=Path, help="a folder for the results")
    arguments = parser.parse_args()
    facts = report.machine()
    print(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(Path(folder))
        rows = [
            compare(trick, work, arguments.rounds, folder, arguments.scale)
            for trick in arguments.tricks
            for work in TRICKS[trick].works
        ]
    if arguments.report:
        text = "\n".join([HEAD, *(row["text"] for row in rows)])
        report.save(arguments.report, "ablation", facts, [{"text": text, "rows": rows}])


if __name__ == "__main__":
    main()

"""``make interop``: the runner's cases between us and everybody who is here, without containers.

Each peer also plays against itself (a server without a client against another peer's). What it fails there as well is
its own; what it passes there and fails against us is ours until somebody proves otherwise.

    python -m interop.run                                   # everything; half an hour and more
    python -m interop.run --peers aioquic --cases retry,v2  # a part of it
    python -m interop.run --smoke                           # us against us, a few cases
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from interop.capture import missing_tshark
from interop.cases import CASES, SMOKE, Case
from interop.implementations import IMPLEMENTATIONS, OURS, Implementation
from interop.judge import judge, read_evidence
from interop.report import Outcome, Result, Results, matrix, write_report
from interop.stage import perform

__all__ = ["main", "pairs", "run_one"]

ROOT: Final = Path(__file__).parents[1]
LOGS: Final = ROOT / "interop-logs"
SEED: Final = 20260401

Pair = tuple[Implementation, Implementation]


def pairs(peers: Sequence[Implementation]) -> list[Pair]:
    """Client and server of each column: us alone, both roles with each peer, and each peer alone."""
    found: list[Pair] = [(OURS, OURS)]
    for peer in peers:
        if peer.is_server:
            found.append((OURS, peer))
        if peer.is_client:
            found.append((peer, OURS))
        alone = partner(peer)
        if alone is not None:
            found.append((alone, peer) if not peer.is_client else (peer, peer))
    return found


def partner(peer: Implementation) -> Implementation | None:
    """Whom a peer plays without us: itself, or ngtcp2's client where it has none."""
    if peer.is_client and peer.is_server:
        return peer
    ngtcp2 = IMPLEMENTATIONS["ngtcp2"]
    return ngtcp2 if ngtcp2.missing is None else None


def run_one(case: Case, client: Implementation, server: Implementation, logs: Path, seed: int = SEED) -> Result:
    """One cell of the matrix."""
    folder = logs / f"{client.name}_{server.name}" / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = perform(case, client, server, folder, seed)
    if run.is_unsupported:
        return Result(case.name, client.name, server.name, Outcome.UNSUPPORTED, [], run.seconds)
    complaints = [run.complaint] if run.complaint else []
    try:
        complaints += judge(read_evidence(case, run.client_capture, run.server_capture, run.key_log, run.server_ports))
    except RuntimeError as error:
        complaints.append(str(error))
    if not complaints:
        for name in ("www", "downloads"):
            shutil.rmtree(folder / name)  # the same bytes twice; the captures tell the story
    return Result(
        case.name,
        client.name,
        server.name,
        Outcome.FAILED if complaints else Outcome.PASSED,
        complaints,
        run.seconds,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m interop.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default=",".join(name for name in IMPLEMENTATIONS if name != OURS.name))
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--pair", metavar="CLIENT:SERVER", help="this pair alone")
    parser.add_argument("--jobs", type=int, default=3, help="runs at a time: most of a run is waiting for the link")
    parser.add_argument("--logs", type=Path, default=LOGS, help="captures, keys and logs of all runs")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--merge", action="store_true", help="keep the results of earlier runs for what is not run now")
    parser.add_argument("--report", type=Path, help="write the results as a page")
    parser.add_argument("--smoke", action="store_true", help="us against us, a few cases")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> tuple[list[Pair], list[Case]]:
    cases = [CASES[name] for name in (SMOKE if options.smoke else options.cases.split(",")) if name]
    if options.pair:
        client, server = options.pair.split(":")
        return [(IMPLEMENTATIONS[client], IMPLEMENTATIONS[server])], cases
    peers = []
    for name in [] if options.smoke else [name for name in options.peers.split(",") if name]:
        if (reason := IMPLEMENTATIONS[name].missing) is not None:
            print(reason, file=sys.stderr)
        else:
            peers.append(IMPLEMENTATIONS[name])
    return pairs(peers), cases


def main() -> int:
    options = arguments()
    if (reason := missing_tshark()) is not None:
        print(reason, file=sys.stderr)
        return 2
    wanted, cases = chosen(options)
    options.logs.mkdir(parents=True, exist_ok=True)
    kept = options.logs / "results.json"
    results = Results.load(kept) if options.merge and kept.exists() else Results()
    started = time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = [
            pool.submit(run_one, case, client, server, options.logs, options.seed)
            for client, server in wanted
            for case in cases
        ]
        for number, job in enumerate(jobs, 1):
            result = job.result()
            results.add(result)
            kept.write_text(json.dumps(results.to_json(), indent=1))
            print(f"[{number}/{len(jobs)}] {result}", flush=True)
    minutes = (time.monotonic() - started) / 60
    print(f"\n{matrix(results)}\n\n{len(jobs)} runs in {minutes:.0f} minutes; logs in {options.logs}")
    if options.report is not None:
        write_report(results, options.report)
        print(f"written: {options.report}")
    return 1 if results.ours_to_explain() else 0


if __name__ == "__main__":
    sys.exit(main())

"""Coverage-guided fuzzing of every target in ``targets``, with atheris.

``python tests/fuzz/fuzz.py --seconds 60`` gives each target a minute, a process of its own, the corpus kept beside this
file and a working corpus under ``.fuzz/``, and writes ``docs/fuzzing.md`` when each has had its turn. ``--minimise``
then makes the kept corpus from the working one: what adds coverage, the smallest first. ``--one NAME`` is how it calls
itself; further arguments go to libFuzzer.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
import textwrap
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".fuzz"
MAX_LENGTH = 4096
SLOWER = 4
"""A target that shakes hands for each input gets so many times as long as one that only reads."""
KEPT = 9_000
"""Bytes of corpus kept for a target: about 250 KB of hexadecimal for all."""

sys.path.insert(0, str(Path(__file__).parent))


@dataclass
class Result:
    """What libFuzzer says at the end. The last one of each target is kept for the report."""

    target: str
    seconds: int
    executions: int
    coverage: int
    features: int
    corpus: int
    finding: str


def run_one(name: str, arguments: list[str]) -> None:
    """The process of one target: our packages are loaded with instruments in them."""
    import atheris

    with atheris.instrument_imports(include=["quicstack", "h3", "webtransport"]):
        from targets import GROUPS, TARGETS, group
    atheris.Setup([sys.argv[0], *arguments], group(name) if name in GROUPS else TARGETS[name])
    atheris.Fuzz()


def fuzz(name: str, seconds: int, extra: list[str]) -> Result:
    """Give one target some time."""
    from targets import GROUPS, read_corpus

    working = WORK / name
    working.mkdir(parents=True, exist_ok=True)
    kept = read_corpus(name)
    for number, member in enumerate(GROUPS.get(name, ())):
        kept += [bytes((number,)) + data for data in read_corpus(member)]
    for data in kept:
        (working / sha256(data).hexdigest()).write_bytes(data)
    command = [
        sys.executable, __file__, "--one", name, str(working), f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}",
        "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={WORK}/{name}-", "-print_final_stats=1", *extra,
    ]  # fmt: skip
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    text = output.stdout + output.stderr
    progress = re.findall(r"#\d+\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/", text)
    coverage, features, corpus = map(int, progress[-1]) if progress else (0, 0, 0)
    executions = re.search(r"number_of_executed_units: (\d+)", text)
    finding = ""
    if output.returncode:
        errors = re.findall(
            r"^(?:\w+\.)*\w*(?:Error|Exception|Exit|Closed)\b.*|ERROR: libFuzzer: .*", text, re.MULTILINE
        )
        finding = errors[0].strip() if errors else text[-400:]
        (WORK / f"{name}.log").write_text(text)
    result = Result(name, seconds, int(executions[1]) if executions else 0, coverage, features, corpus, finding)
    (WORK / f"{name}.json").write_text(json.dumps(asdict(result)))
    return result


def minimise(name: str) -> None:
    """Keep what adds features, by libFuzzer's merge, up to a size."""
    from targets import write_corpus

    smaller = WORK / f"{name}.min"
    smaller.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--one", name, "-merge=1", "-timeout=20", str(smaller), str(WORK / name)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    kept: set[bytes] = set()
    size = 0
    for data in sorted((path.read_bytes() for path in smaller.iterdir()), key=len):
        size += len(data)
        if size > KEPT:
            break
        kept.add(data)
    write_corpus(name, kept)


def report(results: list[Result]) -> str:
    """docs/fuzzing.md, of the last run of each target."""
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    total = sum(result.executions for result in results)
    findings = [result for result in results if result.finding]
    about = f"""
        The last long run of `make fuzz`: atheris {importlib.metadata.version("atheris")} on {len(results)} targets,
        {datetime.date.today():%Y-%m-%d}, revision {revision},
        {platform.python_implementation()} {platform.python_version()}. A target is a function of bytes in
        [tests/fuzz](../tests/fuzz): a reader may return or raise the error of its layer, a connection may close with
        any code but INTERNAL_ERROR, and everything else is a finding. Coverage counts edges of our bytecode that
        libFuzzer saw, features also how often."""
    summary = f"""
        {total:,} executions, {len(findings)} findings{":" if findings else "."}"""
    rows = [
        f"| {r.target} | {r.seconds} | {r.executions:,} | {r.coverage:,} | {r.features:,} | {r.corpus:,} |"
        for r in results
    ]
    parts = ["# Fuzzing", *(textwrap.fill(" ".join(text.split()), 120) for text in (about, summary))]
    if findings:
        parts.append("\n".join(f"- {result.target}: `{result.finding[:200]}`" for result in findings))
    parts.append(
        "\n".join(
            ["| target | seconds | executions | coverage | features | corpus |", "|---|---|---|---|---|---|", *rows]
        )
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        run_one(sys.argv[2], sys.argv[3:])
        return
    from targets import GROUPS, TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--minimise", action="store_true", help="make the kept corpus anew from the working one")
    arguments = parser.parse_args()
    results = []
    for name in arguments.targets:
        seconds = arguments.seconds * (SLOWER if name in GROUPS["connections"] else 1)
        results.append(result := fuzz(name, seconds, []))
        print(result, flush=True)
        if arguments.minimise and not result.finding:
            minimise(name)
    kept = [WORK / f"{name}.json" for name in TARGETS]
    if all(path.exists() for path in kept):
        latest = [Result(**json.loads(path.read_text())) for path in kept]
        (ROOT / "docs" / "fuzzing.md").write_text(report(latest))
    sys.exit(any(result.finding for result in results))


if __name__ == "__main__":
    main()

"""Runs mutmut on a copy of the tree and says which changes of the source no test has noticed.

    python tests/mutation/mutants.py [--hours 2] [--only quicstack/recovery/rtt.py] [--report]

What is mutated and by which tests it is judged stands in ``pyproject.toml`` under ``[tool.mutmut]``. The copy lies in
``build/mutants`` and remembers what it knows: a run that was stopped goes on, a function that changed is judged again.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("quicstack", "h3", "webtransport", "tests", "pyproject.toml", "README.md")

# How pytest ended, as mutmut notes it: by SIGXCPU or its own clock, or with a failed test.
TIMEOUTS = {36, 24, -24, 152, 255}
SURVIVED = {0, 5, 33}
UNKNOWN = {None, 2, 34}


@dataclass
class FileReport:
    """What became of the mutants of one file."""

    path: str
    killed: int
    timeouts: int
    survivors: list[str]
    unknown: int

    @property
    def judged(self) -> int:
        return self.killed + self.timeouts + len(self.survivors)


def copy_tree(target: Path) -> None:
    """The sources and tests as they are now. Files that did not change keep their time, so mutmut skips them."""
    target.mkdir(parents=True, exist_ok=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target / name)


def choose(target: Path, files: Sequence[str], tests: Sequence[str]) -> None:
    """Narrow the copy's settings to these files and tests; none stands for what the project has set."""
    text = (target / "pyproject.toml").read_text()
    settings = tomllib.loads(text)["tool"]["mutmut"]
    settings["only_mutate"] = list(files) or settings["only_mutate"]
    settings["pytest_add_cli_args_test_selection"] = list(tests) or settings["pytest_add_cli_args_test_selection"]
    head, _, _ = text.partition("[tool.mutmut]")
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (target / "pyproject.toml").write_text(head + "[tool.mutmut]\n" + "\n".join(lines) + "\n")


def run(target: Path, seconds: float, *, quiet: bool = False) -> None:
    """Let mutmut work in the copy, in one process, and stop it when the time is over."""
    output = subprocess.DEVNULL if quiet else None
    # The checkout's own packages must not shadow those of the copy, so mutmut is started as a module from there.
    process = subprocess.Popen(
        [sys.executable, "-m", "mutmut", "run", "--max-children", "1"],
        cwd=target,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def reports(target: Path) -> Iterator[FileReport]:
    for meta in sorted((target / "mutants").rglob("*.py.meta")):
        codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
        if codes:
            values = list(codes.values())
            yield FileReport(
                str(meta.relative_to(target / "mutants")).removesuffix(".meta"),
                sum(1 for code in values if code not in TIMEOUTS | SURVIVED | UNKNOWN),
                sum(1 for code in values if code in TIMEOUTS),
                [name for name, code in codes.items() if code in SURVIVED],
                sum(1 for code in values if code in UNKNOWN),
            )


def difference(target: Path, path: str, mutant: str) -> str:
    """The lines that a mutant takes out and puts in."""
    short = mutant.rpartition(".")[2]
    wanted = {re.sub(r"__mutmut_\d+$", "__mutmut_orig", short): 0, short: 1}
    texts = ["", ""]
    for node in ast.walk(ast.parse((target / "mutants" / path).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in wanted:
            texts[wanted[node.name]] = "\n".join(ast.unparse(node).splitlines()[1:])
    lines = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), lineterm="", n=0)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def table(found: Sequence[FileReport]) -> str:
    lines = ["| file | mutants | killed | timeouts | survived | not judged |", "|---|--:|--:|--:|--:|--:|"]
    sums = [0] * 5
    for report in found:
        row = [report.judged + report.unknown, report.killed, report.timeouts, len(report.survivors), report.unknown]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        lines.append(f"| `{report.path}` | " + " | ".join(map(str, row)) + " |")
    lines.append("| together | " + " | ".join(map(str, sums)) + " |")
    judged = sums[0] - sums[4]
    return "\n".join(
        [*lines, "", f"{100 * sums[3] / judged:.1f} % of {judged} survived." if judged else "None judged."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=2.0, help="stop after so many hours")
    parser.add_argument("--only", nargs="+", default=[], help="files to mutate, instead of those of pyproject.toml")
    parser.add_argument("--tests", nargs="+", default=[], help="tests that judge them")
    parser.add_argument("--report", action="store_true", help="run nothing, show what is known")
    arguments = parser.parse_args()
    target = ROOT / "build" / "mutants"
    if not arguments.report:
        copy_tree(target)
        choose(target, arguments.only, arguments.tests)
        run(target, arguments.hours * 3600)
    found = list(reports(target))
    for report in found:
        for mutant in report.survivors:
            print(f"\n{report.path}: {mutant.rpartition('.')[2]}\n{difference(target, report.path, mutant)}")
    print("\n" + table(found))


if __name__ == "__main__":
    main()

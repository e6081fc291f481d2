"""Every benchmark runs, in small: a harness that nobody starts rots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rows import WORK

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_compare(tmp_path: Path) -> None:
    """All rows, ours alone."""
    run("benchmarks/compare.py", "--all", "--stacks", "quicstack", "--pairs", "1", "--loops", "asyncio",
        "--scale", "0.003", "--report", str(tmp_path))  # fmt: skip
    found = json.loads((tmp_path / "compare.json").read_text())
    assert [result["row"] for result in found["results"]] == list(WORK)
    assert all(result["lines"][0]["median"] > 0 for result in found["results"] if not result["row"].startswith("idle"))


def test_micro() -> None:
    assert " passed" in run("-m", "pytest", "benchmarks/micro", "--benchmark-disable", "-q", "-p", "no:cacheprovider")


def test_floor_and_engine(tmp_path: Path) -> None:
    run("benchmarks/floor.py", "--report", str(tmp_path))
    run("benchmarks/engine.py", "--rounds", "1", "--size", "1000000", "--report", str(tmp_path))
    assert "The engine alone" in (tmp_path / "report.md").read_text()


def test_stages(tmp_path: Path) -> None:
    run("benchmarks/stages.py", "--scale", "0.02", "--report", str(tmp_path))
    assert "header protection" in (tmp_path / "report.md").read_text()


def test_instructions(tmp_path: Path) -> None:
    """The same work takes the same number of instructions, whatever else the machine does."""
    for folder in (tmp_path / "one", tmp_path / "two"):
        run("benchmarks/instructions.py", "--work", "echo", "--report", str(folder))
    one, two = (
        json.loads((tmp_path / name / "instructions.json").read_text())["results"][0]["rows"][0]
        for name in ("one", "two")
    )
    assert one["instructions"] == pytest.approx(two["instructions"], rel=0.05)
    assert "| echo |" in (tmp_path / "one" / "report.md").read_text()


def test_paths(tmp_path: Path) -> None:
    run("benchmarks/paths.py", "--seeds", "1", "--megabytes", "0.3", "--report", str(tmp_path))
    assert "newreno" in (tmp_path / "report.md").read_text()


def test_ablation(tmp_path: Path) -> None:
    run("benchmarks/ablation.py", "--rounds", "1", "--scale", "0.003", "--report", str(tmp_path))
    assert "(GSO)" in (tmp_path / "report.md").read_text()

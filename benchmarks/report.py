"""What was measured, kept: a JSON file for each program, and from those report.md and the plots.

    python benchmarks/report.py docs/performance

Every program here takes ``--report FOLDER`` and calls :func:`save`. A program that runs again replaces its own part,
and what the others found stays with its date.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PARTS = {
    "compare": "Beside other stacks",
    "floor": "The floor",
    "engine": "The engine alone",
    "stages": "Where the time goes",
    "instructions": "How many instructions Python executes",
    "ablation": "What each trick gains",
    "growth": "When there is more of everything",
    "paths": "A real path",
}
"""In the order of the report."""
PACKAGES = ("quicstack", "aioquic", "qh3", "aiopquic", "pywebtransport", "uvloop", "cryptography")


def machine() -> dict[str, Any]:
    processor = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{os.cpu_count()} x {processor}",
        "load": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages here, and of those in the environments of peers."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    for package, environment in (("aiopquic", "aiopquic"), ("pywebtransport", "pywebtransport-new")):
        for folder in (ROOT / ".venv-peers" / environment).glob(f"lib/python*/site-packages/{package}-*.dist-info"):
            found[package] = folder.name.removeprefix(f"{package}-").removesuffix(".dist-info")
    return found


def commit() -> str:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"


def describe(facts: dict[str, Any]) -> str:
    names = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"{facts['date']}, commit {facts['commit']}, Python {facts['python']}, {facts['system']}, "
        f"{facts['processor']}, load {facts['load']}. {names}."
    )


def save(folder: Path, part: str, facts: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Keep what a program found, and write the report anew. Each result has a ``text`` in Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": facts, "results": results}
    (folder / f"{part}.json").write_text(json.dumps(content, indent=1) + "\n")
    write(folder)


def write(folder: Path) -> None:
    found = {
        part: json.loads((folder / f"{part}.json").read_text()) for part in PARTS if (folder / f"{part}.json").exists()
    }
    drawn = draw(folder, found)
    text = [
        "# Measurements",
        "",
        "Written by `benchmarks/report.py` from the JSON files beside it; `make bench-all` makes them all. What the",
        "rows mean, and why some are short of their goal, is in [performance.md](../performance.md).",
        "",
    ]
    if "compare" in found:
        text += [*summary(found["compare"]["results"]), ""]
    for part, content in found.items():
        text += [f"## {PARTS[part]}", "", describe(content["machine"]), ""]
        text += [f"![{part}]({name})\n" for name in drawn.get(part, [])]
        for result in content["results"]:
            text += [result["text"], ""] if "text" in result else []
    (folder / "report.md").write_text("\n".join(text).rstrip() + "\n")


def summary(results: list[dict[str, Any]]) -> list[str]:
    """Every goal and whether it was reached, first."""
    text = ["## Goals", "", "| row | loop | reached and goal | |", "|---|---|---|---|"]
    for result in results:
        title = result["text"].splitlines()[0].removeprefix("### ")
        for found in result["verdicts"]:
            word = {True: "reached", False: "**short**", None: "unknown"}[found["reached"]]
            text.append(f"| {title} | {found['loop']} | {found['words']} | {word} |")
    return text


# -- plots


def draw(folder: Path, found: dict[str, Any]) -> dict[str, list[str]]:
    """The plots of each part, as SVG. Without matplotlib there are those of last time, or none."""
    try:
        import matplotlib
    except ImportError:
        print("No plots: they need matplotlib (pip install '.[plots]').", file=sys.stderr)
        return {part: [path.name for path in [folder / f"{part}.svg"] if path.exists()] for part in found}
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "quicstack"
    drawn = {}
    for part, painter in (("compare", draw_ratios), ("growth", draw_growth)):
        if part in found and painter(folder / f"{part}.svg", found[part]["results"]):
            drawn[part] = [f"{part}.svg"]
    return drawn


def draw_ratios(path: Path, results: list[dict[str, Any]]) -> bool:
    """A bar a row and loop: how far it came to its first goal that is a ratio, 1 being the goal."""
    bars = []
    for result in results:
        for found in result["verdicts"]:
            if " x aioquic" in found["words"] and found["reached"] is not None:
                reached = float(found["words"].split(" x ")[0])
                bars.append((f"{result['row']}, {found['loop']}", reached, found["number"]))
    if not bars:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.28 * len(bars) + 1))
    axes = figure.subplots()
    places = range(len(bars))[::-1]
    axes.barh(places, [bar[1] for bar in bars], color="#4878a8", label="times as fast as aioquic at its fastest")
    axes.scatter([bar[2] for bar in bars], places, marker="|", s=160, color="#c03030", label="goal", zorder=3)
    axes.set_yticks(places, [bar[0] for bar in bars], fontsize=8)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return True


def draw_growth(path: Path, results: list[dict[str, Any]]) -> bool:
    """A bar a row: the cost of a packet when there is much, by that when there is little; the goal is flat in 15 %."""
    rows = [result for result in results if "ratio" in result]
    if not rows:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.4 * len(rows) + 1))
    axes = figure.subplots()
    places = range(len(rows))[::-1]
    axes.barh(places, [row["ratio"] for row in rows], color="#4878a8")
    axes.axvspan(0.85, 1.15, color="#c03030", alpha=0.15, label="flat within 15 %")
    axes.set_yticks(places, [row["name"] for row in rows], fontsize=8)
    axes.set_xlabel("CPU per packet, many / few")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    return True


if __name__ == "__main__":
    write(Path(sys.argv[1]))

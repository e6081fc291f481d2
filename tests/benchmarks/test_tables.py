"""What the benchmarks make of runs: figures, ratios inside pairs, verdicts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import report
from rows import STACKS, WORK, Entry, Goal, Work
from stages import STAGES, by_stage, stage_of
from tables import line, ratio, table, verdicts

OURS = Entry("quicstack", "quic", "requests", (100,))
THEIRS = Entry("aioquic", "quic", "requests", (100,))
RUST = Entry("qh3", "quic", "requests", (100,))


def run(rate: float, cpu: float = 1.0) -> dict[str, Any]:
    return {"count": 100, "seconds": 100 / rate, "client_cpu": cpu, "server_cpu": cpu}


def work(*goals: Goal) -> Work:
    return Work("some work", "1/s", "rate", (OURS, THEIRS, RUST), goals)


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    """A machine that is twice as fast in one pair changes nothing."""
    row = work()
    ours = line(row, OURS, "asyncio", [run(300), run(600), run(330)])
    theirs = line(row, THEIRS, "asyncio", [run(100), run(200), run(100)])
    assert ratio(row, ours, theirs) == pytest.approx(3.0)


def test_each_loop_has_to_reach_the_fastest_setting_of_the_peer() -> None:
    row = work(Goal("ratio", 4.0, "aioquic"))
    lines = [
        line(row, OURS, "asyncio", [run(390)]),
        line(row, OURS, "uvloop", [run(410)]),
        line(row, THEIRS, "asyncio", [run(100)]),
        line(row, THEIRS, "uvloop", [run(90)]),
    ]
    assert [(found["loop"], found["reached"]) for found in verdicts(row, lines)] == [
        ("asyncio", False),
        ("uvloop", True),
    ]
    assert "3.90 / 3.90" in table(row, lines) and "4.56 / 4.10" in table(row, lines)


def test_the_best_native_one_counts_in_speed_and_in_cpu() -> None:
    row = work(Goal("ratio", 1.25, "native"), Goal("cost", 1.0, "native"))
    lines = [line(row, OURS, "asyncio", [run(130, cpu=2)]), line(row, RUST, "asyncio", [run(100, cpu=1)])]
    assert [found["reached"] for found in verdicts(row, lines)] == [True, False]


def test_who_is_not_there_is_no_success() -> None:
    row = work(Goal("ratio", 1.25, "native"), Goal("ratio", 4.0, "aioquic"))
    found = verdicts(row, [line(row, OURS, "asyncio", [run(130)])])
    assert [verdict["reached"] for verdict in found] == [None, None]


def test_less_latency_and_memory_is_better() -> None:
    row = Work("echo", "us", "p50", (OURS, THEIRS), (Goal("most", 150.0),))
    ours, theirs = ({**run(1), "p50": p50, "p99": p50} for p50 in (100.0, 300.0))
    lines = [line(row, OURS, "asyncio", [ours]), line(row, THEIRS, "asyncio", [theirs])]
    assert ratio(row, *lines) == pytest.approx(3.0)
    assert [found["reached"] for found in verdicts(row, lines)] == [True]
    memory = Work("idle", "KiB", "kib", (OURS,), (Goal("side", 30.0),))
    facts = {**run(1), "client_bytes": 31 * 1024, "server_bytes": 20 * 1024}
    assert [found["reached"] for found in verdicts(memory, [line(memory, OURS, "asyncio", [facts])])] == [False]


def test_goals_name_lines_that_exist() -> None:
    for row in WORK.values():
        names = {entry.name for entry in row.entries}
        assert {entry.stack for entry in row.entries} <= set(STACKS)
        assert {goal.against for goal in row.goals} - {"", "native"} <= names, row.title


def test_every_module_has_a_stage() -> None:
    """What is called "other" is nobody's."""
    root = Path(report.ROOT)
    paths = [*(root / "quicstack").rglob("*.py"), *(root / "h3").rglob("*.py")]
    for path in (path for path in paths if path.parent.name != "simulator"):
        assert stage_of(f"{path}:1 function: text") != "other", path


def test_sealing_and_opening_are_found_in_the_source() -> None:
    path = Path(report.ROOT) / "quicstack/transport/packet_protection.py"
    lines = [text for text in path.read_text().splitlines() if stage_of(f"{path}:1 function: {text}") == "AEAD"]
    for call in ("self._seal(", "self._open(", "map(self._seal,", "map(self._open,"):
        assert any(call in text for text in lines), call


def test_stages_share_the_cpu() -> None:
    places = {
        "/x/quicstack/drivers/udp.py:355 _transmit: self.socket.sendmsg((train.data,), items, 0, path.remote)": 3,
        "/x/quicstack/recovery/loss.py:10 on_ack: pass": 1,
    }
    shares = by_stage(places, 8.0)
    assert (shares["system call"], shares["recovery"]) == (6.0, 2.0)
    assert sum(shares.values()) == pytest.approx(8.0) and set(shares) == set(STAGES)


def test_the_report_says_goals_first_and_keeps_other_parts(tmp_path: Path) -> None:
    row = work(Goal("ratio", 4.0, "aioquic"))
    lines = [line(row, OURS, "asyncio", [run(500)]), line(row, THEIRS, "asyncio", [run(100)])]
    result = {"row": "some", "lines": lines, "verdicts": verdicts(row, lines), "text": table(row, lines)}
    report.save(tmp_path, "floor", report.machine(), [{"text": "the floor"}])
    report.save(tmp_path, "compare", report.machine(), [result])
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"\| some work \| asyncio \| 5\.00 x aioquic \(asyncio\), goal 4 \| reached \|", text)
    assert text.index("## Goals") < text.index("### some work") < text.index("the floor")

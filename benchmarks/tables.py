"""From the facts of runs to figures, verdicts and Markdown: what `compare.py` prints and `report.py` keeps."""

from __future__ import annotations

import statistics
from typing import Any

from rows import NATIVE, Entry, Goal, Work

Facts = dict[str, Any]
Line = dict[str, Any]
"""One entry on one loop: its name, stack, loop, ``runs`` (facts of each), ``values`` and ``median``."""


def figure(work: Work, facts: Facts) -> float:
    if work.figure == "mbit":
        return float(facts["bytes"] * 8 / facts["seconds"] / 1e6)
    if work.figure == "rate":
        return float(facts["count"] / facts["seconds"])
    if work.figure == "kib":
        return float((facts["client_bytes"] + facts["server_bytes"]) / 1024)
    return float(facts["p50"])


def line(work: Work, entry: Entry, loop: str, runs: list[Facts]) -> Line:
    values = [figure(work, facts) for facts in runs]
    return {
        "name": entry.name, "stack": entry.stack, "loop": loop, "values": values, "median": statistics.median(values),
        "runs": runs,
    }  # fmt: skip


def middle(line: Line) -> Facts:
    """The facts of the run in the middle."""
    order = sorted(range(len(line["values"])), key=line["values"].__getitem__)
    facts: Facts = line["runs"][order[len(order) // 2]]
    return facts


def cpu(work: Work, facts: Facts) -> float:
    """CPU of both sides: seconds a gigabyte, or microseconds a piece of work."""
    both = float(facts["client_cpu"] + facts["server_cpu"])
    return both / facts["bytes"] * 1e9 if work.figure == "mbit" else both / (facts["count"] or 1) * 1e6


def ratio(work: Work, ours: Line, theirs: Line) -> float:
    """Median of the ratios inside the pairs; above 1 the first is better."""
    pairs = zip(ours["values"], theirs["values"], strict=False)
    return statistics.median(b / a if work.less_is_better else a / b for a, b in pairs)


def best(work: Work, lines: list[Line]) -> Line | None:
    """The setting that is fastest."""
    if not lines:
        return None
    return (min if work.less_is_better else max)(lines, key=lambda line: float(line["median"]))


def find(work: Work, lines: list[Line], against: str, loop: str | None = None) -> Line | None:
    """The best line of that name ("native": of all of those), on a loop or on any."""
    named = [line for line in lines if line["stack"] in NATIVE if against == "native"]
    named = named or [line for line in lines if line["name"] == against]
    return best(work, [line for line in named if loop in (None, line["loop"])])


# -- what a row has to reach


def verdict(work: Work, goal: Goal, ours: Line, lines: list[Line]) -> tuple[str, bool | None]:
    """What was reached, in words, and whether that is enough; None where there was nobody to compare with."""
    facts = middle(ours)
    if goal.kind == "most":
        return f"{ours['median']:,.0f} {work.unit}, goal at most {goal.number:g}", ours["median"] <= goal.number
    if goal.kind == "side":
        sides = [facts[side] / 1024 for side in ("client_bytes", "server_bytes")]
        return f"{sides[0]:.1f} + {sides[1]:.1f} KiB, goal at most {goal.number:g} a side", max(sides) <= goal.number
    if goal.kind == "cost":
        native = [cpu(work, middle(line)) for line in lines if line["stack"] in NATIVE]
        if not native:
            return "CPU below the best native: none was there", None
        share = cpu(work, facts) / min(native)
        return f"CPU {share:.2f} x that of the best native, goal below {goal.number:g}", share < goal.number
    other = find(work, lines, goal.against)
    if other is None:
        return f"{goal.number:g} x {goal.against}: not there", None
    reached = ratio(work, ours, other)
    who = f"{other['name']} (the best native)" if goal.against == "native" else goal.against
    return f"{reached:.2f} x {who} ({other['loop']}), goal {goal.number:g}", reached >= goal.number


def verdicts(work: Work, lines: list[Line]) -> list[dict[str, Any]]:
    """Of each goal, on each loop."""
    found = []
    for goal in work.goals:
        for ours in (line for line in lines if line["name"] == "quicstack"):
            words, reached = verdict(work, goal, ours, lines)
            found.append({"loop": ours["loop"], "words": words, "reached": reached, "number": goal.number})
    return found


# -- Markdown


def cost_cell(work: Work, facts: Facts) -> str:
    sides = facts["client_cpu"], facts["server_cpu"]
    if work.figure == "kib":
        return f"{facts['client_bytes'] / 1024:.1f} + {facts['server_bytes'] / 1024:.1f} KiB"
    if work.figure == "mbit":
        return " + ".join(f"{side / facts['bytes'] * 1e9:.1f}" for side in sides) + " s/GB"
    return " + ".join(f"{side / (facts['count'] or 1) * 1e6:.0f}" for side in sides) + " us"


def packets_cell(row: Line) -> tuple[str, str]:
    """ACKs in 100 packets that came, of client and server, and packets in a train. Of ours a run apart has counted the
    packets with an ACK frame; of others the packet numbers tell in bulk, where all that the receiver sends is ACKs."""
    facts = middle(row)
    sent, received = facts.get("packets_sent", 0), facts.get("packets_received", 0)
    many = "sent" if sent > received else "received"
    trains = facts.get(f"trains_{many}")
    train = f"{max(sent, received) / trains:.0f}" if trains else "-"
    if "acks" in row:
        return " / ".join(f"{acks:.1f}" for acks in row["acks"]), train
    if "bytes" in facts and sent and received:
        return f"{100 * min(sent, received) / max(sent, received):.1f}", train
    return "-", train


def ratio_cell(work: Work, ours: Line, lines: list[Line], against: str) -> str:
    """To the peer on the same loop, and to the peer at its fastest."""
    cells = []
    for loop in (ours["loop"], None):
        other = find(work, lines, against, loop)
        cells.append(f"{ratio(work, ours, other):.2f}" if other else "-")
    return " / ".join(cells)


def aioquic_name(lines: list[Line]) -> str:
    return next((line["name"] for line in lines if line["stack"] == "aioquic"), "aioquic")


def table(work: Work, lines: list[Line]) -> str:
    latency = work.figure == "p50"
    head = ["", "loop", work.unit, "runs", "CPU, client + server", "ACKs in 100, client / server", "packets a train",
            "to aioquic, same loop / fastest", "to native, same loop / fastest"]  # fmt: skip
    if latency:
        head.insert(3, "p99")
    text = [f"### {work.title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in lines:
        facts, values = middle(row), row["values"]
        cells = [row["name"], row["loop"], f"{row['median']:,.0f}", f"{min(values):,.0f} - {max(values):,.0f}"]
        if latency:
            cells.insert(3, f"{facts['p99']:,.0f}")
        ours = row["stack"] == "quicstack"
        compared = [ratio_cell(work, row, lines, name) if ours else "" for name in (aioquic_name(lines), "native")]
        text.append("| " + " | ".join([*cells, cost_cell(work, facts), *packets_cell(row), *compared]) + " |")
    text.append("")
    if not work.goals:
        text.append("- Goal: none; shown for orientation.")
    for found in verdicts(work, lines):
        word = {True: "Reached", False: "**Short**", None: "Unknown"}[found["reached"]]
        text.append(f"- Goal, {found['loop']}: {word}: {found['words']}.")
    return "\n".join(text)

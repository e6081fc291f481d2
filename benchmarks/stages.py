"""Where the microseconds go: CPU by stage, of both sides, beside the floor. (`make bench-all`)

    python benchmarks/stages.py [--work bulk "1 request"] [--places 20]

Both processes are sampled while they work (`sampling.py`), over real sockets on asyncio; what the operating system
charged them is divided among the stages as the samples fell. ``--places`` prints the lines that were struck most.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import floor
import report
from compare import make_certificate, run
from rows import Entry

RULES = (
    # stage, the file, the line that was struck; the first that fits
    ("system call", r"", r"\b(sendmsg|recvmsg\w*|sendto|recvfrom\w*|poll)\("),
    ("AEAD", r"packet_protection", r"to_bytes\(12,|map\(self\._(seal|open)"),  # the nonce, and what takes it
    ("header protection", r"packet_protection", r""),
    ("routing", r"quicstack/(endpoint|train|stateless)\.py", r""),
    ("ACK building", r"transport/(ack_|packet_space)|connection/ack_", r""),
    ("ACK building", r"wire/(frame|ranges)", r"\b(write|encode)_ack|ranges"),
    ("frames", r"quicstack/wire/|connection/(frames|runs)\.py", r""),
    ("congestion control", r"recovery/(congestion/|pacer|ecn)", r""),
    ("recovery", r"quicstack/recovery/|connection/retransmission", r""),
    ("streams", r"quicstack/transport/", r""),
    ("TLS", r"quicstack/tls/|connection/(handshake|setup|key_update|early_data)|/cryptography/|/hmac\.py", r""),
    ("packets", r"connection/(receive|send|packing|first_byte|unprotected)", r""),
    ("connection", r"quicstack/(connection|observe)/|quicstack/\w+\.py", r""),
    ("driver", r"quicstack/drivers/", r""),
    ("HTTP/3", r"/h3/", r""),
    ("event loop", r"/asyncio/|selectors\.py|uvloop", r""),
    ("application", r"benchmarks/", r""),
    ("other", r"", r""),
)
STAGES = tuple(dict.fromkeys(rule[0] for rule in RULES))
MEANINGS = {
    "system call": "sendmsg, recvmsg, poll",
    "packets": "taking trains apart and filling them",
    "connection": "timers, life, identifiers",
    "streams": "buffers, reassembly, flow control, turns",
}


def stage_of(place: str) -> str:
    file, _, rest = place.partition(":")
    text = rest.partition(": ")[2]
    for stage, in_file, in_line in RULES:
        if re.search(in_file, file) and re.search(in_line, text):
            return stage
    return "other"


def by_stage(places: dict[str, int], microseconds: float) -> dict[str, float]:
    """Microseconds of each stage, which add up to ``microseconds``."""
    total = sum(places.values()) or 1
    found = dict.fromkeys(STAGES, 0.0)
    for place, count in places.items():
        found[stage_of(place)] += count * microseconds / total
    return found


WORK = {
    "bulk": Entry("quicstack", "quic", "download", (900_000_000,)),
    "1 request": Entry("quicstack", "quic", "requests", (20_000, 1)),
    "50 requests at once": Entry("quicstack", "quic", "requests", (60_000, 50)),
    "1 request, HTTP/3": Entry("quicstack", "h3", "requests", (10_000, 1)),
    "50 requests at once, HTTP/3": Entry("quicstack", "h3", "requests", (30_000, 50)),
    "datagram echo": Entry("quicstack", "quic", "echo", (20_000,)),
    "20 handshakes at once": Entry("quicstack", "quic", "handshakes", (1_500, 20)),
}


def measure(name: str, folder: str, scale: float) -> dict[str, Any]:
    """Microseconds by stage a packet (bulk) or a piece of work, of server and client."""
    entry = WORK[name]._replace(variables=(("BENCH_SAMPLE", "1"),))
    facts = run(entry, "asyncio", folder, scale)
    count = facts["packets_received"] if name == "bulk" else facts["count"]
    sides = {}
    for side in ("server", "client"):
        places = {place: ticks for place, ticks in facts[f"{side}_places"].items() if ticks}
        total = facts[f"{side}_cpu"] / count * 1e6
        sides[side] = {"total": total, "stages": by_stage(places, total), "places": places}
    trains = facts.get("trains_received")
    return {"name": name, **sides, "train": facts["packets_received"] / trains if trains else None}


def floor_stages() -> dict[str, dict[str, float]]:
    """What the floor consists of: AEAD and masks timed alone, the rest is system calls and the loops around them."""
    aead, masks = floor.tools()
    data = bytes(1200 - len(floor.HEADER) - floor.TAG)
    sealed = aead.encrypt(floor.NONCE, data, floor.HEADER)
    bodies = [sealed] * 53

    def per_packet(call: Any) -> float:
        rounds = []
        for _ in range(15):
            started = time.process_time()
            for _ in range(40):
                call()
            rounds.append((time.process_time() - started) / 40 / 53 * 1e6)
        return min(rounds)

    mask = per_packet(lambda: masks(b"".join([body[:16] for body in bodies])))
    crypto = {
        "server": per_packet(lambda: [aead.encrypt(floor.NONCE, data, floor.HEADER) for _ in bodies]),
        "client": per_packet(lambda: [aead.decrypt(floor.NONCE, body, floor.HEADER) for body in bodies]),
    }
    whole = floor.measure(1200, 53)
    found = {}
    for side, role in (("server", "sender"), ("client", "receiver")):
        total = whole[role]
        found[side] = {"AEAD": crypto[side], "header protection": mask, "total": total,
                       "system call": total - crypto[side] - mask}  # fmt: skip
    return found


def bulk_table(found: dict[str, Any], least: dict[str, dict[str, float]]) -> str:
    """Us a packet; the server is the sender."""
    head = "| stage, us a packet of 1200 bytes | sender | floor | receiver | floor |\n|---|---|---|---|---|"
    text = [f"### Bulk, {found['train']:.0f} packets a train\n", head]
    for stage in STAGES:
        values = [found[side]["stages"][stage] for side in ("server", "client")]
        cells = [(f"{value:.2f}", f"{least[side][stage]:.2f}" if stage in least[side] else "")
                 for value, side in zip(values, ("server", "client"), strict=True)]  # fmt: skip
        if sum(values) >= 0.01:
            text.append(f"| {label(stage)} | " + " | ".join(cell for pair in cells for cell in pair) + " |")
    totals = [(found[side]["total"], least[side]["total"]) for side in ("server", "client")]
    text.append("| **all** | " + " | ".join(f"{ours:.2f} | {lowest:.2f}" for ours, lowest in totals) + " |")
    text.append("| times the floor | " + " | ".join(f"{ours / lowest:.1f} | " for ours, lowest in totals) + " |")
    return "\n".join(text)


def table(found: list[dict[str, Any]]) -> str:
    """Us a piece of work, client + server."""
    head = "| stage, us a piece, client + server | " + " | ".join(result["name"] for result in found) + " |"
    text = ["### Small work\n", head, "|---" * (len(found) + 1) + "|"]
    for stage in STAGES:
        pairs = [[result[side]["stages"][stage] for side in ("client", "server")] for result in found]
        if any(sum(pair) >= 0.05 for pair in pairs):
            text.append(f"| {label(stage)} | " + " | ".join(f"{a:.1f} + {b:.1f}" for a, b in pairs) + " |")
    totals = [f"{result['client']['total']:.1f} + {result['server']['total']:.1f}" for result in found]
    text.append("| **all** | " + " | ".join(totals) + " |")
    return "\n".join(text)


def label(stage: str) -> str:
    return f"{stage} ({MEANINGS[stage]})" if stage in MEANINGS else stage


def print_places(result: dict[str, Any], count: int) -> None:
    for side in ("server", "client"):
        places = Counter(result[side]["places"])
        print(f"\n{result['name']}, {side}")
        for place, ticks in places.most_common(count):
            print(f"{ticks / places.total():6.1%} {stage_of(place):18} {place.rpartition('/')[2][:110]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU by stage, of both sides.")
    parser.add_argument("--work", nargs="*", default=list(WORK), help=", ".join(WORK))
    parser.add_argument("--scale", type=float, default=1.0, help="how much of each piece of work")
    parser.add_argument("--places", type=int, default=0, help="print so many lines that were struck most")
    parser.add_argument("--report", type=Path, help="a folder for the results")
    arguments = parser.parse_args()
    facts, least, texts = report.machine(), floor_stages(), []
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(Path(folder))
        found = [measure(name, folder, arguments.scale) for name in arguments.work]
    texts += [bulk_table(result, least) for result in found if result["name"] == "bulk"]
    others = [result for result in found if result["name"] != "bulk"]
    texts += [table(others)] if others else []
    print("\n\n".join(texts))
    for result in found:
        if arguments.places:
            print_places(result, arguments.places)
        for side in ("server", "client"):
            del result[side]["places"]
    if arguments.report:
        text = "\n\n".join(texts)
        report.save(arguments.report, "stages", facts, [{"text": text, "floor": least, "work": found}])


if __name__ == "__main__":
    main()

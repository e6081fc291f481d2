"""What is measured, by whom, and what it has to reach: the rows of `compare.py`, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Stack(NamedTuple):
    program: str
    """Below stacks/."""
    environment: str | None = None
    """The folder under .venv-peers with its Python; None: the one that runs this."""
    variables: tuple[tuple[str, str], ...] = ()


STACKS = {
    "quicstack": Stack("quicstack_stack.py"),
    "aioquic": Stack("aioquic_stack.py"),
    "qh3": Stack("aioquic_stack.py", None, (("BENCH_STACK", "qh3"),)),
    "aiopquic": Stack("aiopquic_stack.py", "aiopquic"),
    "pywebtransport": Stack("pywebtransport_stack.py", "pywebtransport-new"),
}
NATIVE = ("qh3", "aiopquic", "pywebtransport")
"""Python packages whose QUIC is in C or Rust."""


class Entry(NamedTuple):
    """One line of a table: a stack, and what it is told to do."""

    stack: str
    layer: str
    work: str
    numbers: tuple[int, ...]
    note: str = ""
    """What is different from the row's title."""
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.stack}, {self.note}" if self.note else self.stack


class Goal(NamedTuple):
    """``ratio``: so many times as good as ``against`` (a line's name, or "native" for the best of those), on each loop.

    ``cost``: the CPU of both sides is below that share of theirs. ``most``: the figure is at most that. ``side``: the
    memory of each side is at most so many KiB.
    """

    kind: Literal["ratio", "cost", "most", "side"]
    number: float
    against: str = ""


@dataclass(frozen=True)
class Work:
    title: str
    unit: str
    figure: Literal["mbit", "rate", "p50", "kib"]
    """What is compared; of p50 (us) and kib less is better."""
    entries: tuple[Entry, ...]
    goals: tuple[Goal, ...] = field(default=())
    short: bool = False
    """Part of `make bench`."""
    once: bool = False
    """One run is enough: memory does not vary, and a thousand connections take their time."""

    @property
    def less_is_better(self) -> bool:
        return self.figure in ("p50", "kib")


def everybody(
    layer: str, work: str, fast: tuple[int, ...], slow: tuple[int, ...], others: dict[str, str] | None = None
) -> tuple[Entry, ...]:
    """All stacks that speak ``layer``, and ``others`` on another layer than that. aioquic does less of it: a rate needs
    no equal amounts, only runs that are long enough."""
    speakers = {"quic": ("quicstack", "aioquic", "qh3", "aiopquic"), "h3": ("quicstack", "aioquic", "qh3"),
                "wt": ("quicstack", "pywebtransport")}  # fmt: skip
    notes = {"quic": "raw streams", "wt": "WebTransport"}
    found = [Entry(name, layer, work, slow if name == "aioquic" else fast) for name in speakers[layer]]
    for name, other in (others or {}).items():
        found.append(Entry(name, other, work, slow if name == "aioquic" else fast, notes[other]))
    return tuple(found)


def and_asleep(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """With a line of ours whose two sides sleep between packets, however soon those follow each other."""
    asleep = entries[0]._replace(note="without busy polling", variables=(("BENCH_BUSY_POLL", "0"),))
    return (entries[0], asleep, *entries[1:])


LAYERS = {"quic": "QUIC streams", "h3": "HTTP/3", "wt": "WebTransport"}


def bulk() -> dict[str, Work]:
    found = {}
    elsewhere = {
        "quic": {"pywebtransport": "wt"},
        "h3": {"aiopquic": "quic", "pywebtransport": "wt"},
        "wt": {"aioquic": "quic", "aiopquic": "quic"},
    }
    for layer, others in elsewhere.items():
        aioquic = "aioquic, raw streams" if layer == "wt" else "aioquic"
        goals = (Goal("ratio", 12.0, aioquic), Goal("ratio", 1.25, "native"), Goal("cost", 1.0, "native"))
        for way in ("download", "upload"):
            entries = everybody(layer, way, (300_000_000,), (16_000_000,), others)
            found[f"{way}-{layer}"] = Work(
                f"bulk {way} over {LAYERS[layer]}", "Mbit/s", "mbit", entries, goals, short=layer == "quic"
            )
    return found


def small_messages() -> dict[str, Work]:
    found = {}
    for layer in ("quic", "h3"):
        for at_once, times in ((1, 3.5), (50, 6.0)):
            entries = everybody(layer, "requests", (6_000, at_once), (1_500, at_once))
            entries = and_asleep(entries) if at_once == 1 else entries
            found[f"requests-{at_once}-{layer}"] = Work(
                f"request-response, {at_once} in flight, {LAYERS[layer]}", "1/s", "rate", entries,
                (Goal("ratio", times, "aioquic"),), short=layer == "quic",
            )  # fmt: skip
    for size, times in ((100, 4.0), (1000, 12.0)):
        entries = everybody("quic", "datagrams", (200_000, size), (30_000, size))
        found[f"datagrams-{size}"] = Work(
            f"datagrams of {size} bytes, one way", "1/s", "rate", entries, (Goal("ratio", times, "aioquic"),)
        )
    entries = everybody("quic", "echo", (3_000,), (1_500,), {"pywebtransport": "wt"})
    goals = (Goal("most", 150.0),)
    found["echo"] = Work("datagram echo, 100 bytes, p50", "us", "p50", and_asleep(entries), goals)
    return found


def handshakes() -> dict[str, Work]:
    found = {}
    for at_once in (1, 20):
        fast, slow = (400, at_once), (120, at_once)
        entries = everybody("quic", "handshakes", fast, slow, {"pywebtransport": "wt"})
        hybrid = Entry("quicstack", "quic", "handshakes", fast, "X25519MLKEM768", (("BENCH_GROUPS", "hybrid"),))
        goals = (Goal("ratio", 4.0, "aioquic"), Goal("ratio", 1.0, "aiopquic")) if at_once == 20 else ()
        found[f"handshakes-{at_once}"] = Work(
            f"full handshakes, {at_once} at once", "1/s", "rate", (entries[0], hybrid, *entries[1:]), goals,
            short=at_once == 20,
        )  # fmt: skip
    entries = tuple(
        Entry(name, "quic", "resumed", (120 if name == "aioquic" else 400, 1))
        for name in ("quicstack", "aioquic", "qh3")
    )
    full = Entry("quicstack", "quic", "handshakes", (400, 1), "full")
    found["resumed"] = Work(
        "resumed handshakes, one at a time", "1/s", "rate", (entries[0], full, *entries[1:]),
        (Goal("ratio", 1.0, full.name), Goal("ratio", 1.0, "aioquic")),
    )  # fmt: skip
    return found


def many() -> dict[str, Work]:
    short = everybody("quic", "short", (200,), (20,))
    fresh = everybody("quic", "fresh", (80,), (15,))
    active = tuple(entry for entry in everybody("quic", "active", (1_000, 10), (1_000, 3)) if entry.stack != "qh3")
    idle = everybody("quic", "idle", (1_000,), (1_000,))
    session = everybody("wt", "idle", (1_000,), (1_000,))
    return {
        "short": Work("1 MB downloads, one after the other on a warm connection", "1/s", "rate", short),
        "fresh": Work("1 MB downloads, a new connection for each", "1/s", "rate", fresh),
        "active": Work(
            "1,000 active connections, a small request in flight on each", "1/s", "rate", active, once=True
        ),
        "idle": Work(
            "memory of an idle connection, client + server", "KiB", "kib", idle, (Goal("side", 30.0),), once=True
        ),
        "idle-session": Work(
            "memory of an idle WebTransport session and its connection, client + server", "KiB", "kib", session,
            once=True,
        ),
    }  # fmt: skip


WORK: dict[str, Work] = bulk() | small_messages() | handshakes() | many()

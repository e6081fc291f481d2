"""The results: the runner's matrix for a terminal, and a page with every failure and what is known about it."""

from __future__ import annotations

import datetime
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from interop.cases import CASES
from interop.implementations import IMPLEMENTATIONS, OURS
from interop.known import explanation

__all__ = ["Outcome", "Result", "Results", "matrix", "write_report"]


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"


SIGNS: Final = {Outcome.PASSED: "✓", Outcome.UNSUPPORTED: "?", Outcome.FAILED: "✕"}


@dataclass(slots=True)
class Result:
    """One case between one client and one server."""

    case: str
    client: str
    server: str
    outcome: Outcome
    complaints: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        said = f": {'; '.join(self.complaints)}" if self.complaints else ""
        return f"{SIGNS[self.outcome]} {self.client} -> {self.server} {self.case} ({self.seconds:.0f} s){said}"

    @property
    def pair(self) -> tuple[str, str]:
        return (self.client, self.server)

    @property
    def is_ours(self) -> bool:
        return OURS.name in self.pair

    @property
    def peer(self) -> str:
        """The one that is not us; the server where neither is."""
        return self.client if self.server == OURS.name else self.server


class Results:
    """By pair and case."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[str, str, str], Result] = {}

    def add(self, result: Result) -> None:
        self._by_key[(result.client, result.server, result.case)] = result

    def __iter__(self) -> Iterator[Result]:
        return iter(self._by_key.values())

    def get(self, client: str, server: str, case: str) -> Result | None:
        return self._by_key.get((client, server, case))

    def pairs(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys(result.pair for result in self._by_key.values()))

    def of_pair(self, pair: tuple[str, str]) -> list[Result]:
        """In the order of the cases."""
        found = [self.get(*pair, case) for case in CASES]
        return [result for result in found if result is not None]

    def alone(self, result: Result) -> Result | None:
        """The same case played by the peer without us."""
        own = self.get(result.peer, result.peer, result.case)
        if own is not None:
            return own
        return next(
            (self.get(*pair, result.case) for pair in self.pairs() if pair[1] == result.peer != pair[0] != OURS.name),
            None,
        )

    def is_peers_own(self, result: Result) -> bool:
        """A failure that the peer shows without us too."""
        alone = self.alone(result)
        return result.peer != OURS.name and alone is not None and alone.outcome is not Outcome.PASSED

    def ours_to_explain(self) -> list[Result]:
        """Failures that no run without us, and nothing we know, explains."""
        return [
            result
            for result in self._by_key.values()
            if result.is_ours
            and result.outcome is Outcome.FAILED
            and not self.is_peers_own(result)
            and explanation(result.client, result.server, result.case) is None
        ]

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(result) for result in self._by_key.values()]

    @classmethod
    def load(cls, path: Path) -> Results:
        import json

        results = cls()
        for facts in json.loads(path.read_text()):
            results.add(Result(**{**facts, "outcome": Outcome(facts["outcome"])}))
        return results


def letters(results: Iterable[Result], outcome: Outcome) -> str:
    return ",".join(CASES[result.case].letters for result in results if result.outcome is outcome)


def matrix(results: Results) -> str:
    """A line for each client and server: what passed, what one of them does not do, what failed."""
    lines = []
    width = max((len(f"{client} -> {server}") for client, server in results.pairs()), default=0)
    for client, server in results.pairs():
        cells = results.of_pair((client, server))
        parts = [f"{SIGNS[outcome]}({found})" for outcome in Outcome if (found := letters(cells, outcome))]
        lines.append(f"{f'{client} -> {server}':{width}}  {'  '.join(parts)}")
    lines.append("✓ passed   ✕ failed   ? one of the two says that it does not do this (exit status 127)")
    return "\n".join(lines)


# -- the page ----------------------------------------------------------------------------------------------------------


def write_report(results: Results, path: Path) -> None:
    sections = [_head(), _table(results), _list_of_cases(), _failures(results)]
    path.write_text("\n\n".join(sections) + "\n")


def _versions() -> str:
    def said(*command: str) -> str:
        try:
            output = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return "not here"
        return (output.stdout or output.stderr).strip().splitlines()[0] if output.stdout or output.stderr else "here"

    from importlib.metadata import PackageNotFoundError, version

    def package(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not here"

    debian = said("dpkg-query", "-W", "-f=${Version}", "ngtcp2-server")
    number = re.search(r"\d+(\.\d+)+", said("tshark", "--version"))
    return (
        f"CPython {platform.python_version()} on {platform.system()} {platform.machine()}; "
        f"aioquic {package('aioquic')}, qh3 {package('qh3')}, ngtcp2 {debian},\n"
        f"caddy {said('caddy', 'version')}, @matrixai/quic (quiche) 2.0.9, tshark {number[0] if number else 'not here'}"
    )


def _head() -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"""# Interoperation

Written by `make interop`, last on {today}, with
{_versions()}.

The cases are those of the QUIC interop runner, played on one machine without containers: a client and a server in a
process each, and between them a relay of UDP datagrams. It is a link of 10 Mbit/s and 15 ms each way with a queue of
25 packets, and it drops, corrupts, goes dark or rebinds addresses as the case wants it. The relay writes what passes
at either end into a capture, and **tshark** with the endpoints' key log says what was in it: no code of ours decodes a
packet for the verdict. A case is passed if all files arrived byte for byte and the packets are as the case demands
(`interop/judge.py`).

Every peer also plays against itself (caddy, which has no client, against ngtcp2's). A case that a peer fails there is
the peer's own, and marked so. Peers that speak HTTP/3 alone (ngtcp2's programs, caddy) play all cases over HTTP/3; the
others play all but `http3` over HTTP/0.9, as in the runner."""


def _table(results: Results) -> str:
    """Three tables: our client, our server, and the peers without us."""
    pairs = results.pairs()
    lines = [
        "## Results",
        "",
        "✓ passed; ✕ failed; (✕) failed, and the peer fails it without us too or is known to be the reason; - the peer",
        "says that it does not do this (its endpoint exits with status 127); empty: not played.",
    ]
    for title, chosen, name in (
        ("Our client with their servers", [pair for pair in pairs if pair[0] == OURS.name], 1),
        ("Their clients with our server", [pair for pair in pairs if pair[1] == OURS.name], 0),
        ("Peers without us", [pair for pair in pairs if OURS.name not in pair], None),
    ):
        if not chosen:
            continue
        heads = [pair[name] if name is not None else _alone_title(pair) for pair in chosen]
        lines += ["", f"### {title}", "", f"| case | {' | '.join(heads)} |"]
        lines.append("|---" * (len(heads) + 1) + "|")
        for case in CASES:
            cells = [_cell(results, results.get(*pair, case)) for pair in chosen]
            lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _alone_title(pair: tuple[str, str]) -> str:
    return pair[0] if pair[0] == pair[1] else f"{pair[0]} → {pair[1]}"


def _cell(results: Results, result: Result | None) -> str:
    if result is None:
        return ""
    if result.outcome is Outcome.PASSED:
        return "✓"
    if result.outcome is Outcome.UNSUPPORTED:
        return "-"
    known = explanation(result.client, result.server, result.case) is not None
    return "(✕)" if result.is_ours and (known or results.is_peers_own(result)) else "✕"


def _list_of_cases() -> str:
    lines = ["## The cases", "", "| case | what it is |", "|---|---|"]
    lines += [f"| {name} | {WHAT[name]} |" for name in CASES]
    return "\n".join(lines)


def _failures(results: Results) -> str:
    lines = ["## Failures, and whose they are", ""]
    failed = [
        result for pair in results.pairs() for result in results.of_pair(pair) if result.outcome is Outcome.FAILED
    ]
    ours = [result for result in failed if result.is_ours]
    if not ours:
        lines.append("With us: none.")
    for result in ours:
        why = explanation(result.client, result.server, result.case)
        if why is None and results.is_peers_own(result):
            why = f"{_title(result.peer)} fails this without us too."
        lines.append(f"- {_what_failed(result)} {why or 'Not explained.'}")
    lines += ["", "Peers without us:", ""]
    for result in failed:
        if not result.is_ours:
            why = explanation(result.client, result.server, result.case)
            lines.append(f"- {_what_failed(result)}{' ' + why if why else ''}")
    return "\n".join(lines)


def _what_failed(result: Result) -> str:
    return f"**{result.client} → {result.server}, {result.case}**: {'; '.join(result.complaints)}."


def _title(name: str) -> str:
    return IMPLEMENTATIONS[name].title


WHAT: Final = {
    "handshake": "1 KiB; no Retry",
    "transfer": "2, 3 and 5 MiB at once on one connection",
    "longrtt": "a round trip of 1.5 s; the ClientHello goes out twice or more",
    "chacha20": "3 MiB; the ClientHello offers TLS_CHACHA20_POLY1305_SHA256 alone",
    "multiplexing": "1999 files of 32 bytes on one connection; the server allows at most 1000 streams at once",
    "retry": "the server sends a Retry, the client its token, in packets whose numbers go on",
    "resumption": "two connections; the second without a certificate",
    "zerortt": "two connections; 39 requests with names of 250 bytes, most of them in 0-RTT packets",
    "http3": "5, 10 and 500 KiB at once over HTTP/3",
    "blackhole": "10 MiB; nothing passes for 2 s of each 7 s",
    "keyupdate": "3 MiB; both sides send packets of the next key phase",
    "ecn": "100 KiB; all packets of both sides marked ECT, and both report counts",
    "amplificationlimit": "nine certificates, the client's datagrams 2 to 7 lost; the server stays within its limit",
    "handshakeloss": "50 connections one after the other, 30 % of all datagrams lost each way",
    "transferloss": "2 MiB, 2 % lost each way",
    "handshakecorruption": "50 connections, a byte is wrong in 30 % of all datagrams",
    "transfercorruption": "2 MiB, a byte is wrong in 2 %",
    "ipv6": "5 and 10 KiB over IPv6",
    "v2": "the client begins with version 1, the server goes on with version 2",
    "rebind-port": "10 MiB; the client's port changes after 1 s and then every 5 s; the server validates each new path",
    "rebind-addr": "the same with the client's address",
    "connectionmigration": "2 MiB; the client moves to the server's preferred address, with a new connection ID",
}

"""How many instructions Python executes for one request, handshake or packet: a figure without noise.

    python benchmarks/instructions.py --work request echo --functions 30

Small work is bound by the number of bytecode instructions, some 12 to 15 ns each, and a count is the same on a busy
machine as on a quiet one (within 1 %). Counting makes everything slow, so the clock goes slower too: timers fire about
as often as they do uncounted. Client and server share a process and a loop here, so the figures are of both sides and
of everything: the engine, the drivers, asyncio, and the application. What is written in C (ciphers, copies, system
calls) counts as the one instruction that calls it: bulk transfers are timed, not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import report
import workloads
from compare import make_certificate
from stacks import quicstack_stack

Act = Callable[[workloads.Connect, workloads.Link], Awaitable[Any]]

WORK: dict[str, tuple[str, int, Act]] = {
    "request": ("quic", 200, lambda connect, link: workloads.requests(link, 200, 1)),
    "requests-50": ("quic", 1000, lambda connect, link: workloads.requests(link, 1000, 50)),
    "request-h3": ("h3", 200, lambda connect, link: workloads.requests(link, 200, 1)),
    "requests-50-h3": ("h3", 500, lambda connect, link: workloads.requests(link, 500, 50)),
    "request-wt": ("wt", 200, lambda connect, link: workloads.requests(link, 200, 1)),
    "echo": ("quic", 200, lambda connect, link: workloads.datagram_echo(link, 200)),
    "datagrams-1000": ("quic", 5000, lambda connect, link: workloads.datagram_flood(link, 5000, 1000)),
    "handshake": ("quic", 20, lambda connect, link: workloads.handshakes(connect, 20, 1)),
    "resumed": ("quic", 20, lambda connect, link: workloads.handshakes(connect, 20, 1, resuming=True)),
}
"""Name: the layer, how many there are, and what is done."""
QUIET = 0.3
"""Seconds in which what began before, and what a close leaves, comes to its end."""


clock, SLOWNESS = time.monotonic, 20
STARTED = clock()


def slow_clock() -> float:
    return STARTED + (clock() - STARTED) / SLOWNESS


@contextlib.contextmanager
def slow_time() -> Iterator[None]:
    time.monotonic = slow_clock
    try:
        yield
    finally:
        time.monotonic = clock


class Count:
    """Instructions and calls by function, of everything that runs while it is on."""

    def __init__(self) -> None:
        self.instructions: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: object) -> Count | None:
        """Python calls this for each function that begins or goes on, and then for each instruction in it."""
        if frame.f_code is slow_clock.__code__:
            return None
        if event == "opcode":
            self.instructions[frame.f_code] += 1
        elif event == "call":
            self.calls[frame.f_code] += 1
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        return self

    async def of(self, act: Awaitable[Any]) -> None:
        sys.settrace(self)
        try:
            await asyncio.ensure_future(act)
        finally:
            sys.settrace(None)


async def count(name: str, folder: str) -> Count:
    """The work once to warm up, and once more to count."""
    layer, _, act = WORK[name]
    ports: asyncio.Queue[int] = asyncio.Queue()
    workloads.say = lambda **facts: ports.put_nowait(facts["port"])
    workloads.input_ends = asyncio.Event().wait  # type: ignore[assignment]
    server = asyncio.ensure_future(quicstack_stack.serve_layer(folder, layer))
    connect = quicstack_stack.connector(await ports.get(), layer, name == "resumed")
    link = await connect()
    await workloads.download(link, 1_000_000)
    await act(connect, link)
    await asyncio.sleep(QUIET / SLOWNESS)
    found = Count()
    await found.of(act(connect, link))
    server.cancel()
    return found


def place(code: CodeType) -> str:
    for entry in sorted(sys.path, key=len, reverse=True):
        if entry and code.co_filename.startswith(entry + os.sep):
            return f"{code.co_filename[len(entry) + 1 :]}:{code.co_qualname}"
    return f"{code.co_filename}:{code.co_qualname}"


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| work, client and server together | instructions | calls of Python functions |", "|---|---|---|"]
    lines += [f"| {row['work']} | {row['instructions']:,.0f} | {row['calls']:,.0f} |" for row in results]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="How many instructions a piece of work takes.")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--functions", type=int, default=0, help="so many functions with most instructions")
    parser.add_argument("--report", type=Path, help="a folder for the results")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        make_certificate(Path(folder))
        for name in arguments.work:
            number = WORK[name][1]
            with slow_time():
                found = asyncio.run(count(name, folder))
            instructions, calls = found.instructions.total() / number, found.calls.total() / number
            print(f"{name}: {instructions:,.0f} instructions in {calls:,.0f} calls of Python functions, both sides.")
            for code, total in found.instructions.most_common(arguments.functions):
                print(f"  {total / number:8.1f} in {found.calls[code] / number:6.2f} calls  {place(code)}")
            results.append({"work": name, "instructions": instructions, "calls": calls})
    if arguments.report:
        report.save(arguments.report, "instructions", report.machine(), [{"text": table(results), "rows": results}])


if __name__ == "__main__":
    main()

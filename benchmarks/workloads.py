"""The work that every stack does in a benchmark, written once: what a client asks for, and how a server answers it.

A stack gives two coroutines for each stream: ``read(n)`` returns up to n bytes and b"" at the end, ``write(data, end)``
returns when the stack took the data. A stream begins with a letter and a size in eight bytes:

    d size   the server sends so many bytes
    u size   the client sends so many; the server says when it has them
    e size   the client sends so many; the server sends them back
    s 0      the server says what it used so far: CPU seconds, memory, datagrams

Datagrams are counted when they begin with "c", and sent back otherwise.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import sampling

Read = Callable[[int], Awaitable[bytes]]
Write = Callable[[bytes, bool], Awaitable[None]]
CHUNK = bytes(1 << 18)
PIECE = 1 << 20
ALPN = "bench"
SAMPLED = bool(os.environ.get("BENCH_SAMPLE"))
COUNTED = bool(os.environ.get("BENCH_COUNT"))
"""ACKs are counted, by a trace: a run that is for nothing else."""
COUNTS = {"received": 0, "acks": 0}
"""1-RTT packets that came, and those sent with an ACK frame, on all connections of this process."""


class Link(Protocol):
    """A client's connection."""

    async def open(self) -> tuple[Read, Write]: ...
    async def send_datagram(self, data: bytes) -> None: ...
    async def receive_datagram(self) -> bytes: ...
    async def close(self) -> None: ...
    def facts(self) -> dict[str, Any]:
        """Counters, as far as the stack has any: packets and trains, sent and received."""
        ...

    def resumed(self) -> bool: ...


class Datagrams:
    """What a server does with datagrams."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0

    def take(self, data: bytes) -> bytes | None:
        """The answer to send back, if there is one."""
        if data[:1] == b"c":
            self.count += 1
            self.last = time.monotonic()
            return None
        return data


DATAGRAMS = Datagrams()


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident() -> int:
    """Resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


async def input_ends() -> None:
    await asyncio.to_thread(sys.stdin.read)


async def answer(read: Read, write: Write) -> None:
    """The server's side of one stream."""
    head = await read(9)
    while len(head) < 9:
        more = await read(9 - len(head))
        if not more:
            return
        head += more
    kind, size = head[:1], int.from_bytes(head[1:9], "big")
    if kind == b"d":
        await send(write, size)
    elif kind == b"u":
        started = time.perf_counter()
        await receive(read, size)
        await write(json.dumps({"seconds": time.perf_counter() - started}).encode(), True)
    elif kind == b"e":
        data = b""
        while len(data) < size:
            data += await read(PIECE)
        await write(data, True)
    else:
        facts = {"cpu": cpu_seconds(), "rss": resident(), "datagrams": DATAGRAMS.count, "last": DATAGRAMS.last}
        facts |= {"counts": dict(COUNTS)} if COUNTED else {}
        facts |= {"places": sampling.places()} if SAMPLED else {}
        await write(json.dumps(facts).encode(), True)


def reader(pieces: AsyncIterator[bytes], first: bytes = b"") -> Read:
    """``read`` for a stack that gives content in pieces of its own choice; the first may have been taken already."""
    left = first

    async def read(n: int) -> bytes:
        nonlocal left
        if not left:
            left = await anext(pieces, b"")
        data, left = left[:n], left[n:]
        return data

    return read


async def send(write: Write, size: int) -> None:
    while size > 0:
        chunk = CHUNK[:size]
        size -= len(chunk)
        await write(chunk, size == 0)


async def receive(read: Read, size: int) -> None:
    while size > 0:
        data = await read(PIECE)
        if not data:
            raise SystemExit(f"the stream ended {size} bytes early")
        size -= len(data)


async def read_all(read: Read) -> bytes:
    data = b""
    while chunk := await read(1 << 16):
        data += chunk
    return data


async def server_facts(link: Link) -> dict[str, Any]:
    read, write = await link.open()
    await write(b"s" + bytes(8), True)
    facts: dict[str, Any] = json.loads(await read_all(read))
    return facts


def request(kind: bytes, size: int) -> bytes:
    return kind + size.to_bytes(8, "big")


# -- what a client measures; each returns the facts of one run ---------------------------------------------------------


async def download(link: Link, size: int) -> dict[str, float]:
    read, write = await link.open()
    started = time.perf_counter()
    await write(request(b"d", size), True)
    await receive(read, size)
    return {"bytes": size, "seconds": time.perf_counter() - started}


async def upload(link: Link, size: int) -> dict[str, float]:
    read, write = await link.open()
    await write(request(b"u", size), False)
    await send(write, size)
    report = json.loads(await read_all(read))
    return {"bytes": size, "seconds": report["seconds"]}


async def requests(link: Link, count: int, at_once: int, size: int = 64) -> dict[str, float]:
    """Small requests and answers, a stream each, so many in flight."""
    left = count
    body = request(b"e", size) + bytes(size)

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            read, write = await link.open()
            await write(body, True)
            if len(await read_all(read)) != size:
                raise SystemExit("a wrong answer")

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return {"count": count, "seconds": time.perf_counter() - started}


async def datagram_flood(link: Link, count: int, size: int) -> dict[str, float]:
    """One way, as fast as the sender can. What arrived counts, from the first sent to the last arrived."""
    before = (await server_facts(link))["datagrams"]
    data = b"c" + bytes(size - 1)
    started = time.monotonic()
    for index in range(count):
        await link.send_datagram(data)
        if index % 64 == 63:
            await asyncio.sleep(0)
    await asyncio.sleep(0.3)
    after = await server_facts(link)
    return {"count": after["datagrams"] - before, "sent": count, "seconds": after["last"] - started}


async def datagram_echo(link: Link, count: int, size: int = 100) -> dict[str, float]:
    """One at a time: microseconds until the answer, the median and the 99th percentile."""
    data = b"e" + bytes(size - 1)
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await link.send_datagram(data)
        await link.receive_datagram()
        times.append(time.perf_counter() - started)
    times.sort()
    return {
        "count": count,
        "seconds": sum(times),
        "p50": times[count // 2] * 1e6,
        "p99": times[count * 99 // 100] * 1e6,
    }


Connect = Callable[[], Awaitable[Link]]


async def connect_many(connect: Connect, count: int, at_once: int = 20) -> list[Link]:
    links: list[Link] = []
    while len(links) < count:
        links += await asyncio.gather(*(connect() for _ in range(min(at_once, count - len(links)))))
    return links


async def handshakes(connect: Connect, count: int, at_once: int, resuming: bool = False) -> dict[str, float]:
    """Connections opened and closed, so many at once. Nobody waits for a close: for some stacks it is as long as three
    probe timeouts (RFC 9000 §10.2), in which there is nothing to do."""
    left = count
    closing = set()

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            link = await connect()
            if resuming and not link.resumed():
                raise SystemExit("a full handshake where a resumed one was asked for")
            closing.add(asyncio.ensure_future(link.close()))

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return {"count": count, "seconds": time.perf_counter() - started}


async def short_transfers(link: Link, count: int) -> dict[str, float]:
    """Downloads of 1 MB on one connection, a stream each, one after the other."""
    started = time.perf_counter()
    for _ in range(count):
        await download(link, 1_000_000)
    return {"count": count, "seconds": time.perf_counter() - started}


async def fresh_transfers(connect: Connect, count: int) -> dict[str, float]:
    """The same with a connection each; its handshake is on the clock, its close is not."""
    closing = set()
    started = time.perf_counter()
    for _ in range(count):
        link = await connect()
        await download(link, 1_000_000)
        closing.add(asyncio.ensure_future(link.close()))
    return {"count": count, "seconds": time.perf_counter() - started}


async def idle(connect: Connect, count: int, first: Link) -> dict[str, float]:
    """Bytes of memory that each of ``count`` connections costs a client and a server."""
    own, theirs = resident(), (await server_facts(first))["rss"]
    links = await connect_many(connect, count)
    await asyncio.sleep(1.0)
    grown = resident() - own, (await server_facts(first))["rss"] - theirs
    return {
        "count": len(links), "seconds": 0.0, "client_bytes": grown[0] / count, "server_bytes": grown[1] / count
    }  # fmt: skip


async def active(links: list[Link], rounds: int) -> dict[str, float]:
    """Every connection has one small request in flight all the time."""
    started = time.perf_counter()
    await asyncio.gather(*(requests(link, rounds, 1) for link in links))
    return {"count": len(links) * rounds, "seconds": time.perf_counter() - started}


def less(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: number - before.get(name, 0) for name, number in now.items()}


def counted(links: list[Link], since: dict[str, int]) -> dict[str, int]:
    """The counters of all these connections, less what they were."""
    total: dict[str, int] = {}
    for link in links:
        for name, number in link.facts().items():
            total[name] = total.get(name, 0) + number
    return less(total, since)


async def run(connect: Connect, work: str, numbers: list[int]) -> None:
    """A client's life: connect, ask the server what it used, work, ask again, say it all. The process ends with it,
    whatever is open: closing is not what is measured."""
    link = await connect()
    links = [link]
    if work not in ("handshakes", "resumed", "idle"):
        await download(link, 1_000_000)  # slow start and the first calls of everything are behind us
    if work == "active":
        links = await connect_many(connect, numbers[0])
        await active(links, 1)
    works: dict[str, Callable[[], Awaitable[dict[str, float]]]] = {
        "download": lambda: download(link, *numbers),
        "upload": lambda: upload(link, *numbers),
        "requests": lambda: requests(link, *numbers),
        "datagrams": lambda: datagram_flood(link, *numbers),
        "echo": lambda: datagram_echo(link, *numbers),
        "handshakes": lambda: handshakes(connect, *numbers),
        "resumed": lambda: handshakes(connect, *numbers, resuming=True),
        "short": lambda: short_transfers(link, *numbers),
        "fresh": lambda: fresh_transfers(connect, *numbers),
        "active": lambda: active(links, *numbers[1:]),
        "idle": lambda: idle(connect, numbers[0], link),
    }
    before = await server_facts(link)
    ticks, counts = sampling.places(), dict(COUNTS)
    since, own = counted(links, {}), cpu_seconds()
    result = await works[work]()
    own = cpu_seconds() - own
    seen: dict[str, Any] = {} if work in ("handshakes", "resumed", "fresh", "idle") else counted(links, since)
    after = await server_facts(link)
    if COUNTED:
        sides = less(COUNTS, counts), less(after["counts"], before["counts"])
        seen["acks"] = [100 * side["acks"] / side["received"] if side["received"] else 0.0 for side in sides]
    if SAMPLED:
        seen["client_places"] = less(sampling.places(), ticks)
        seen["server_places"] = less(after["places"], before["places"])
    say(**result, client_cpu=own, server_cpu=after["cpu"] - before["cpu"], **seen)
    os._exit(0)


def main(
    serve: Callable[[str, str], Awaitable[None]], connector: Callable[[int, str, bool], Connect], *, uvloop: bool = True
) -> None:
    """``connector`` gets port, layer, and whether every connection after the first is to resume its session.

    ``server LOOP LAYER FOLDER`` or ``client LOOP LAYER PORT WORK NUMBERS...``, each on its own core."""
    role, loop, layer, where, *rest = sys.argv[1:]
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[role == "server"]})
    if SAMPLED:
        sampling.start()
    runner = asyncio.run
    if loop == "uvloop" and uvloop:
        import uvloop as faster

        runner = faster.run
    if role == "server":
        runner(serve(where, layer))
    else:
        connect = connector(int(where), layer, rest[0] == "resumed")
        runner(run(connect, rest[0], [int(number) for number in rest[1:]]))

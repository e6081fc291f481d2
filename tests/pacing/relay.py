"""A bottleneck in user space: a process that forwards UDP between a client and a server through a slow link.

  python tests/pacing/relay.py SERVER_PORT --rate 10e6 --queue 25 --delay 0.015

It prints the port that clients shall use. When its standard input ends it prints, as JSON, what it saw arrive from each
side: the time of each datagram (the kernel's own time stamp where there is one, so that a late process sees no bursts
that never were), its size, and whether the queue was full and it was dropped.
"""

from __future__ import annotations

import argparse
import heapq
import json
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

IP_UDP_HEADER = 28
SO_TIMESTAMPNS = 35  # Linux; the socket module does not know it


class Link:
    """One direction: ``rate`` bits per second, at most ``queue`` datagrams waiting, then ``delay`` seconds."""

    def __init__(self, rate: float, queue: int, delay: float) -> None:
        self.rate = rate
        self.queue = queue
        self.delay = delay
        self.seen: list[tuple[float, int, bool]] = []
        self._free_at = 0.0
        self._starts: deque[float] = deque()

    def arrive(self, now: float, size: int) -> float | None:
        """When a datagram that arrives now comes out at the other end, None if it is dropped."""
        while self._starts and self._starts[0] <= now:
            self._starts.popleft()
        dropped = len(self._starts) >= self.queue
        self.seen.append((now, size, dropped))
        if dropped:
            return None
        start = max(now, self._free_at)
        self._starts.append(start)
        self._free_at = start + (size + IP_UDP_HEADER) * 8 / self.rate
        return self._free_at + self.delay


def open_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    if sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def receive(sock: socket.socket) -> Iterator[tuple[float, bytes, tuple[str, int]]]:
    """Everything that waits in a socket, with the time it came."""
    while True:
        try:
            data, ancillary, _, source = sock.recvmsg(65535, 128)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            continue
        arrived = time.time()
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack("@ll", value[:16])
                arrived = seconds + nanoseconds * 1e-9
        yield arrived, data, source


def relay(server_port: int, rate: float, queue: int, delay: float) -> None:
    """Forward until standard input ends. One client at a time: answers go to whoever spoke last."""
    front, back = open_socket(), open_socket()
    server = ("127.0.0.1", server_port)
    client: tuple[str, int] | None = None
    towards_server, towards_client = Link(rate, queue, delay), Link(rate, queue, delay)
    leaving: list[tuple[float, int, bytes, bool]] = []
    count = 0
    print(front.getsockname()[1], flush=True)
    while True:
        wait = max(0.0, leaving[0][0] - time.time()) if leaving else None
        ready, _, _ = select.select([front, back, sys.stdin], [], [], wait)
        if sys.stdin in ready:
            break
        for sock, link in ((front, towards_server), (back, towards_client)):
            for arrived, data, source in receive(sock) if sock in ready else ():
                if sock is front:
                    client = source
                at = link.arrive(arrived, len(data))
                if at is not None:
                    count += 1
                    heapq.heappush(leaving, (at, count, data, sock is front))
        now = time.time()
        while leaving and leaving[0][0] <= now:
            _, _, data, to_server = heapq.heappop(leaving)
            if to_server:
                back.sendto(data, server)
            elif client is not None:
                front.sendto(data, client)
    json.dump({"from_client": towards_server.seen, "from_server": towards_client.seen}, sys.stdout)


@dataclass
class Arrivals:
    """What arrived from one side."""

    times: list[float]
    sizes: list[int]
    dropped: int

    @property
    def loss(self) -> float:
        return self.dropped / len(self.times)

    def longest_burst(self, rate: float, faster: float) -> int:
        """Datagrams in the longest run in which each came sooner than ``faster`` times the link could have sent it."""
        longest = length = 1
        for i in range(1, len(self.times)):
            gap = (self.sizes[i] + IP_UDP_HEADER) * 8 / rate / faster
            length = length + 1 if self.times[i] - self.times[i - 1] < gap else 1
            longest = max(longest, length)
        return longest


class Relay:
    """A relay process, from the outside. ``port`` is for clients; the arrivals are there after the ``with`` block."""

    from_client: Arrivals
    from_server: Arrivals

    def __init__(self, server_port: int, *, rate: float, queue: int, delay: float) -> None:
        arguments = [str(server_port), f"--rate={rate}", f"--queue={queue}", f"--delay={delay}"]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        output, _ = self._process.communicate(timeout=30)
        for name, seen in json.loads(output).items():
            times = [arrived for arrived, _, _ in seen]
            setattr(self, name, Arrivals(times, [size for _, size, _ in seen], sum(lost for *_, lost in seen)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("server_port", type=int)
    parser.add_argument("--rate", type=float, default=10e6, help="bits per second")
    parser.add_argument("--queue", type=int, default=25, help="datagrams")
    parser.add_argument("--delay", type=float, default=0.015, help="seconds, each way")
    options = parser.parse_args()
    relay(options.server_port, options.rate, options.queue, options.delay)

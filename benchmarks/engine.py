"""What a packet costs in the engine alone: two endpoints in one process, no sockets, no loop.

    python benchmarks/engine.py [--profile]

A bulk transfer over one stream, trains handed from one endpoint to the other. The time spent in each is summed apart,
so the figures are microseconds per packet of the sender and of the receiver; the smallest of several rounds counts,
because a shared machine only ever adds. ``--profile`` prints where the time goes (cProfile makes calls look dear).
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from pathlib import Path as FilePath
from typing import Any

import report

from quicstack.drivers.system import real_environment
from quicstack.endpoint import Endpoint
from quicstack.simulator import configurations
from quicstack.train import Path, Train

TO_SERVER = Path(("127.0.0.1", 4433), ("127.0.0.1", 5000))
TO_CLIENT = Path(("127.0.0.1", 5000), ("127.0.0.1", 4433))
CHUNK = bytes(1 << 18)
TRAINS = 4
"""Taken in at once, as a driver does (drivers/pump.py)."""


def arriving(train: Train, path: Path) -> Train:
    return Train(train.data, train.segment_size, path, train.ecn)


class Transfer:
    """An upload of ``payload``-byte packets; a turn of both sides takes half a millisecond of the engine's time."""

    def __init__(self, payload: int = 1200, *, drop_every: int = 0, **more: Any) -> None:
        settings = {"max_datagram_size": payload, "path_mtu_discovery": False, "cipher_suites": (0x1301,), **more}
        for_client, for_server = configurations(**settings)
        self.drop_every = drop_every
        self.trains_at_once = TRAINS
        self.client = Endpoint(for_client, environment=real_environment(), server=False)
        self.server = Endpoint(for_server, environment=real_environment(), server=True)
        self.now = time.monotonic()
        self.connection = self.client.connect(TO_SERVER, self.now)
        self.cost = [0.0, 0.0]
        self.packets = self.trains = self.received = 0
        while not self.connection.handshake_confirmed:
            self.turn()
        self.stream = self.connection.open_stream()

    def turn(self) -> None:
        """All that one side has to send goes to the other, and back."""
        clock = time.perf_counter
        started = clock()
        trains = []
        while len(trains) < self.trains_at_once and (train := self.client.next_train(self.now)) is not None:
            trains.append(arriving(train, TO_CLIENT))
        sent = clock()
        parts = [part for train in trains for part in self.losing(train)]  # the network's work, and nobody's here
        came = clock()
        for part in parts:
            self.server.receive(part, self.now)
        for connection in self.server.take_ready():
            for stream in connection.take_ready().streams:
                self.received += len(stream.read())
        answers = []
        while (train := self.server.next_train(self.now)) is not None:
            answers.append(arriving(train, TO_SERVER))
        answered = clock()
        for train in answers:
            self.client.receive(train, self.now)
        self.client.take_ready()
        self.connection.take_ready()
        self.cost[0] += sent - started + clock() - answered
        self.cost[1] += answered - came
        self.now += 0.0005
        for endpoint in (self.client, self.server):
            due = endpoint.next_timeout()
            if due is not None and due <= self.now:
                endpoint.handle_timeout(self.now)

    def losing(self, train: Train) -> list[Train]:
        """The train without every so many-th packet: what GRO makes of it is a train before the gap and one behind."""
        count = -(-len(train.data) // train.segment_size)
        self.packets += count
        self.trains += 1
        every = self.drop_every
        if not every or self.packets // every == (self.packets - count) // every:
            return [train]
        lost = count - 1 - self.packets % every
        size = train.segment_size
        parts = train.data[: lost * size], train.data[(lost + 1) * size :]
        return [Train(part, size, train.path, train.ecn) for part in parts if part]

    def run(self, size: int) -> tuple[float, float, float]:
        """Microseconds per packet of sender and receiver, and packets per train."""
        self.cost = [0.0, 0.0]
        self.packets = self.trains = 0
        goal = self.received + size
        clock = time.perf_counter
        while self.received < goal:
            started = clock()
            while self.stream.write(CHUNK):
                pass
            self.cost[0] += clock() - started
            self.turn()
        sender, receiver = (cost / self.packets * 1e6 for cost in self.cost)
        return sender, receiver, self.packets / self.trains


def main() -> None:
    parser = argparse.ArgumentParser(description="What a packet costs in the engine alone.")
    parser.add_argument("--payload", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--report", type=FilePath, help="a folder for the results")
    arguments = parser.parse_args()
    transfer = Transfer(arguments.payload)
    transfer.run(arguments.size)
    if arguments.profile:
        with cProfile.Profile() as profile:
            transfer.run(arguments.size)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    results = [transfer.run(arguments.size) for _ in range(arguments.rounds)]
    sender, receiver = (min(result[side] for result in results) for side in (0, 1))
    train = results[-1][2]
    text = f"Sender {sender:.2f} us a packet, receiver {receiver:.2f} us, {train:.0f} packets a train."
    print(text)
    if arguments.report:
        result = {"text": text, "sender": sender, "receiver": receiver, "train": train}
        report.save(arguments.report, "engine", report.machine(), [result])


if __name__ == "__main__":
    main()

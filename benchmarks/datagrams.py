"""What a datagram costs in the engine alone: two endpoints in one process, no sockets, no loop.

    python benchmarks/datagrams.py [--size 100] [--profile sender|receiver]

The application's calls are part of it: 64 datagrams are queued, whatever can leave goes to the other side, and there
they are taken one by one. Time is summed for each side apart, as in benchmarks/engine.py.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time

from engine import TO_CLIENT, TO_SERVER, Transfer, arriving

AT_ONCE = 64


class Flood(Transfer):
    """One way. ``stages`` are seconds: queueing, sealing and what comes back, opening, taking."""

    def __init__(self, size: int, profile: str = "") -> None:
        super().__init__()
        self.data = bytes(size)
        self.profiles = [cProfile.Profile() if profile == side else None for side in ("sender", "receiver")]
        self.stages = [0.0] * 4

    def step(self) -> int:
        """64 more datagrams; returns how many arrived."""
        clock = time.perf_counter
        sender, receiver = self.profiles
        connection, data = self.connection, self.data
        started = clock()
        if sender:
            sender.enable()
        for _ in range(AT_ONCE):
            if not connection.send_datagram(data):
                break
        queued = clock()
        trains = []
        while (train := self.client.next_train(self.now)) is not None:
            trains.append(train)
        if sender:
            sender.disable()
        sealed = clock()
        self.trains += len(trains)
        self.packets += sum(-(-len(train.data) // train.segment_size) for train in trains)
        trains = [arriving(train, TO_CLIENT) for train in trains]
        began = clock()
        if receiver:
            receiver.enable()
        for train in trains:
            self.server.receive(train, self.now)
        count = 0
        opened = clock()
        for peer in self.server.take_ready():
            peer.take_ready()
            while peer.receive_datagram() is not None:
                count += 1
        taken = clock()
        answers = []
        while (train := self.server.next_train(self.now)) is not None:
            answers.append(train)
        if receiver:
            receiver.disable()
        answered = clock()
        answers = [arriving(train, TO_SERVER) for train in answers]
        back = clock()
        if sender:
            sender.enable()
        for train in answers:
            self.client.receive(train, self.now)
        self.client.take_ready()
        self.connection.take_ready()
        if sender:
            sender.disable()
        done = clock()
        self.stages[0] += queued - started
        self.stages[1] += sealed - queued + done - back
        self.stages[2] += opened - began + answered - taken
        self.stages[3] += taken - opened
        self.now += 0.0002
        for endpoint in (self.client, self.server):
            due = endpoint.next_timeout()
            if due is not None and due <= self.now:
                endpoint.handle_timeout(self.now)
        return count

    def flood(self, count: int) -> tuple[list[float], float, float]:
        """Microseconds a datagram by stage; datagrams a packet; packets a train."""
        self.stages = [0.0] * 4
        self.packets = self.trains = arrived = 0
        while arrived < count:
            arrived += self.step()
        return [stage / arrived * 1e6 for stage in self.stages], arrived / self.packets, self.packets / self.trains


def main() -> None:
    parser = argparse.ArgumentParser(description="What a datagram costs in the engine alone.")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--profile", choices=("sender", "receiver"), default="")
    arguments = parser.parse_args()
    flood = Flood(arguments.size, arguments.profile)
    results = [flood.flood(arguments.count) for _ in range(1 if arguments.profile else arguments.rounds)]
    for profile in flood.profiles:
        if profile is not None:
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    best = [min(stages[n] for stages, _, _ in results) for n in range(4)]
    _, packed, length = results[-1]
    names = ("queueing", "sealing and ACKs", "opening and ACKs", "taking")
    print(", ".join(f"{name} {cost:.2f}" for name, cost in zip(names, best, strict=True)), "us a datagram;", end=" ")
    print(f"sender {sum(best[:2]):.2f}, receiver {sum(best[2:]):.2f};", end=" ")
    print(f"{packed:.1f} datagrams a packet, {length:.0f} packets a train")


if __name__ == "__main__":
    main()

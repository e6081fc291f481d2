"""Does a packet stay as cheap when there is more of everything? (`make bench-all`)

    python benchmarks/growth.py [--long]

In memory, as ``engine.py``: no sockets. Each row compares a small case with a large one, in turn, and prints
microseconds per packet of sender and receiver, the packets of a train beside them, and the ratio of the sums.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from engine import TO_SERVER, Transfer

from quicstack.recovery.congestion.newreno import NewReno
from quicstack.recovery.sent_packet import SentPacket
from quicstack.train import Path

PACKET = 1200
Result = tuple[float, float, float]


def fixed(packets: int) -> Callable[[int], NewReno]:
    """A controller whose window nothing changes."""

    class Fixed(NewReno):
        def __init__(self, max_datagram_size: int) -> None:
            super().__init__(max_datagram_size)
            self.congestion_window = packets * PACKET

        def on_ack(self, ack: object) -> None:
            pass

        def on_congestion_event(self, *arguments: object, **more: object) -> None:
            pass

        def on_packets_sent(self, packets: Sequence[SentPacket], bytes_in_flight: int, now: float) -> None:
            pass

    return Fixed


ROOM = {
    "initial_max_data": 1 << 30, "initial_max_stream_data_bidi_remote": 1 << 30, "max_stream_window": 1 << 30,
    "max_connection_window": 1 << 30, "send_buffer": 1 << 27,
}  # fmt: skip


def with_idle_connections(count: int) -> Transfer:
    transfer = Transfer(max_connections=count + 10, max_idle_timeout=3600.0)
    for number in range(count - 1):
        port = 10_000 + number
        path = Path(TO_SERVER.remote, ("127.0.0.1", port))
        connection = transfer.client.connect(path, transfer.now)
        while not connection.handshake_confirmed:
            transfer.turn()
    return transfer


def with_idle_streams(count: int) -> Transfer:
    transfer = Transfer(initial_max_streams_bidi=count + 10)
    for _ in range(count - 1):
        transfer.connection.open_stream().write(b"x")
        transfer.turn()
    return transfer


def in_flight(packets: int) -> Transfer:
    """The window is filled before anything is acknowledged."""
    transfer = Transfer(congestion_controller=fixed(packets), pacing=False, **ROOM)
    transfer.trains_at_once = packets // 53 + 1
    return transfer


def compare(name: str, small: Transfer, large: Transfer, rounds: int, size: int = 10_000_000) -> None:
    results: list[list[Result]] = [[], []]
    for transfer in (small, large):
        transfer.run(size)
    for _ in range(rounds):
        for found, transfer in zip(results, (small, large), strict=True):
            found.append(transfer.run(size))
    rows = [tuple(min(found, key=lambda row: row[0] + row[1])) for found in results]
    cells = " | ".join(f"{sender:.2f} + {receiver:.2f} ({train:.0f})" for sender, receiver, train in rows)
    ratio = sum(rows[1][:2]) / sum(rows[0][:2])
    print(f"| {name} | {cells} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a packet stay as cheap when there is more of everything?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--long", action="store_true", help="4 GB instead of 400 MB in the first row")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    print("| what grows | few: sender + receiver, us (packets a train) | many | ratio |\n|---|---|---|---|")
    old = Transfer()
    old.run(4_000_000_000 if arguments.long else 400_000_000)
    compare("data sent: 100 MB, and 400 MB or 4 GB before", Transfer(), old, rounds)
    compare("connections, one of them active: 1, 1,000", with_idle_connections(1), with_idle_connections(1_000), rounds)
    compare("streams, one of them active: 1, 10,000", with_idle_streams(1), with_idle_streams(10_000), rounds)
    window = {"congestion_controller": fixed(64), "pacing": False}
    lossy = Transfer(drop_every=100, **window)
    compare("loss: none, 1 %, a window of 64 packets", Transfer(**window), lossy, rounds)
    compare("packets in flight: 100, 40,000", in_flight(100), in_flight(40_000), rounds, 48_000_000)


if __name__ == "__main__":
    main()

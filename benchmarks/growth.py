"""Does a packet stay as cheap when there is more of everything? (`make bench-all`)

    python benchmarks/growth.py [--long]

In memory, as ``engine.py``: no sockets. Each row compares a small case with a large one, in turn, and prints
microseconds per packet of sender and receiver, the packets of a train beside them, and the ratio of the sums.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import recovery_ack
import report
from engine import TO_SERVER, Transfer

from quicstack.recovery.congestion.newreno import NewReno
from quicstack.recovery.sent_packet import SentPacket
from quicstack.train import Path

PACKET = 1200
FLAT = 1.15
"""A packet may cost so much more when there is more of everything."""
HEAD = """| what grows | few: sender + receiver, us (packets a train) | many | ratio | |
|---|---|---|---|---|"""
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


def compare(
    name: str, small: Transfer, large: Transfer, rounds: int, size: int = 10_000_000, *, has_goal: bool = True
) -> dict[str, Any]:
    results: list[list[Result]] = [[], []]
    for transfer in (small, large):
        transfer.run(size)
    for _ in range(rounds):
        for found, transfer in zip(results, (small, large), strict=True):
            found.append(transfer.run(size))
    rows = [tuple(min(found, key=lambda row: row[0] + row[1])) for found in results]
    cells = " | ".join(f"{sender:.2f} + {receiver:.2f} ({train:.0f})" for sender, receiver, train in rows)
    ratio = sum(rows[1][:2]) / sum(rows[0][:2])
    verdict = "reached" if ratio <= FLAT else "**short**" if has_goal else ""
    text = f"| {name} | {cells} | {ratio:.2f} | {verdict} |"
    print(text, flush=True)
    return {"name": name, "few": rows[0], "many": rows[1], "ratio": ratio, "text": text}


def acknowledging(few: int, many: int) -> dict[str, Any]:
    """Microseconds to acknowledge a packet in recovery alone, trains of 40 in a small window and in a large one."""
    times = [min(recovery_ack.trains(40, count)[1][0] for _ in range(3)) / 40 * 1e6 for count in (few, many)]
    ratio = times[1] / times[0]
    name = f"an acknowledged packet, recovery alone; in flight: {few:,}, {many:,}"
    text = f"| {name} | {times[0]:.2f} | {times[1]:.2f} | {ratio:.2f} | {'reached' if ratio <= FLAT else '**short**'} |"
    print(text, flush=True)
    return {"name": name, "few": times[0], "many": times[1], "ratio": ratio, "text": text}


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a packet stay as cheap when there is more of everything?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--long", action="store_true", help="4 GB instead of 400 MB in the first row")
    parser.add_argument("--report", type=FilePath, help="a folder for the results")
    arguments = parser.parse_args()
    rounds, facts = arguments.rounds, report.machine()
    print(HEAD)
    old = Transfer()
    amount = 4_000_000_000 if arguments.long else 400_000_000
    old.run(amount)
    window = {"congestion_controller": fixed(64), "pacing": False}
    name = f"data sent before: 10 MB, {'4 GB' if arguments.long else '400 MB'}"
    rows = [compare(name, Transfer(), old, rounds)]
    del old
    idle = with_idle_connections(1), with_idle_connections(1_000)
    rows.append(compare("connections, one of them active: 1, 1,000", *idle, rounds))
    streams = with_idle_streams(1), with_idle_streams(10_000)
    rows.append(compare("streams, one of them active: 1, 10,000", *streams, rounds))
    lossy = Transfer(**window), Transfer(drop_every=100, **window)
    rows.append(compare("loss: none, 1 %, a window of 64 packets", *lossy, rounds))
    windows = in_flight(100), in_flight(40_000)
    rows.append(compare("packets in flight: 100, 40,000", *windows, rounds, 48_000_000, has_goal=False))
    rows.append(acknowledging(100, 40_000))
    if arguments.report:
        text = "\n".join([HEAD, *(row.pop("text") for row in rows)])
        rows[0]["text"] = text
        report.save(arguments.report, "growth", facts, rows)


if __name__ == "__main__":
    main()

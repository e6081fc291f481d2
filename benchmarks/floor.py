"""The least that a packet can cost here: one kept AESGCM, one AES call a train, sendmsg with GSO, recvmsg with GRO.

    python benchmarks/floor.py [--payload 1200] [--packets 53]

No QUIC at all: a sender that seals the packets of a train and masks nothing but computes the masks, and a receiver that
computes them and opens the packets, in a process each. What a packet costs above this is Python and protocol. The CPU
time is the operating system's; the smallest of several rounds counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import resource
import socket
from pathlib import Path
from typing import Any

import report
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
KEY, NONCE, HEADER, TAG = bytes(16), bytes(12), bytes(11), 16
ROUNDS = 7


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def tools() -> tuple[AESGCM, Any]:
    return AESGCM(KEY), Cipher(algorithms.AES(KEY), modes.ECB()).encryptor().update


def send(sock: socket.socket, payload: int, packets: int, trains: int, results: Any) -> None:
    aead, masks = tools()
    seal = aead.encrypt
    data = bytes(payload - len(HEADER) - TAG)
    control = [(SOL_UDP, UDP_SEGMENT, payload.to_bytes(2, "little"))]
    best = None
    for _ in range(ROUNDS):
        started = cpu()
        for _ in range(trains):
            parts = []
            for _ in range(packets):
                parts.append(HEADER)
                parts.append(seal(NONCE, data, HEADER))
            masks(b"".join([body[:16] for body in parts[1::2]]))
            sock.sendmsg([b"".join(parts)], control)
            if not sock.recv(1):  # one answer a train keeps the receiver's buffer from running over
                return
        spent = (cpu() - started) / trains / packets
        best = spent if best is None else min(best, spent)
    sock.send(b"end")
    results.put(("sender", best))


def receive(sock: socket.socket, payload: int, packets: int, trains: int, results: Any) -> None:
    aead, masks = tools()
    unseal = aead.decrypt
    start = len(HEADER)
    best = None
    for _ in range(ROUNDS):
        started = cpu()
        for _ in range(trains):
            got = 0
            while got < packets:
                data, _, _, peer = sock.recvmsg(65535, 64)
                ends = range(0, len(data), payload)
                masks(b"".join([data[at + start : at + start + 16] for at in ends]))
                for at in ends:
                    unseal(NONCE, data[at + start : at + payload], data[at : at + start])
                got += len(ends)
            sock.sendto(b"+", peer)
        spent = (cpu() - started) / trains / packets
        best = spent if best is None else min(best, spent)
    results.put(("receiver", best))


def measure(payload: int, packets: int, trains: int = 400) -> dict[str, float]:
    """Microseconds a packet, of each side."""
    receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with receiver, sender:
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
        sender.connect(receiver.getsockname())
        results = mp.Queue()
        sides = [
            mp.Process(target=work, args=(sock, payload, packets, trains, results))
            for work, sock in ((receive, receiver), (send, sender))
        ]
        for side in sides:
            side.start()
        found = dict(results.get(timeout=120) for _ in sides)
        for side in sides:
            side.join()
    return {side: seconds * 1e6 for side, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="The least that a packet can cost here.")
    parser.add_argument("--payload", type=int, default=1200)
    parser.add_argument("--packets", type=int, default=53)
    parser.add_argument("--report", type=Path, help="a folder for the results")
    arguments = parser.parse_args()
    facts, found = report.machine(), measure(arguments.payload, arguments.packets)
    print(json.dumps(found))
    if arguments.report:
        text = (
            f"{arguments.packets} packets of {arguments.payload} bytes a train: "
            f"sender {found['sender']:.2f} us a packet, receiver {found['receiver']:.2f} us."
        )
        report.save(arguments.report, "floor", facts, [{"text": text, **found}])


if __name__ == "__main__":
    main()

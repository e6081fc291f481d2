"""What recovery costs: microseconds per packet sent and acknowledged, and per question asked once a train.

  python benchmarks/recovery_ack.py

Trains of 40 packets answered by one ACK each, the way bulk data travels, and short trains for comparison. Shows the
median and the best of many trains, because a shared machine only ever adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from quicstack.recovery import Cubic, Recovery, SentPacket, Space


def bulk_sender() -> Recovery:
    recovery = Recovery(congestion_controller_factory=Cubic, max_datagram_size=1200, is_client=False)
    recovery.handshake_confirmed = True
    recovery.discard_space(Space.INITIAL)
    recovery.discard_space(Space.HANDSHAKE)
    return recovery


def trains(length: int, outstanding: int, count: int = 400) -> tuple[list[float], list[float]]:
    """Seconds per train for sending it, and for the ACK of one that left a window earlier."""
    recovery, now = bulk_sender(), 0.0
    send, receive_ack = recovery.on_packet_sent, recovery.on_ack_received
    for number in range(outstanding):
        send(2, SentPacket(number, now, 1200, True, True), now)
    sending, acking = [], []
    for train in range(count):
        first = outstanding + train * length
        packets = [SentPacket(first + i, now, 1200, True, True) for i in range(length)]
        start = time.perf_counter()
        for packet in packets:
            send(2, packet, now)
        sending.append(time.perf_counter() - start)
        now += 0.001
        ranges = [(0, (train + 1) * length - 1)]
        start = time.perf_counter()
        receive_ack(2, ranges, 0.0, now)
        acking.append(time.perf_counter() - start)
    return sorted(sending), sorted(acking)


def per_call(question: Callable[[], object], calls: int = 1000) -> float:
    def once() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            question()
        return (time.perf_counter() - start) / calls

    return min(once() for _ in range(15))


def main() -> None:
    for length, outstanding in ((40, 1000), (40, 20_000), (10, 200), (2, 100)):
        sending, acking = trains(length, outstanding)
        shown = [1e6 * times[at] / length for times in (sending, acking) for at in (len(times) // 2, 0)]
        print(
            f"trains of {length:2}, {outstanding:5} in flight: "
            "sent {:.2f} ({:.2f}), acknowledged {:.2f} ({:.2f}) us a packet".format(*shown)
        )
    recovery = bulk_sender()
    recovery.on_packet_sent(2, SentPacket(0, 0.0, 1200, True, True), 0.0)
    print(f"send_allowance        {1e6 * per_call(lambda: recovery.send_allowance(1.0)):.2f} us")
    print(f"loss_detection_timer  {1e6 * per_call(lambda: recovery.loss_detection_timer):.2f} us")


if __name__ == "__main__":
    main()

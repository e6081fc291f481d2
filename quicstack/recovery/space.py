"""The packets outstanding in one packet number space, and which of them an ACK proves received or lost.

RFC 9002 §A.1, §A.3 and §A.10. Packets enter with ascending numbers, so a dict is ordered by number and by time, and
nothing here ever sorts. Two bounds make the work of an ACK proportional to what it newly acknowledges:

- ``oldest`` is a lower bound of the outstanding numbers: ranges below it were settled before and cost nothing;
- a packet three numbers below the largest acknowledged is lost (kPacketThreshold), so what is outstanding below
  ``largest_acked_packet`` never spans more than three numbers once an ACK has been worked through.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from itertools import repeat

from quicstack.recovery.sent_packet import SentPacket

__all__ = ["AckRange", "Space", "SpaceState", "kPacketThreshold", "loss_time_and_space"]

AckRange = tuple[int, int]
"""Smallest and largest packet number, both included."""

kPacketThreshold = 3
"""RFC 9002 §6.1.1: a packet is lost once one sent so many numbers later is acknowledged."""

MAX_ACK_ONLY = 256
"""How many packets outside congestion control are remembered. A peer that never acknowledges gets no more memory."""

SPARSE = 64
"""Slack before a range counts as much wider than what is outstanding."""


class Space(IntEnum):
    """The packet number spaces of RFC 9000 §12.3."""

    INITIAL = 0
    HANDSHAKE = 1
    APPLICATION = 2


class SpaceState:
    """Loss detection state of one packet number space.

    ``sent_packets`` holds what counts as in flight. Packets of nothing but ACK frames are kept aside in
    ``ack_only_packets``: nobody retransmits them, but their acknowledgment tells which ACK ranges the peer has seen.
    """

    __slots__ = (
        "ack_eliciting_in_flight",
        "ack_only_packets",
        "largest_acked_packet",
        "loss_time",
        "oldest",
        "sent_packets",
        "space",
        "time_of_last_ack_eliciting_packet",
    )

    def __init__(self, space: int) -> None:
        self.space = space
        self.sent_packets: dict[int, SentPacket] = {}
        self.ack_only_packets: dict[int, SentPacket] = {}
        self.oldest = 0
        self.largest_acked_packet = -1
        self.loss_time: float | None = None
        self.time_of_last_ack_eliciting_packet = 0.0
        self.ack_eliciting_in_flight = 0

    def remember_ack_only(self, packet: SentPacket) -> None:
        """Keep a packet that is not in flight; the oldest one makes room."""
        kept = self.ack_only_packets
        kept[packet.packet_number] = packet
        if len(kept) > MAX_ACK_ONLY:
            del kept[next(iter(kept))]

    def find(self, packet_number: int) -> SentPacket | None:
        """The outstanding packet of that number."""
        return self.sent_packets.get(packet_number) or self.ack_only_packets.get(packet_number)

    def detect_and_remove_acked_packets(self, ranges: Sequence[AckRange]) -> list[SentPacket]:  # hot path
        """Take out the packets in flight that ``ranges`` newly acknowledges, in the order they were sent.

        ``ranges`` is descending. Each range is cut to what can be outstanding and then walked by number: 0.1 us a
        packet, whatever else is in flight (benchmarks/recovery_ack.py). A range much wider than all that is
        outstanding is matched the other way round.
        """
        sent = self.sent_packets
        pop = sent.pop
        oldest = self.oldest
        blocks: list[list[SentPacket]] = []
        for smallest, largest in ranges:
            if largest < oldest or not sent:
                break
            if smallest < oldest:
                smallest = oldest
            if largest - smallest > SPARSE + 4 * len(sent):
                block = [pop(number) for number in list(sent) if smallest <= number <= largest]
            else:
                block = list(filter(None, map(pop, range(smallest, largest + 1), repeat(None))))
            if smallest == oldest:
                self.oldest = largest + 1
            if block:
                blocks.append(block)
        if len(blocks) == 1:
            return blocks[0]
        return [packet for block in reversed(blocks) for packet in block]

    def detect_and_remove_acked_ack_only(self, ranges: Sequence[AckRange]) -> list[SentPacket]:
        """The same for packets outside congestion control. Those passed over by the ACK are forgotten as well."""
        kept = self.ack_only_packets
        due = [number for number in reversed(kept) if number <= ranges[0][1]]
        acked: list[SentPacket] = []
        at = 0
        for number in due:
            packet = kept.pop(number)
            while at < len(ranges) and ranges[at][0] > number:
                at += 1
            if at < len(ranges) and number <= ranges[at][1]:
                acked.append(packet)
        return acked

    def detect_and_remove_lost_packets(self, now: float, loss_delay: float) -> list[SentPacket]:
        """RFC 9002 §A.10: from the oldest on, stop at the first packet that is not lost yet, and set loss_time by it.

        Numbers and send times ascend together, so behind that first one there is none that is lost.
        """
        self.loss_time = None
        lost: list[SentPacket] = []
        largest_acked = self.largest_acked_packet
        if self.oldest > largest_acked:
            return lost
        sent = self.sent_packets
        for number, packet in sent.items():
            if number > largest_acked:
                break
            if number + kPacketThreshold > largest_acked and packet.time_sent + loss_delay > now:
                self.loss_time = packet.time_sent + loss_delay
                break
            lost.append(packet)
        for packet in lost:
            del sent[packet.packet_number]
        self.oldest = next(iter(sent), largest_acked + 1)
        return lost

    def clear(self) -> list[SentPacket]:
        """Forget every packet; give back those in flight."""
        packets = list(self.sent_packets.values())
        self.sent_packets.clear()
        self.ack_only_packets.clear()
        self.loss_time = None
        self.time_of_last_ack_eliciting_packet = 0.0
        self.ack_eliciting_in_flight = 0
        return packets


def loss_time_and_space(spaces: Sequence[SpaceState]) -> tuple[float | None, int]:
    """GetLossTimeAndSpace of RFC 9002 §A.8: the first time at which a packet becomes lost by time."""
    earliest: float | None = None
    space = 0
    for state in spaces:
        if state.loss_time is not None and (earliest is None or state.loss_time < earliest):
            earliest, space = state.loss_time, state.space
    return earliest, space

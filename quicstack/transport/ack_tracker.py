"""What was received in one packet number space, and when to say so (RFC 9000 §13.2)."""

from __future__ import annotations

from quicstack.wire.frame import write_ack
from quicstack.wire.ranges import RangeSet

__all__ = ["AckTracker"]

MAX_RANGES = 256
"""Ranges remembered. RFC 9000 §13.2.3: a receiver limits them and forgets the lowest."""
MAX_RANGES_SENT = 32
"""Ranges in one ACK frame; what does not fit was most likely acknowledged before."""
_ECT1, _ECT0, _CE = 1, 2, 3


class AckTracker:
    """Packet numbers received, and the acknowledgement owed for them.

    Unless the peer asks for something else (:meth:`set_frequency`), one policy everywhere: a read that leaves two or
    more ack-eliciting packets unacknowledged is answered by one ACK; otherwise ``max_ack_delay`` passes first;
    reordering and CE are reported at once (§13.2.1).
    """

    __slots__ = (
        "_ce_before", "_largest_eliciting", "_largest_reported", "_ranges", "_report_from", "_sequence",
        "ack_deadline", "ack_due", "ecn", "floor", "immediate", "largest", "largest_time", "max_ack_delay",
        "reordering_threshold", "threshold", "unacked",
    )  # fmt: skip

    def __init__(self, *, immediate: bool) -> None:
        self._ranges = RangeSet()
        self.floor = 0
        """Packet numbers below this count as received: their ranges are forgotten."""
        self.largest = -1
        self.largest_time = 0.0
        self.unacked = 0
        """Ack-eliciting packets since the last ACK that was sent."""
        self.ack_due = False
        self.ack_deadline: float | None = None
        self.immediate = immediate
        """§13.2.1: Initial and Handshake packets are acknowledged without delay."""
        self.max_ack_delay = 0.025
        self.ecn = [0, 0, 0]
        """Packets received with ECT(0), ECT(1), CE, as the ACK frame orders them."""
        self._report_from = 0
        self.threshold = 1
        """Ack-eliciting packets that may wait without an ACK (draft-ietf-quic-ack-frequency §4)."""
        self.reordering_threshold = 1
        self._sequence = -1
        self._largest_eliciting = -1
        self._largest_reported = -1
        self._ce_before = False

    def set_frequency(self, sequence: int, threshold: int, max_ack_delay: float, reordering_threshold: int) -> None:
        """ACK_FREQUENCY (its draft, §4): one that is older than what is in force is ignored."""
        if sequence <= self._sequence:
            return
        self._sequence = sequence
        self.threshold = threshold
        self.max_ack_delay = max_ack_delay
        self.reordering_threshold = reordering_threshold

    def is_duplicate(self, packet_number: int) -> bool:
        return packet_number <= self.largest and (packet_number < self.floor or packet_number in self._ranges)

    def on_packet(self, packet_number: int, ack_eliciting: bool, now: float, ecn: int) -> None:  # hot path
        """A packet was authenticated and processed."""
        ranges = self._ranges
        if packet_number == self.largest + 1 and ranges.stops:
            ranges.stops[-1] = packet_number + 1
            self.largest = packet_number
            self.largest_time = now
        else:
            if ack_eliciting and self.largest >= 0 and self.reordering_threshold == 1:
                self.ack_due = True  # §13.2.1: out of order, or a gap before it
            ranges.add(packet_number, packet_number + 1)
            if packet_number > self.largest:
                self.largest = packet_number
                self.largest_time = now
            if packet_number < self._report_from:
                self._report_from = packet_number
            if len(ranges) > MAX_RANGES:
                self.floor = ranges.pop_first()[1]
        if ack_eliciting:
            self.unacked += 1
            if packet_number > self._largest_eliciting:
                self._largest_eliciting = packet_number
            if self.reordering_threshold > 1 and len(ranges) > 1:
                self._check_reordering(packet_number)
        if ecn:
            self.ecn[0 if ecn == _ECT0 else 1 if ecn == _ECT1 else 2] += 1
            if ecn == _CE and ack_eliciting and (self.threshold <= 1 or not self._ce_before):
                self.ack_due = True  # §13.2.1: congestion is reported at once; its draft §6.3: when it begins
        self._ce_before = ecn == _CE

    def on_run(self, first: int, count: int, now: float, ecn: int) -> None:
        """``on_packet`` for ``count`` ack-eliciting packets, from ``first`` on, above all that came so far."""
        last = first + count - 1
        if ecn == _CE:
            for number in range(first, last + 1):
                self.on_packet(number, True, now, ecn)
            return
        if first != self.largest + 1 or not self._ranges.stops:
            self.on_packet(first, True, now, ecn)
            count -= 1
            if not count:
                return
        self._ranges.stops[-1] = last + 1
        self.largest = self._largest_eliciting = last
        self.largest_time = now
        self.unacked += count
        if self.reordering_threshold > 1 and len(self._ranges) > 1:
            self._check_reordering(last)
        if ecn:
            self.ecn[0 if ecn == _ECT0 else 1] += count
        self._ce_before = False

    def _check_reordering(self, packet_number: int) -> None:
        """Its draft, §6.2: report a gap when the peer can declare it lost, and what it has declared lost wrongly."""
        threshold = self.reordering_threshold
        reported = self._largest_reported - threshold if self._largest_reported >= 0 else -1
        largest = self._largest_eliciting
        if self._largest_reported >= 0 and packet_number <= reported:
            self.ack_due = True
            return
        first = max(reported + 1, self.floor, self._ranges.starts[0])
        missing = self._ranges.missing(first, largest)
        if missing and largest - missing[0][0] >= threshold:
            self.ack_due = True

    def end_of_read(self, now: float) -> None:
        """All packets that one read brought are in: decide when to acknowledge them."""
        if self.unacked > self.threshold or (self.unacked and self.immediate):
            self.ack_due = True
        elif self.unacked and not self.ack_due and self.ack_deadline is None:
            self.ack_deadline = now + self.max_ack_delay

    def on_timeout(self, now: float) -> None:
        if self.ack_deadline is not None and now >= self.ack_deadline:
            self.ack_due = True
            self.ack_deadline = None  # it is due until it is sent, also if the path has no room for it now

    def write(self, now: float, exponent: int, capacity: int) -> bytes | None:
        """An ACK frame of at most ``capacity`` bytes for everything not yet known to be reported, or None."""
        if self.largest < 0:
            return None
        starts, stops = self._ranges.starts, self._ranges.stops
        ranges = [(starts[-1], stops[-1] - 1)]
        # A range takes at most 16 bytes; the fixed part and ECN counts at most 57.
        if len(starts) > 1 and stops[-2] > self._report_from:
            room = max(1, min(MAX_RANGES_SENT, (capacity - 57) // 16))
            for index in range(len(starts) - 2, max(-1, len(starts) - 1 - room), -1):
                if stops[index] <= self._report_from:
                    break
                ranges.append((starts[index], stops[index] - 1))
        delay = max(0, int((now - self.largest_time) * 1_000_000)) >> exponent
        ect0, ect1, ce = self.ecn
        ecn = (ect0, ect1, ce) if ect0 or ect1 or ce else None
        frame = write_ack(ranges, delay, ecn)
        return frame if len(frame) <= capacity else None

    def on_ack_sent(self) -> None:
        self._largest_reported = self.largest
        self.unacked = 0
        self.ack_due = False
        self.ack_deadline = None

    def on_ack_acked(self, largest: int) -> None:
        """The peer has seen an ACK of ours up to ``largest`` (§13.2.4): no need to report below it again."""
        if largest >= self._report_from:
            self._report_from = largest + 1

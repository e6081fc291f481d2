"""Explicit Congestion Notification: may this path be trusted with it? (RFC 9000 §13.4.2, §A.4)

::

    TESTING --ten marked packets sent--> UNKNOWN --counts in an ACK are right--> CAPABLE
       |                                    |                                       |
       +----------- counts are wrong, or every marked packet was lost -------------+--> FAILED

Counts that were right before the tenth packet lead from TESTING to CAPABLE at once.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["ECT0", "EcnCounts", "EcnState", "EcnValidation"]

ECT0 = 2
"""The codepoint we mark with (RFC 3168 §5)."""

EcnCounts = tuple[int, int, int]
"""ECT(0), ECT(1) and ECN-CE counts, in the order of the ACK frame (RFC 9000 §19.3.2)."""

TESTING_PACKETS = 10


class EcnValidation(Enum):
    """RFC 9000 §A.4."""

    TESTING = "testing"
    UNKNOWN = "unknown"
    CAPABLE = "capable"
    FAILED = "failed"


class EcnState:
    """Marks packets, checks the counts that come back, and reports congestion that the path has marked.

    Counts are kept per packet number space and survive a change of path: they are the baseline of the next test.
    """

    __slots__ = ("_counts", "_enabled", "_marked", "_marked_acked", "_marked_lost", "_sent", "validation")

    def __init__(self, *, enabled: bool = True) -> None:
        self._counts: list[EcnCounts] = [(0, 0, 0)] * 3
        self._sent = [0, 0, 0]
        self._enabled = enabled
        self.restart()

    def restart(self) -> None:
        """Test a new path."""
        self.validation = EcnValidation.TESTING if self._enabled else EcnValidation.FAILED
        self._marked = self._marked_lost = self._marked_acked = 0

    def mark(self) -> int:
        """The codepoint for the next train: 2 is ECT(0), 0 is Not-ECT."""
        return ECT0 if self.validation in (EcnValidation.TESTING, EcnValidation.CAPABLE) else 0

    def on_packets_sent(self, space: int, count: int) -> None:
        """Packets marked ECT(0) were sent."""
        self._sent[space] += count
        self._marked += count
        if self.validation is EcnValidation.TESTING and self._marked >= TESTING_PACKETS:
            # Where the counts were right already there is nothing left to wait for.
            self.validation = EcnValidation.CAPABLE if self._marked_acked else EcnValidation.UNKNOWN

    def on_packets_lost(self, marked: int) -> None:
        """So many marked packets were lost. If all are, marking may be why (RFC 9000 §13.4.2)."""
        self._marked_lost += marked
        testing = self.validation in (EcnValidation.TESTING, EcnValidation.UNKNOWN)
        if testing and self._marked >= TESTING_PACKETS and self._marked_lost >= self._marked:
            self.validation = EcnValidation.FAILED

    def on_ack(self, space: int, newly_acked: int, counts: EcnCounts | None) -> tuple[int, bool]:
        """Check one ACK that raises the largest acknowledged number; others prove nothing (RFC 9000 §13.4.2.1).

        ``newly_acked`` counts the newly acknowledged packets that had been sent with ECT(0). Returns the increase of
        the CE count, and False when validation fails.
        """
        if self.validation is EcnValidation.FAILED:
            return 0, False
        if counts is None:
            if newly_acked:
                self.validation = EcnValidation.FAILED
            return 0, not newly_acked
        ect0, ect1, ce = self._counts[space]
        ce_increase = counts[2] - ce
        is_right = (
            counts[0] >= ect0
            and ce_increase >= 0
            and counts[1] == ect1 == 0  # we never send ECT(1)
            and counts[0] - ect0 + ce_increase >= newly_acked
            and counts[0] + counts[2] <= self._sent[space]
        )
        if not is_right:
            self.validation = EcnValidation.FAILED
            return 0, False
        self._counts[space] = counts
        self._marked_acked += newly_acked
        if self.validation is EcnValidation.UNKNOWN and self._marked_acked:
            self.validation = EcnValidation.CAPABLE
        return ce_increase, True

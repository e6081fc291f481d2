"""The latency spin bit of one path (RFC 9000 §17.4): who watches the path sees it change once a round trip.

One packet of a train speaks for all of it, so nothing here is done for each packet.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SPIN_BIT", "SpinBit"]

SPIN_BIT = 0x20
DISABLED_IN = 16
"""§17.4: one connection ID in so many does not take part, so that nobody can tell who has switched it off."""


class SpinBit:
    """The spin value of a path, in its place in the first byte."""

    __slots__ = ("_largest", "_spins", "cid", "value")

    def __init__(self) -> None:
        self.cid: bytes | None = None
        """The connection ID of the packets that carry ``value``."""
        self.value = 0
        self._largest = -1
        self._spins = False

    def begin(self, cid: bytes, allowed: bool, random: Callable[[int], bytes]) -> None:
        """Packets go to another connection ID now: begin at 0, or at random where the bit is disabled."""
        self.cid = cid
        chance = random(1)[0]
        self._spins = allowed and chance % DISABLED_IN != 0
        self.value = 0 if self._spins else chance & SPIN_BIT

    def on_packet(self, number: int, first_byte: int, is_client: bool) -> None:
        """A 1-RTT packet came: the server reflects the newest bit, the client turns it over."""
        if self._spins and number > self._largest:
            self._largest = number
            self.value = (first_byte ^ SPIN_BIT if is_client else first_byte) & SPIN_BIT

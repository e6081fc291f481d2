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

    __slots__ = ("_cid", "_largest", "_spins", "_value")

    def __init__(self) -> None:
        self._cid: bytes | None = None
        self._largest = -1
        self._spins = False
        self._value = 0

    def value(self, cid: bytes, allowed: bool, random: Callable[[int], bytes]) -> int:
        """What packets to this connection ID carry now. A new ID begins at 0, at random where the bit is disabled."""
        if cid != self._cid:
            self._cid = cid
            chance = random(1)[0]
            self._spins = allowed and chance % DISABLED_IN != 0
            self._value = 0 if self._spins else chance & SPIN_BIT
        return self._value

    def on_packet(self, number: int, first_byte: int, is_client: bool) -> None:
        """A 1-RTT packet came: the server reflects the newest bit, the client turns it over."""
        if self._spins and number > self._largest:
            self._largest = number
            self._value = (first_byte ^ SPIN_BIT if is_client else first_byte) & SPIN_BIT

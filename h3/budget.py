"""A bound on what a peer may make this side do without asking for anything useful (RFC 9114 §10.5)."""

from __future__ import annotations

from .errors import H3ConnectionError, H3ErrorCode

__all__ = ["Budget"]


class Budget:
    """Tokens that cheap messages cost and real requests earn back.

    There is no clock below the drivers, so a flood is not "too many a second" but "too many for the work that came
    with them": a peer that also sends requests never runs out.
    """

    __slots__ = ("_capacity", "_left", "_what")

    def __init__(self, capacity: int, what: str) -> None:
        self._capacity = capacity
        self._left = capacity
        self._what = what

    def spend(self, cost: int = 1) -> None:
        """Raises H3_EXCESSIVE_LOAD when nothing is left."""
        self._left -= cost
        if self._left < 0:
            raise H3ConnectionError(H3ErrorCode.H3_EXCESSIVE_LOAD, f"too many {self._what}")

    def earn(self, amount: int) -> None:
        """Give some back, never above what there was at first."""
        if self._left < self._capacity:
            self._left = min(self._capacity, self._left + amount)

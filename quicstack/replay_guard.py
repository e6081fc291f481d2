"""What keeps 0-RTT data from being acted on twice (RFC 8446 §8): a register of the tickets that were used for it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

__all__ = ["MemoryReplayGuard", "ReplayGuard"]

MAX_REMEMBERED = 65_536
"""Tickets; about 10 MB."""
WINDOW = 20.0
"""Seconds in which a replay can be fresh: its age may be wrong by ten seconds either way (§8.3)."""


class ReplayGuard(Protocol):
    """One for all servers that open each other's tickets: whoever asks another one gets a second first time."""

    def is_first_use(self, ticket_id: bytes, issued_at: float, now: float) -> bool:
        """Record that this ticket is used for 0-RTT. False: it was before, or nobody can say."""
        ...


class MemoryReplayGuard:
    """For one process. What happened before it began it does not know, so it begins by refusing older tickets."""

    __slots__ = ("_began_at", "_capacity", "_used")

    def __init__(self, began_at: float, capacity: int = MAX_REMEMBERED) -> None:
        self._began_at = began_at
        self._capacity = capacity
        self._used: OrderedDict[bytes, float] = OrderedDict()

    def is_first_use(self, ticket_id: bytes, issued_at: float, now: float) -> bool:
        if ticket_id in self._used or (issued_at < self._began_at and now < self._began_at + WINDOW):
            return False
        if len(self._used) >= self._capacity:
            oldest = next(iter(self._used.values()))
            if now < oldest + WINDOW:
                return False  # to forget one now would be to permit its replay
            self._used.popitem(last=False)
        self._used[ticket_id] = now
        return True

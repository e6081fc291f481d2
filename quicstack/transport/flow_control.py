"""Flow control (RFC 9000 §4.1, §4.2): what we let the peer send, and what it lets us send.

Credit is granted when the application reads or the bytes are discarded, so a reader that stops stops the sender.
Windows start small and double while a reader empties one in under two round trips.
"""

from __future__ import annotations

from quicstack.errors import TransportError, TransportErrorCode

__all__ = ["MemoryBudget", "ReceiveWindow", "SendWindow"]


class MemoryBudget:
    """Bytes by which all receive windows of an endpoint may grow beyond their initial size, together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, amount: int) -> bool:
        if self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def give(self, amount: int) -> None:
        self.used -= amount


class ReceiveWindow:
    """How far the peer may send. ``limit`` is what it was told, ``consumed`` what was read or discarded."""

    __slots__ = (
        "_budget",
        "_grown",
        "_updated_at",
        "_updated_consumed",
        "consumed",
        "limit",
        "max_size",
        "received",
        "size",
    )

    def __init__(self, size: int, max_size: int, budget: MemoryBudget | None = None) -> None:
        self.size = size
        self.max_size = max_size
        self.limit = size
        self.received = 0
        """Connection window: the sum of the largest offsets of all streams. Stream window: the largest offset."""
        self.consumed = 0
        self._budget = budget
        self._grown = 0
        self._updated_at: float | None = None
        self._updated_consumed = 0

    def receive(self, growth: int, frame_type: int) -> None:
        """``growth`` more bytes were used up. Raises FLOW_CONTROL_ERROR beyond the limit."""
        self.received += growth
        if self.received > self.limit:
            raise TransportError(
                TransportErrorCode.FLOW_CONTROL_ERROR,
                f"{self.received} bytes sent, {self.limit} were allowed",
                frame_type,
            )

    def consume(self, amount: int) -> bool:
        """Bytes were read or discarded. True when the peer should be told a new limit: half the window is used up.

        Or when the peer has nearly reached the limit, because the other half lies in streams that nobody reads.
        """
        self.consumed += amount
        size = self.size
        if 2 * (self.limit - self.consumed) <= size:
            return True
        return 8 * (self.limit - self.received) < size and 16 * (self.consumed + size - self.limit) >= size

    def raise_limit(self, now: float, smoothed_rtt: float) -> int:
        """The new limit to announce, after the window grew if the reader is fast enough to deserve it."""
        if self._updated_at is not None and self.size < self.max_size:
            elapsed = now - self._updated_at
            rate_window = (self.consumed - self._updated_consumed) * 2 * smoothed_rtt
            if rate_window > self.size * elapsed:
                self.grow(min(self.size, self.max_size - self.size))
        self._updated_at = now
        self._updated_consumed = self.consumed
        self.limit = max(self.limit, self.consumed + self.size)
        return self.limit

    def grow(self, amount: int) -> bool:
        """Enlarge the window if the endpoint's budget has room."""
        if amount <= 0 or (self._budget is not None and not self._budget.take(amount)):
            return False
        self._grown += amount
        self.size += amount
        return True

    def release(self) -> None:
        """Give back to the budget what this window had taken."""
        if self._budget is not None:
            self._budget.give(self._grown)
            self._grown = 0
            self._budget = None


class SendWindow:
    """How much the peer lets us send in all streams together."""

    __slots__ = ("blocked_at", "limit", "used")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.used = 0
        self.blocked_at = -1
        """The limit at which DATA_BLOCKED was sent last."""

    def raise_limit(self, limit: int) -> bool:
        """MAX_DATA arrived. A limit that does not rise is ignored (§4.1)."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True

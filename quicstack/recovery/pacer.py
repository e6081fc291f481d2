"""Spreading packets over the round trip (RFC 9002 §7.7): a token bucket that hands out whole trains.

The bucket fills at the controller's pacing rate. Sending one packet at a time would be smoothest and far too slow in
Python, so tokens are handed out in quanta of at least two packets or one millisecond of the rate, whichever is more:
two packets at 10 Mbit/s, about fifty at 500 Mbit/s. After the bucket ran dry, nothing is sent until a quantum is back.
It holds the initial window until the first RTT sample, when there is no rate to speak of, and then two milliseconds of
the rate, so a timer that fires one millisecond late costs no throughput and silence earns no burst.
"""

from __future__ import annotations

__all__ = ["Pacer"]

QUANTUM_TIME = 0.001
BURST_TIME = 0.002
QUANTUM_PACKETS = 2

MAX_QUANTUM = 64_000
"""A train is never longer, so waiting for more would only add delay."""

MIN_WAIT = 0.001
"""Event loops round a shorter timer up, or spin on it."""


class Pacer:
    """Tokens are bytes. With ``exact_timers`` (a simulator's) the quantum is one packet and waits may be any length."""

    __slots__ = (
        "_exact_timers",
        "_last_fill",
        "_quantum",
        "_rate",
        "_waiting",
        "max_datagram_size",
        "tokens",
    )

    def __init__(self, max_datagram_size: int, initial_window: int, *, exact_timers: bool = False) -> None:
        self.max_datagram_size = max_datagram_size
        self._exact_timers = exact_timers
        self.tokens = float(initial_window)
        self._last_fill: float | None = None
        self._rate = 0.0
        self._quantum = float(max_datagram_size)
        self._waiting = False

    def fill(self, now: float, rate: float, initial_window: int | None) -> None:
        """Add the tokens earned since the last time. ``initial_window`` is given until there is an RTT sample."""
        self._rate = rate
        if self._exact_timers:
            quantum = capacity = float(self.max_datagram_size)
        else:
            quantum = max(QUANTUM_PACKETS * self.max_datagram_size, min(rate * QUANTUM_TIME, MAX_QUANTUM))
            capacity = max(quantum, rate * BURST_TIME)
        self._quantum = quantum
        if initial_window is not None:
            capacity = float(initial_window)
        elapsed = 0.0 if self._last_fill is None else now - self._last_fill
        self._last_fill = now
        self.tokens = min(capacity, self.tokens + elapsed * rate)

    def allowance(self) -> int:
        """Bytes that may leave now: nothing while the bucket recovers, else all that is in it."""
        # One byte of grace: a clock that rounds must not wait once more for a millionth of a byte.
        available = int(self.tokens + 1)
        if available < (self._quantum if self._waiting else self.max_datagram_size):
            self._waiting = True
            return 0
        self._waiting = False
        return available

    def next_send_time(self, now: float) -> float | None:
        """When the next quantum is there, or None if nothing has to wait."""
        if not self._waiting or self._rate <= 0:
            return None
        wait = (self._quantum - self.tokens) / self._rate
        if not self._exact_timers and wait < MIN_WAIT:
            wait = MIN_WAIT
        return now + wait

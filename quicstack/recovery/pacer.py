"""Spreading packets over the round trip (RFC 9002 §7.7): a token bucket that hands out whole trains.

The bucket fills at the controller's pacing rate. Sending one packet at a time would be smoothest and far too slow in
Python, so tokens are handed out in quanta of at least two packets or one millisecond of the rate, whichever is more:
two packets at 10 Mbit/s, about fifty at 500 Mbit/s. After the bucket ran dry, nothing is sent until a quantum is back.
It holds the initial window until the first RTT sample, when there is no rate to speak of, and then two milliseconds of
the rate, so a timer that fires one millisecond late costs no throughput and silence earns no burst.
"""

from __future__ import annotations

from math import inf

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

    __slots__ = ("_capacity", "_exact_timers", "_last_fill", "_quantum", "_rate", "_waiting", "tokens")

    def __init__(self, *, exact_timers: bool = False) -> None:
        self._exact_timers = exact_timers
        self.tokens = inf
        self._capacity = inf
        self._quantum = inf
        self._rate = 0.0
        self._last_fill = 0.0
        self._waiting = False

    def set_rate(self, rate: float, max_datagram_size: int, initial_window: int | None) -> None:
        """From now on fill at ``rate`` bytes per second. ``initial_window`` is given until there is an RTT sample."""
        self._rate = rate
        if self._exact_timers:
            self._quantum = self._capacity = float(max_datagram_size)
        else:
            self._quantum = max(QUANTUM_PACKETS * max_datagram_size, min(rate * QUANTUM_TIME, MAX_QUANTUM))
            self._capacity = max(self._quantum, rate * BURST_TIME)
        if initial_window is not None:
            self._capacity = float(initial_window)
        self._quantum = min(self._quantum, self._capacity)

    def allowance(self, now: float, max_datagram_size: int) -> int:
        """Bytes that may leave now: nothing while the bucket recovers, else all that is in it."""
        tokens = self.tokens + (now - self._last_fill) * self._rate
        if tokens > self._capacity:
            tokens = self._capacity
        self.tokens = tokens
        self._last_fill = now
        # One byte of grace: a clock that rounds must not wait once more for a millionth of a byte.
        available = int(tokens + 1)
        if available < (self._quantum if self._waiting else max_datagram_size):
            self._waiting = True
            return 0
        self._waiting = False
        return available

    def next_send_time(self, now: float) -> float | None:
        """When the next quantum is there, or None if nothing has to wait."""
        if not self._waiting:
            return None
        wait = (self._quantum - self.tokens) / self._rate
        if not self._exact_timers and wait < MIN_WAIT:
            wait = MIN_WAIT
        return now + wait

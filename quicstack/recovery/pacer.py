"""Spreading packets over the round trip (RFC 9002 §7.7): a token bucket that hands out whole trains.

The bucket fills at the controller's pacing rate. Sending one packet at a time would be smoothest and far too slow in
Python, so nothing is handed out below a quantum of two packets or one millisecond of the rate, whichever is more: two
packets at 10 Mbit/s, about fifty at 500 Mbit/s. Until the first RTT sample, when there is no rate to speak of, the
bucket holds the initial window. Then it holds what a late timer may cost, two quanta or five milliseconds, but no more
than eight packets: with what else may leave just then, that is within the ten that §7.7 wants a burst limited to. Where
the quantum alone is more than that, at about 80 Mbit/s, the bucket holds two milliseconds.
"""

from __future__ import annotations

from math import inf

__all__ = ["Pacer"]

QUANTUM_TIME = 0.001
QUANTUM_PACKETS = 2
BURST_PACKETS = 8
LATENESS = 0.005

MAX_QUANTUM = 64_000
"""A train is never longer, so waiting for more would only add delay."""

MIN_WAIT = 0.001
"""Event loops round a shorter timer up, or spin on it."""


class Pacer:
    """Tokens are bytes. With ``exact_timers`` (a simulator's) the quantum is one packet and waits may be any length."""

    __slots__ = ("_capacity", "_exact_timers", "_last_fill", "_left", "_quantum", "_rate", "_spaces_trains", "tokens")

    def __init__(self, *, exact_timers: bool = False) -> None:
        self._exact_timers = exact_timers
        self.tokens = inf
        self._capacity = inf
        self._quantum = inf
        self._rate = 0.0
        self._last_fill = 0.0
        self._left = inf
        self._spaces_trains = False

    def set_rate(self, rate: float, max_datagram_size: int, initial_window: int | None) -> None:
        """From now on fill at ``rate`` bytes per second. ``initial_window`` is given until there is an RTT sample."""
        self._rate = rate
        if self._exact_timers:
            quantum = capacity = float(max_datagram_size)
        else:
            quantum = max(QUANTUM_PACKETS * max_datagram_size, min(rate * QUANTUM_TIME, MAX_QUANTUM))
            burst = BURST_PACKETS * max_datagram_size
            self._spaces_trains = quantum < burst
            late = min(max(2 * quantum, rate * LATENESS), burst)
            capacity = late if self._spaces_trains else 2 * rate * QUANTUM_TIME
        if initial_window is not None:
            quantum, capacity = float(max_datagram_size), float(initial_window)
        self._quantum, self._capacity = quantum, capacity

    def allowance(self, now: float) -> int:
        """Bytes that may leave now: nothing below a quantum.

        The time at which a train is asked for is not that at which it leaves: a process can be put aside in between.
        The next question tells how late it may have been. At rates where bursts are limited, what was earned until
        then is cut to less than a quantum, or two trains could leave back to back.
        """
        before = self.tokens
        tokens = before + (now - self._last_fill) * self._rate
        if tokens > self._capacity:
            tokens = self._capacity
        if before < self._left and self._spaces_trains and tokens >= self._quantum:
            tokens = max(before, self._quantum - 2)
        self.tokens = self._left = tokens
        self._last_fill = now
        # One byte of grace: a clock that rounds must not wait once more for a millionth of a byte.
        return 0 if tokens + 1 < self._quantum else int(tokens + 1)

    def next_send_time(self, now: float) -> float:
        """When the next quantum is there; ``allowance(now)`` was 0."""
        wait = (self._quantum - self.tokens) / self._rate
        if not self._exact_timers and wait < MIN_WAIT:
            wait = MIN_WAIT
        return now + wait

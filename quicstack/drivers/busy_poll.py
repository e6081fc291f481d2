"""Staying awake between messages that follow each other closely: a core that sleeps takes long to wake.

What a hypervisor does as halt polling and a kernel for its network cards as SO_BUSY_POLL. Two programs that talk over
a loopback or a fast network, a small message one way and one back, otherwise spend a third of their time on going to
sleep and waking. For transfers and for what seldom comes a program sleeps as ever. A peer that sends a message within
each millisecond takes the core that would have been idle in between; whoever pays for it sets ``busy_poll`` to 0.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["ENOUGH", "PENALTY", "SMALL", "BusyPoll", "Habit", "habit_of"]

SMALL: Final = 1_000
"""Bytes that came and went since the message before. With a full packet it is a transfer, and whoever sleeps then finds
more at once."""
ENOUGH: Final = 8
"""Datagrams in a row that came soon, before the next one is waited for awake."""
PENALTY: Final = 64
"""... and so many more after waiting in vain, so that no more than a sixty-fourth of the waits is in vain."""

CPU_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


class Habit:
    """Whether the next datagram is worth staying awake for: whether those before came within ``duration`` seconds."""

    __slots__ = ("_last", "_soon", "duration")

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self._last = 0.0
        self._soon = 0

    def came(self, now: float, size: int) -> bool:
        """A message came and was handled, ``size`` bytes both ways since the last one: stay awake for the next?"""
        is_soon = now - self._last < self.duration and size < SMALL
        self._last = now
        if not is_soon:
            self._soon = min(self._soon, 0)
            return False
        self._soon = min(self._soon + 1, ENOUGH)
        return self._soon == ENOUGH

    def in_vain(self) -> None:
        """Nothing came all the time."""
        self._soon = -PENALTY


def habit_of(duration: float) -> Habit | None:
    """For ``UdpOptions.busy_poll``. None where it is 0 or the environment says ``QUICSTACK_BUSY_POLL=0``, and where
    waiting awake would cost what the peer may need: on a machine with one core, in a container with a quota."""
    if duration <= 0 or os.environ.get("QUICSTACK_BUSY_POLL") == "0" or (os.cpu_count() or 1) < 2 or _has_quota():
        return None
    return Habit(duration)


@cache
def _has_quota() -> bool:
    """The control group of this container meters its CPU time (Linux, cgroup v2)."""
    try:
        return not CPU_QUOTA.read_text().startswith("max")
    except OSError:
        return False


class BusyPoll:
    """Keeps an event loop turning, asking its sockets without waiting, while ``habit`` says that it pays.

    Everything else that is due is done as ever, so nothing is later for it.
    """

    __slots__ = ("_habit", "_loop", "_next_turn", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, habit: Habit) -> None:
        self._loop = loop
        self._habit = habit
        self._until = 0.0
        self._next_turn: asyncio.Handle | None = None

    def came(self, size: int) -> None:
        """A message came and was handled: more may follow."""
        now = time.monotonic()
        if self._habit.came(now, size):
            self._until = now + self._habit.duration
            if self._next_turn is None:
                self._next_turn = self._loop.call_soon(self._turn)
        elif self._next_turn is not None:
            self.end()

    def _turn(self) -> None:
        # With a callback that is due the loop does not wait in its selector.
        if time.monotonic() < self._until:
            self._next_turn = self._loop.call_soon(self._turn)
        else:
            self._next_turn = None
            self._habit.in_vain()

    def end(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

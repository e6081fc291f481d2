"""Waiting for something to change, so that a cancelled wait leaves nothing behind."""

from __future__ import annotations

from quicstack.drivers.wakeups import Waiter, Wakeups

__all__ = ["Gate"]


_NOBODY: list[Waiter] = []
"""What all gates share where nobody waits: a connection has five."""


class Gate:
    """``open`` wakes everybody who waits; each looks again whether what it needs is there.

    Nothing is handed over with the wake-up, so a waiter that was cancelled in the same moment loses nothing.
    """

    __slots__ = ("_waiters", "_wakeups")

    def __init__(self, wakeups: Wakeups) -> None:
        self._wakeups = wakeups
        self._waiters = _NOBODY

    async def wait(self) -> None:
        waiter = Waiter(self._wakeups)
        if not self._waiters:
            self._waiters = []
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def open(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, _NOBODY
            for waiter in waiters:
                waiter.wake()

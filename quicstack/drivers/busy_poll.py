"""An event loop that stays awake for a while: a core that sleeps takes longer to wake than a packet takes to be read.

What SO_BUSY_POLL is to the kernel and a network card. The loop goes on turning, asking its sockets without waiting, and
does everything else that is due; so nothing is later for it, but the core is busy.
"""

from __future__ import annotations

import asyncio
import time

__all__ = ["BusyPoll"]


class BusyPoll:
    """Keeps ``loop`` awake for ``duration`` seconds after the last call of :meth:`begin`."""

    __slots__ = ("_duration", "_loop", "_next_turn", "_until")

    def __init__(self, loop: asyncio.AbstractEventLoop, duration: float) -> None:
        self._loop = loop
        self._duration = duration
        self._until = 0.0
        self._next_turn: asyncio.Handle | None = None

    def begin(self) -> None:
        """Something came: more may follow."""
        self._until = time.monotonic() + self._duration
        if self._next_turn is None:
            self._next_turn = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        # With a callback that is due the loop does not wait in its selector.
        self._next_turn = self._loop.call_soon(self._turn) if time.monotonic() < self._until else None

    def end(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

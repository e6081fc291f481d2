"""Waking tasks within the turn of the loop that brought what they wait for.

A future that gets its result asks the loop to run the task some time later. Here a driver collects whom a read
concerns, and lets those tasks go on before it sends: the answer leaves with the acknowledgement, in the same turn.
Gain: a request with its answer, 329 us of client and server together before, takes 282 us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary, ref

__all__ = ["Waiter", "Wakeups", "wakeups_of"]


class Waiter:
    """What one task awaits; ``wake`` lets it go on. It says nothing: the task looks again at what it needs.

    To :class:`asyncio.Task` it is a future, of which it has just the methods that a task calls.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_error", "_is_done", "_wakeups")

    def __init__(self, wakeups: Wakeups) -> None:
        self._asyncio_future_blocking = False
        self._callback: Callable[[Waiter], object] | None = None
        self._context: Context | None = None
        self._error: asyncio.CancelledError | None = None
        self._is_done = False
        self._wakeups = wakeups

    def wake(self) -> None:
        """Let the task go on, once."""
        if not self._is_done:
            self._is_done = True
            self._wakeups.add(self)

    def step(self) -> None:
        """The task goes on, here and now."""
        callback, context = self._callback, self._context
        if callback is not None and context is not None:
            self._callback = self._context = None
            context.run(callback, self)

    # -- for the task --------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Waiter, None, None]:
        if not self._is_done:
            self._asyncio_future_blocking = True
            yield self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._wakeups.loop

    def add_done_callback(self, callback: Callable[[Waiter], object], *, context: Context) -> None:
        self._callback, self._context = callback, context

    def result(self) -> None:
        if self._error is not None:
            raise self._error

    def cancel(self, msg: Any = None) -> bool:
        """The task is cancelled while it waits. False if it was woken already: then the task is told by itself."""
        if self._is_done:
            return False
        self._is_done = True
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self._wakeups.loop.call_soon(self.step)
        return True


class Wakeups:
    """Whom to wake on one event loop. Tasks go on one after the other, in the order in which they were woken."""

    __slots__ = ("_loop", "_woken", "are_collected")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self.are_collected = False
        """A driver is telling connections what changed, and will call ``step_all``."""
        self._woken: list[Waiter] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop()
        if loop is None:
            raise RuntimeError("the event loop is gone")
        return loop

    def add(self, waiter: Waiter) -> None:
        if self.are_collected:
            self._woken.append(waiter)
        else:
            self.loop.call_soon(waiter.step)

    def step_all(self) -> None:
        """Let those go on who were collected; what they wake in turn waits for the loop, so nobody starves it."""
        self.are_collected = False
        if not self._woken:
            return
        woken, self._woken = self._woken, []
        if asyncio.current_task(self.loop) is not None:  # called by a task, and tasks do not run inside each other
            for waiter in woken:
                self.loop.call_soon(waiter.step)
            return
        remaining = iter(woken)
        try:
            for waiter in remaining:
                waiter.step()
        finally:  # a task let KeyboardInterrupt or SystemExit through
            for waiter in remaining:
                self.loop.call_soon(waiter.step)


_BY_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Wakeups] = WeakKeyDictionary()


def wakeups_of(loop: asyncio.AbstractEventLoop) -> Wakeups:
    """The same for all that runs on one loop."""
    wakeups = _BY_LOOP.get(loop)
    if wakeups is None:
        wakeups = _BY_LOOP[loop] = Wakeups(loop)
    return wakeups

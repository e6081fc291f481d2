"""Waiting for something to change, so that a cancelled wait leaves nothing behind."""

from __future__ import annotations

import asyncio

__all__ = ["Gate"]


class Gate:
    """``open`` wakes everybody who waits; each looks again whether what it needs is there.

    Nothing is handed over with the wake-up, so a waiter that was cancelled in the same moment loses nothing.
    """

    __slots__ = ("_loop", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        future = self._loop.create_future()
        self._waiters.append(future)
        try:
            await future
        finally:
            if future in self._waiters:
                self._waiters.remove(future)

    def open(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for future in waiters:
                if not future.done():
                    future.set_result(None)

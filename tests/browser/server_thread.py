"""A server on an event loop in a thread of its own, since a test that drives a browser blocks."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from abc import ABC, abstractmethod
from typing import Self

__all__ = ["LOCALHOST", "ServerThread"]

LOCALHOST = ("127.0.0.1", "::1")
"""Both: `localhost` is the first one to Firefox and the second one to Chromium."""


class ServerThread(ABC):
    """Serves from `__enter__` to `__exit__`, at `port`."""

    def __init__(self) -> None:
        self.port = 0
        self._started: queue.Queue[BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    @abstractmethod
    def serving(self) -> contextlib.AbstractAsyncContextManager[int]:
        """The server, as a context that gives its port."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        if error := self._started.get():
            raise error
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
        assert not self._thread.is_alive(), "the server does not stop"

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self.serving() as self.port:
                self._started.put(None)
                await self._stop.wait()
        except BaseException as error:
            self._started.put(error)
            raise

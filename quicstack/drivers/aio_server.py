"""A server on an event loop: listens, runs the application's handler for each connection, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final

from quicstack.drivers.aio_connection import AsyncConnection
from quicstack.drivers.loop import LoopDriver
from quicstack.endpoint import Endpoint
from quicstack.errors import QuicstackError
from quicstack.train import Address

__all__ = ["AsyncServer", "OnConnection"]

logger = logging.getLogger("quicstack")

OnConnection = Callable[[AsyncConnection], Awaitable[None] | None]

PATIENCE: Final = 1.0
"""Seconds that ``wait_closed`` gives connections to end; then the sockets are closed over them."""


class AsyncServer:
    """``endpoint`` holds the connections; handlers run as tasks that belong to the server."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop, on_connection: OnConnection) -> None:
        self.endpoint = endpoint
        self.driver = LoopDriver(endpoint, loop, on_connection=self._opened)
        self._on_connection = on_connection
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> AsyncServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        await self.wait_closed()

    @property
    def addresses(self) -> list[Address]:
        """Where it listens."""
        return list(self.driver.addresses)

    def socket_stats(self) -> list[dict[str, Any]]:
        """What each socket got of the kernel, and what it did."""
        return self.driver.snapshot()

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close all connections and accept no more. Does not wait; ``wait_closed`` does."""
        self.endpoint.close(time.monotonic(), code, reason)
        self.driver.finish_when_idle()
        self.driver.flush_now()

    async def wait_closed(self) -> None:
        """Until, after ``close``, everything is closed: connections within a second, then handlers and sockets."""
        patience = self.driver.loop.call_later(PATIENCE, self.driver.finish)
        try:
            await self.driver.wait_finished()
        finally:
            patience.cancel()
            self.driver.finish()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- handlers ------------------------------------------------------------------------------------------------

    def _opened(self, connection: AsyncConnection) -> None:
        result = self._on_connection(connection)
        if result is not None:
            task = self.driver.loop.create_task(self._handle(connection, result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, connection: AsyncConnection, result: Awaitable[None]) -> None:
        try:
            await result
        except Exception as error:
            if isinstance(error, QuicstackError) and connection.closed is not None:
                logger.debug("handler ended with its connection: %s", error)
            else:
                connection.fail(error)

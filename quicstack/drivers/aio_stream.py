"""A stream for ``async`` code: waits where the engine's stream says "nothing now"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from quicstack.drivers.transfer import give, take
from quicstack.drivers.wakeups import Waiter, Wakeups
from quicstack.errors import QuicstackError, StreamError
from quicstack.transport.stream import Stream

__all__ = ["AsyncStream", "StreamOwner"]


class StreamOwner(Protocol):
    """What a stream needs of its connection."""

    wakeups: Wakeups

    @property
    def closed(self) -> QuicstackError | None: ...

    def flush(self) -> None: ...

    def flush_message(self) -> None: ...


class AsyncStream:
    """One task may read and one may write at a time; a second one is refused with :class:`StreamError`.

    The bytes stay in the engine until ``read`` returns them, so a cancelled ``read`` loses nothing. ``accepted`` says
    how many bytes the last ``write`` handed over, also when it was cancelled.
    """

    __slots__ = ("_connection", "_reader", "_reading", "_writer", "_writing", "accepted", "engine")

    def __init__(self, engine: Stream, connection: StreamOwner) -> None:
        self.engine = engine
        self.accepted = 0
        self._connection = connection
        self._reading = self._writing = False
        self._reader: Waiter | None = None
        self._writer: Waiter | None = None

    def __repr__(self) -> str:
        return f"<AsyncStream {self.engine.id}>"

    @property
    def id(self) -> int:
        return self.engine.id

    @property
    def is_unidirectional(self) -> bool:
        return self.engine.is_unidirectional

    @property
    def is_local(self) -> bool:
        """True if this side opened it."""
        return self.engine.is_local

    # -- reading -------------------------------------------------------------------------------------------------

    async def read(self, n: int = -1) -> bytes:
        """At least one byte and at most ``n``, or b"" at the end. Raises StreamReset, or what closed the connection."""
        self._start_reading()
        try:
            while True:
                data = self._take(n)
                if data is not None:
                    return data
                await self._readable()
        finally:
            self._reading = False

    async def read_all(self, limit: int | None = None) -> bytes:
        """Everything up to the end. More than ``limit`` bytes raise StreamError, and what was read so far is lost."""
        self._start_reading()
        try:
            parts: list[bytes] = []
            size = 0
            while True:
                data = self._take(-1)
                if data is None:
                    await self._readable()
                    continue
                if not data:
                    return b"".join(parts)
                size += len(data)
                if limit is not None and size > limit:
                    raise StreamError(f"stream {self.id} carries more than {limit} bytes", stream_id=self.id)
                parts.append(data)
        finally:
            self._reading = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await self.read()
        if not data:
            raise StopAsyncIteration
        return data

    def _start_reading(self) -> None:
        if self._reading:
            raise StreamError(f"another task is reading stream {self.id}", stream_id=self.id)
        self._reading = True

    def _take(self, n: int) -> bytes | None:
        data = take(self.engine, n, self._connection.closed)
        if data and self.engine.is_heard:
            self._connection.flush()  # credit
        return data

    async def _readable(self) -> None:
        self._reader = Waiter(self._connection.wakeups)
        try:
            await self._reader
        finally:
            self._reader = None

    def stop_sending(self, code: int = 0) -> None:
        """Read no more: what comes is discarded, and the peer is asked to stop (STOP_SENDING)."""
        self.engine.stop_sending(code)
        if self._reader is not None:
            self._reader.wake()
        self._connection.flush()

    # -- writing -------------------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> int:
        """Hand over all of ``data``, waiting while the buffer is full. Raises StreamStopped if the peer stops it."""
        return await self._write(data, fin=False)

    async def write_all(self, data: bytes, *, reset_code: int = 0) -> None:
        """``write``, then end the sending side. Cancelled, it resets the stream: half of it is not what was meant."""
        try:
            await self._write(data, fin=True)
        except asyncio.CancelledError:
            self.reset(reset_code)
            raise

    async def _write(self, data: bytes, fin: bool) -> int:
        if self._writing:
            raise StreamError(f"another task is writing to stream {self.id}", stream_id=self.id)
        self._writing = True
        self.accepted = 0
        try:
            while True:
                self.accepted = give(self.engine, data, self.accepted, fin, self._connection.closed)
                if self.accepted == len(data):
                    if fin:
                        self._connection.flush_message()
                    else:
                        self._connection.flush()
                    return self.accepted
                self._connection.flush()
                self._writer = Waiter(self._connection.wakeups)
                await self._writer
        finally:
            self._writing = False
            self._writer = None

    def set_priority(self, urgency: int = 3, incremental: bool = True) -> None:
        """When to send what is written here, beside the other streams: ``Stream.set_priority`` of the engine."""
        self.engine.set_priority(urgency, incremental)

    def finish(self) -> None:
        """End the sending side after what was written."""
        self.engine.finish()
        self._connection.flush()

    def reset(self, code: int = 0) -> None:
        """Abandon the sending side (RESET_STREAM)."""
        self.engine.reset(code)
        if self._writer is not None:
            self._writer.wake()
        self._connection.flush()

    # -- from the connection -------------------------------------------------------------------------------------

    def wake(self) -> None:
        """The engine's stream changed."""
        if self._reader is not None:
            self._reader.wake()
        if self._writer is not None:
            self._writer.wake()

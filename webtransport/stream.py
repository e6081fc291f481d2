"""Streams as applications see them: bytes in order, one way or both (draft-16 §4.2, §4.3).

One task reads and one writes; a second reader or writer is told so. A cancelled ``read`` loses nothing. A cancelled
``write`` has sent what ``bytes_written`` counts. A cancelled ``write_all`` resets the stream: half a message is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from weakref import ref

from quicstack.drivers.gate import Gate
from webtransport.errors import WebTransportError
from webtransport.link import Link
from webtransport.session_stream import SessionStream

__all__ = ["WebTransportReceiveStream", "WebTransportSendStream", "WebTransportStream"]

CHUNK = 1 << 18


class Turn:
    """One at a time: a second one who enters is told so, instead of getting half of the bytes."""

    __slots__ = ("_taken", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._taken = False

    def __enter__(self) -> None:
        if self._taken:
            raise WebTransportError(f"another task is {self._what}")
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False


class _StreamFace:
    __slots__ = ("__weakref__", "_bytes_read", "_bytes_written", "_core", "_gate", "_link", "_reading", "_writing")

    def __init__(self, core: SessionStream, link: Link) -> None:
        self._core = core
        self._link = link
        self._gate = Gate(link.connection.wakeups)
        self._reading = Turn(f"reading stream {core.stream_id}")
        self._writing = Turn(f"writing stream {core.stream_id}")
        self._bytes_read = 0
        self._bytes_written = 0
        core.face = ref(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.stream_id}>"

    def wake(self) -> None:
        """For the connection: the stream has news."""
        self._gate.open()

    @property
    def stream_id(self) -> int:
        """The QUIC stream's id."""
        return self._core.stream_id

    @property
    def is_local(self) -> bool:
        """Whether this side opened it."""
        return self._core.is_local


class WebTransportReceiveStream(_StreamFace):
    """The side that reads. Iterating yields the data in pieces, as it comes."""

    __slots__ = ()

    async def read(self, n: int = -1) -> bytes:
        """Wait for at least one byte and return what is there, at most ``n`` bytes; b"" at the end of the stream.

        StreamReset if the peer gave the stream up, SessionClosed if the session ended first.
        """
        if n == 0:
            return b""
        with self._reading:
            while True:
                data = self._core.read(n)
                if data:
                    self._bytes_read += len(data)
                    self._link.touch()
                    return data
                if self._core.at_end:
                    return b""
                await self._gate.wait()

    async def read_all(self, limit: int | None = None) -> bytes:
        """Everything up to the end of the stream. WebTransportError, and the stream is stopped, beyond ``limit``."""
        chunks, size = [], 0
        while chunk := await self.read(CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if limit is not None and size > limit:
                self.stop_sending()
                raise WebTransportError(f"stream {self.stream_id} holds more than the {limit} bytes asked for")
        return b"".join(chunks)

    def stop_sending(self, code: int = 0) -> None:
        """Tell the peer to send no more (STOP_SENDING); what was not read is thrown away."""
        self._core.stop_sending(code)
        self._gate.open()
        self._link.touch()

    @property
    def bytes_read(self) -> int:
        return self._bytes_read

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read(CHUNK):
            yield chunk


class WebTransportSendStream(_StreamFace):
    """The side that writes."""

    __slots__ = ()

    async def write(self, data: bytes) -> int:
        """Wait until all of ``data`` is on its way, as far as buffers and the peer's limits allow; returns its size.

        StreamStopped if the peer reads no further, SessionClosed if the session has ended.
        """
        await self._write(data, fin=False)
        return len(data)

    async def write_all(self, data: bytes = b"") -> int:
        """Write ``data`` and end the sending side: the peer sees that this is all."""
        try:
            await self._write(data, fin=True)
        except asyncio.CancelledError:
            self.reset()
            raise
        return len(data)

    async def _write(self, data: bytes, *, fin: bool) -> None:
        view = memoryview(data).cast("B") if data else memoryview(b"")
        with self._writing:
            while True:
                piece = view[:CHUNK]
                is_last = len(piece) == len(view)
                accepted = self._core.write(bytes(piece), fin and is_last)
                self._bytes_written += accepted
                view = view[accepted:]
                self._link.touch()
                if is_last and accepted == len(piece):
                    return
                if accepted < len(piece):
                    await self._gate.wait()

    def finish(self) -> None:
        """End the sending side after what was written."""
        self._core.finish()
        self._link.touch()

    def reset(self, code: int = 0) -> None:
        """Give the sending side up (RESET_STREAM): the peer may not get what was written."""
        self._core.reset(code)
        self._gate.open()
        self._link.touch()

    @property
    def bytes_written(self) -> int:
        """Bytes accepted from the application so far."""
        return self._bytes_written


class WebTransportStream(WebTransportReceiveStream, WebTransportSendStream):
    """A bidirectional stream: both sides, each on its own."""

    __slots__ = ()

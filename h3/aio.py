"""HTTP/3 for asyncio: waiting for what ``H3Connection`` and ``Exchange`` report. Both roles build on it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any
from weakref import ref

from quicstack.connection.connection import Ready
from quicstack.drivers.aio import AsyncConnection
from quicstack.drivers.gate import Gate
from quicstack.errors import StreamLimitReached, once_more

from .connection import H3Connection
from .errors import H3ErrorCode, H3StreamError
from .exchange import Exchange
from .headers import Headers
from .qpack import Fields

__all__ = ["AsyncExchange", "AsyncH3", "Body"]

Body = bytes | str | AsyncIterable[bytes] | None
"""Content to send: all of it, or pieces as they come."""


class AsyncExchange:
    """One exchange whose reading and writing wait. At most one task reads and one writes."""

    def __init__(self, session: AsyncH3, exchange: Exchange) -> None:
        self.exchange = exchange
        self._session = session
        self._changed = Gate(session.connection.wakeups)
        self._on_lost: Callable[[], object] | None = None
        exchange.owner = ref(self)  # when nobody holds it, nobody waits there

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        self._changed.open()
        if self._on_lost is not None:
            self.when_lost(self._on_lost)

    def when_lost(self, tell: Callable[[], object] | None) -> None:
        """Call ``tell`` once when the peer wants no answer any more: it stopped or reset the stream, or is gone."""
        self._on_lost = tell
        is_lost = self.exchange.stop_code is not None or self.exchange.error is not None or self._session.is_over
        if tell is not None and is_lost:
            self._on_lost = None
            tell()

    def flush(self) -> None:
        """Something was sent: the driver should look soon."""
        self._session.flush()

    def flush_message(self) -> None:
        """A whole message was written."""
        self._session.flush_message()

    def check(self) -> None:
        """Raise what ended the exchange or the connection, if anything did."""
        if self.exchange.error is not None:
            raise once_more(self.exchange.error)
        self._session.check()

    async def changed(self) -> None:
        """Until something has changed; raises what makes that impossible."""
        self.check()
        await self._changed.wait()

    async def wait_for(self, condition: Callable[[], Any]) -> None:
        """Until the condition holds; raises what makes that impossible."""
        while not condition():
            await self.changed()

    async def read(self, n: int = -1) -> bytes:
        """At least one byte of content, b"" at its end."""
        exchange = self.exchange
        while not (data := exchange.read_body(n)) and n and not exchange.at_end:
            await self.changed()
        if exchange.stream.is_heard:
            self._session.flush()  # credit, or what reading has brought to light
        return data

    async def read_all(self, limit: int | None = None) -> bytes:
        """The whole content; with ``limit``, H3StreamError as soon as there is more."""
        chunks: list[bytes] = []
        size = 0
        while chunk := await self.read():
            size += len(chunk)
            if limit is not None and size > limit:
                self.cancel(H3ErrorCode.H3_EXCESSIVE_LOAD)
                raise H3StreamError(H3ErrorCode.H3_EXCESSIVE_LOAD, f"content is longer than {limit} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.read()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def write(self, data: bytes, *, end_stream: bool = False) -> None:
        """Send content; returns when all of it is in the send buffer. A peer that wants no more ends it quietly."""
        exchange = self.exchange
        start = 0
        while exchange.can_send:
            # At least a byte, so that the stream learns that somebody waits for room.
            stop = start + max(exchange.writable, 1)
            part = data if not start and stop >= len(data) else data[start:stop]
            start += exchange.send_body(part, end_stream=end_stream and stop >= len(data))
            self._session.flush()
            if start == len(data):
                return
            await self.wait_for(lambda: exchange.writable or not exchange.can_send)

    async def write_body(self, body: Body, *, trailers: Fields | None = None) -> None:
        """Send a whole content and end the message; when that fails or is cancelled, reset the stream."""
        try:
            if isinstance(body, str):
                body = body.encode()
            if isinstance(body, bytes):
                await self.write(body, end_stream=not trailers)
            elif body is not None:
                async for chunk in body:
                    await self.write(chunk)
            if trailers and self.exchange.can_send:
                self.exchange.send_headers(trailers)
            elif self.exchange.can_send:
                self.exchange.finish()
            self._session.flush_message()
        except BaseException:
            self.exchange.reset(H3ErrorCode.H3_REQUEST_CANCELLED)
            self._session.flush()
            raise

    def cancel(self, code: int = H3ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Abandon the exchange in both directions."""
        self.exchange.cancel(code)
        self._session.flush()

    @property
    def trailers(self) -> Headers | None:
        """The peer's trailers, once its content has been read to the end."""
        return None if self.exchange.trailers is None else Headers(self.exchange.trailers)


class AsyncH3:
    """An HTTP/3 connection in an event loop. ``on_request`` is called with each request that arrives."""

    def __init__(
        self,
        connection: AsyncConnection,
        *,
        on_request: Callable[[Exchange], None] | None = None,
        **arguments: Any,
    ) -> None:
        self.connection = connection
        self.h3 = H3Connection(connection.engine, random=secrets.token_bytes, **arguments)
        self.settings_received = asyncio.Event()
        self._on_request = on_request
        self._streams_allowed = asyncio.Event()
        self._changed = Gate(connection.wakeups)

    def start(self) -> None:
        """Take the connection over, beginning with what has arrived already."""
        self.connection.set_protocol(self)

    def process(self, ready: Ready) -> None:
        """Called by the driver; wakes whoever waits."""
        result = self.h3.process(ready)
        for exchange in result.exchanges:
            if exchange.owner is not None:
                _wake(exchange)
            elif self._on_request is not None and exchange.headers is not None and exchange.error is None:
                self._on_request(exchange)
        self._changed.open()
        if result.settings_received:
            self.settings_received.set()
        if ready.streams_allowed:
            self._streams_allowed.set()
        if self.h3.quic.closed is not None:
            self._wake_all()
            self.h3.release()
            self._on_request = None  # there will be none; and it may hold this
        self.connection.flush()

    def _wake_all(self) -> None:
        self.settings_received.set()
        self._streams_allowed.set()
        for exchange in self.h3.exchanges:
            _wake(exchange)

    def flush_message(self) -> None:
        """A whole message was written."""
        self.connection.flush_message()
        if self.h3.error is not None:
            self._wake_all()

    def flush(self) -> None:
        """Something was written or read: the driver should look soon."""
        self.connection.flush()
        if self.h3.error is not None:
            self._wake_all()

    @property
    def is_over(self) -> bool:
        """The connection is closed, or about to be."""
        return self.h3.error is not None or self.h3.quic.closed is not None

    def check(self) -> None:
        """Raise what closed the connection, if something did."""
        if self.h3.error is not None:
            raise once_more(self.h3.error)
        if self.h3.quic.closed is not None:
            raise once_more(self.h3.quic.closed)

    async def wait_settings(self) -> None:
        """Until the peer's SETTINGS are here: extended CONNECT and datagrams need them."""
        while self.h3.peer_settings is None:
            self.check()
            self.settings_received.clear()
            await self.settings_received.wait()

    async def request(self, fields: Fields, *, end_stream: bool = False, hold: bool = False) -> AsyncExchange:
        """Send a request, as soon as the peer allows one more stream. ``hold``: its content follows at once."""
        while True:
            self.check()
            try:
                exchange = self.h3.request(fields, end_stream=end_stream, hold=hold)
            except StreamLimitReached:
                self._streams_allowed.clear()
                await self._streams_allowed.wait()
                continue
            self.flush()
            return AsyncExchange(self, exchange)

    async def drain(self) -> None:
        """Until every exchange is over."""
        while self.h3.quic.closed is None and self.h3.exchanges:
            await self._changed.wait()


def _wake(exchange: Exchange) -> None:
    face = exchange.owner() if isinstance(exchange.owner, ref) else None
    if face is not None:
        face.wake()

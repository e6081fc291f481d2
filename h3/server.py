"""An HTTP/3 server for asyncio: a handler gets a request and returns a reply."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from quicstack.config import Configuration
from quicstack.drivers import aio
from quicstack.drivers.aio import AsyncConnection, AsyncServer, UdpOptions
from quicstack.errors import QuicstackError

from .aio import AsyncExchange, AsyncH3, Body
from .errors import H3ErrorCode, InvalidMessage
from .exchange import Exchange
from .fields import joined_cookies
from .headers import HeaderItems, Headers, encode_headers
from .settings import H3Settings

__all__ = ["H3Server", "Handler", "Reply", "Request", "serve"]

logger = logging.getLogger("h3.server")


@dataclass(slots=True)
class Reply:
    """What a handler answers with. Content in one piece gets a Content-Length field."""

    status: int = 200
    headers: HeaderItems = ()
    body: Body = None
    trailers: HeaderItems = field(default_factory=tuple)


class Request:
    """A request whose header section is here; its content comes as it is read."""

    def __init__(self, exchange: AsyncExchange, connection: AsyncConnection) -> None:
        head = exchange.exchange.request
        assert head is not None
        self._exchange = exchange
        self.connection = connection
        self.method = head.method.decode("latin-1")
        self.scheme = (head.scheme or b"").decode("latin-1")
        self.authority = (head.authority or b"").decode("latin-1")
        self.path = (head.path or b"").decode("latin-1")
        self.headers = Headers(joined_cookies(exchange.exchange.headers or []))
        self._is_invited = (self.headers.get("expect") or "").lower() != "100-continue"

    @property
    def trailers(self) -> Headers | None:
        """The fields after the content; None until it has been read to its end, and when there are none."""
        return self._exchange.trailers

    async def read(self, limit: int | None = None) -> bytes:
        """The rest of the content; with ``limit``, H3StreamError when it is longer."""
        self._invite()
        return await self._exchange.read_all(limit)

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._invite()
        return self._exchange.__aiter__()

    def _invite(self) -> None:
        """RFC 9110 §10.1.1: a client may wait with its content until it hears that it is wanted."""
        if not self._is_invited:
            self._is_invited = True
            self.send_informational(100)
            self._exchange.flush()

    def send_informational(self, status: int, headers: HeaderItems = ()) -> None:
        """An interim response: 103 (Early Hints), for one. The final one is what the handler returns."""
        self._exchange.exchange.send_headers([(b":status", str(status).encode()), *encode_headers(headers)])


Handler = Callable[[Request], Awaitable[Reply | None]]
"""Answers a request; None means 204 (No Content)."""


class _Session:
    """One connection: a task for each request, cancelled when the client gives up."""

    def __init__(self, connection: AsyncConnection, handler: Handler, settings: H3Settings | None) -> None:
        self._connection = connection
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()
        self.h3 = AsyncH3(connection, on_request=self._on_request, settings=settings)
        self.h3.start()

    def _on_request(self, exchange: Exchange) -> None:
        wrapped = AsyncExchange(self.h3, exchange)
        task = asyncio.ensure_future(self._answer(wrapped))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: AsyncExchange) -> None:
        task = asyncio.current_task()
        if task is not None:
            exchange.when_lost(task.cancel)
        try:
            await self._reply(exchange)
        except asyncio.CancelledError:
            exchange.cancel(H3ErrorCode.H3_REQUEST_CANCELLED)
            raise
        except QuicstackError as error:
            logger.debug("request %d failed: %s", exchange.exchange.stream_id, error)
            exchange.cancel(H3ErrorCode.H3_REQUEST_CANCELLED)
        finally:
            exchange.when_lost(None)

    async def _reply(self, exchange: AsyncExchange) -> None:
        request = exchange.exchange
        if request.is_connect:
            reply = Reply(501)  # RFC 8441 §3, RFC 9220: this server knows no protocol to switch to
        else:
            reply = await self._call(exchange)
        fields = [(b":status", str(reply.status).encode()), *encode_headers(reply.headers)]
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        names = {name for name, _ in fields}
        if isinstance(body, bytes) and b"content-length" not in names and reply.status not in (204, 304):
            fields.append((b"content-length", str(len(body)).encode()))
        trailers = encode_headers(reply.trailers)
        head = request.request
        if (head is not None and head.method == b"HEAD") or reply.status in (204, 304):
            body, trailers = None, []
        try:
            request.send_headers(fields, end_stream=body is None and not trailers, hold=isinstance(body, bytes))
        except InvalidMessage:
            logger.exception("the reply to request %d cannot be sent", request.stream_id)
            body, trailers = None, []
            request.send_headers([(b":status", b"500")], end_stream=True)
        await exchange.write_body(body, trailers=trailers)
        if request.can_receive:
            request.stop(H3ErrorCode.H3_NO_ERROR)  # RFC 9114 §4.1: the response did not depend on the rest
        self.h3.flush()

    async def _call(self, exchange: AsyncExchange) -> Reply:
        try:
            return await self._handler(Request(exchange, self._connection)) or Reply(204)
        except QuicstackError:
            raise
        except Exception:
            logger.exception("the handler of request %d failed", exchange.exchange.stream_id)
            return Reply(500)

    async def run(self) -> None:
        """Until the connection is closed."""
        try:
            await self._connection.wait_closed()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


class H3Server:
    """A running server. ``async with`` closes it."""

    def __init__(self, handler: Handler, settings: H3Settings | None) -> None:
        self._handler = handler
        self._settings = settings
        self._sessions: set[_Session] = set()
        self._server: AsyncServer | None = None

    @property
    def server(self) -> AsyncServer:
        """The QUIC server below."""
        assert self._server is not None
        return self._server

    async def start(
        self,
        host: str | Sequence[str] | None,
        port: int,
        configuration: Configuration,
        options: UdpOptions | None = None,
    ) -> None:
        """Bind and accept connections."""
        self._server = await aio.serve(
            host, port, configuration=configuration, on_connection=self._on_connection, options=options
        )

    async def _on_connection(self, connection: AsyncConnection) -> None:
        await connection.wait_connected()  # RFC 8470 §3: by then nothing is a replay
        session = _Session(connection, self._handler, self._settings)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def close(self, grace: float = 0.0) -> None:
        """Stop. With ``grace``, send GOAWAY and give requests that long to finish (RFC 9114 §5.2)."""
        sessions = list(self._sessions)
        if grace > 0:
            for session in sessions:
                session.h3.h3.goaway()
                session.h3.flush()
            waiting = [asyncio.ensure_future(session.h3.drain()) for session in sessions]
            if waiting:
                _, unfinished = await asyncio.wait(waiting, timeout=grace)
                for task in unfinished:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
        self.server.close(H3ErrorCode.H3_NO_ERROR)
        await self.server.wait_closed()

    async def __aenter__(self) -> H3Server:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


async def serve(
    host: str | Sequence[str] | None,
    port: int,
    handler: Handler,
    configuration: Configuration,
    *,
    settings: H3Settings | None = None,
    options: UdpOptions | None = None,
) -> H3Server:
    """Serve HTTP/3 on one address, on several, or, with None, on all of this machine.

    ``configuration`` needs certificates, and "h3" among its ``alpn_protocols``. ``options`` are for the sockets.
    """
    server = H3Server(handler, settings)
    await server.start(host, port, configuration, options)
    return server

"""An HTTP/3 client for asyncio: one connection to one origin."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

from quicstack.config import Configuration
from quicstack.drivers.aio import UdpOptions, connect
from quicstack.errors import QuicstackError
from quicstack.tls.trust import Trust

from .aio import AsyncExchange, AsyncH3, Body
from .errors import H3ErrorCode, InvalidMessage
from .headers import HeaderItems, Headers, encode_headers
from .settings import H3Settings

__all__ = ["H3Client", "Response", "split_url"]


SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 §9.2.1: they change nothing, however often they happen."""


def split_url(url: str) -> tuple[str, int, str]:
    """Host, port and the rest of an https URL."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.hostname is None or parts.username is not None:
        raise InvalidMessage(f"{url!r} is not an https URL with a host and without a user")
    target = parts.path or "/"
    return parts.hostname, parts.port or 443, f"{target}?{parts.query}" if parts.query else target


class Response:
    """A response whose header section is here; the content comes as it is read.

    Iterate over it, ``read`` it, or ``cancel`` it: an unread response holds its stream and a part of the flow control
    window. ``async with`` cancels what was not read. Content of the request that the server has not taken yet goes on
    being sent meanwhile (RFC 9114 §4.1).
    """

    def __init__(self, exchange: AsyncExchange, sender: asyncio.Task[None] | None) -> None:
        self._exchange = exchange
        self._sender = sender
        status = exchange.exchange.status
        assert status is not None
        self.status = status
        self.headers = Headers(exchange.exchange.headers or [])

    @property
    def trailers(self) -> Headers | None:
        """The fields after the content; None until it has been read to its end, and when there are none."""
        return self._exchange.trailers

    @property
    def informational(self) -> list[tuple[int, Headers]]:
        """Interim responses (1xx) that came before."""
        return [(status, Headers(fields)) for status, fields in self._exchange.exchange.informational]

    async def read(self, limit: int | None = None) -> bytes:
        """The rest of the content; with ``limit``, H3StreamError when it is longer."""
        return await self._exchange.read_all(limit)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._exchange.__aiter__()

    def cancel(self) -> None:
        """Want no more of it (RFC 9114 §4.1.1)."""
        if self._sender is not None:
            self._sender.cancel()
        self._exchange.cancel()

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._exchange.exchange.at_end:
            self.cancel()


class H3Client:
    """A connection to one origin. Any number of tasks may make requests at once; they share the link.

    .. code-block:: python

        async with H3Client.connect("example.org", 443) as client:
            response = await client.get("/")
            print(response.status, await response.read())
    """

    def __init__(self, session: AsyncH3, authority: str) -> None:
        self.session = session
        self.authority = authority
        self._senders: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        host: str,
        port: int = 443,
        *,
        configuration: Configuration | None = None,
        trust: Trust | None = None,
        settings: H3Settings | None = None,
        options: UdpOptions | None = None,
    ) -> AsyncIterator[H3Client]:
        """Connect, and close with H3_NO_ERROR at the end of the ``async with`` block.

        ``configuration`` is made for "h3" when it is not given; its ``server_name`` defaults to ``host``. With its
        ``early_data``, and a session of that server, GET and other safe requests go out in 0-RTT packets, which
        somebody may send a second time (RFC 8470 §4); all others wait for the handshake. They keep to the default
        settings, for those of the session are not remembered (RFC 9114 §7.2.4.2). ``options`` are for the socket.
        """
        configuration = configuration or Configuration(alpn_protocols=("h3",))
        if trust is not None:
            configuration = dataclasses.replace(configuration, trust=trust)
        connection = await connect(host, port, configuration=configuration, options=options)
        name = f"[{host}]" if ":" in host else host
        client = cls(AsyncH3(connection, settings=settings), name if port == 443 else f"{name}:{port}")
        client.session.start()
        try:
            yield client
        finally:
            await client.close()

    async def close(self) -> None:
        """Close the connection; requests that are not answered yet fail."""
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        self.session.connection.close(H3ErrorCode.H3_NO_ERROR)
        await self.session.connection.wait_closed()

    async def get(self, target: str, *, headers: HeaderItems = ()) -> Response:
        """A GET request for a path, or a URL of this origin."""
        return await self.request("GET", target, headers=headers)

    async def post(self, target: str, body: Body, *, headers: HeaderItems = ()) -> Response:
        """A POST request with content."""
        return await self.request("POST", target, headers=headers, body=body)

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: HeaderItems = (),
        body: Body = None,
        trailers: HeaderItems = (),
    ) -> Response:
        """Send a request and wait for the header section of its response; the content may still be on its way up."""
        if method not in SAFE_METHODS:
            await self.session.connection.wait_connected()
        fields = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", self.authority.encode()),
            (b":path", self._path(target).encode()),
            *encode_headers(headers),
        ]
        if isinstance(body, str):
            body = body.encode()
        if isinstance(body, bytes) and b"content-length" not in dict(fields):
            fields.append((b"content-length", str(len(body)).encode()))
        last_fields = encode_headers(trailers)
        is_empty = body is None and not last_fields
        is_whole = isinstance(body, bytes) and not last_fields
        exchange = await self.session.request(fields, end_stream=is_empty, hold=is_whole)
        sender = None
        if isinstance(body, bytes) and is_whole:
            body = self._send_at_once(exchange, body)
            is_empty = body is None
        if not is_empty:
            sender = self._start(exchange.write_body(body, trailers=last_fields))
        try:
            while exchange.exchange.headers is None:
                await exchange.changed()
        except BaseException:
            if sender is not None:
                sender.cancel()
            exchange.cancel()
            raise
        return Response(exchange, sender)

    @staticmethod
    def _send_at_once(exchange: AsyncExchange, body: bytes) -> bytes | None:
        """Content that fits into the send buffer needs no task that sends it; what does not fit is returned."""
        accepted = len(body)
        with suppress(QuicstackError):  # whoever waits for the response reports that the connection has ended
            accepted = exchange.exchange.send_body(body, end_stream=True)
        exchange.flush_message()
        return body[accepted:] if accepted < len(body) else None

    def _path(self, target: str) -> str:
        if target.startswith("/") or target == "*":
            return target
        host, port, path = split_url(target)
        name = f"[{host}]" if ":" in host else host
        if self.authority.lower() not in (f"{name}:{port}", name if port == 443 else None):
            raise InvalidMessage(f"{target!r} belongs to another origin than {self.authority}")  # RFC 9114 §3.3
        return path

    def _start(self, sending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(_quietly(sending))
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)
        return task


async def _quietly(sending: Coroutine[Any, Any, None]) -> None:
    """A connection or stream that ends while content is sent is reported by whoever waits for the response."""
    with suppress(QuicstackError):
        await sending

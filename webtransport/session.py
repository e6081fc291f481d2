"""A session as applications see it: streams and datagrams with one peer, until one of the two closes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType

from quicstack.connection.connection import Connection
from quicstack.drivers.gate import Gate
from quicstack.errors import StreamLimitReached
from webtransport.datagrams import WebTransportDatagrams
from webtransport.errors import CloseInfo, SessionClosed
from webtransport.link import Link, TransportInfo
from webtransport.session_limits import SessionState, SessionStats
from webtransport.session_state import Session
from webtransport.session_stream import SessionStream
from webtransport.stream import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream

__all__ = ["WebTransportSession"]


class WebTransportSession:
    """Made by :class:`WebTransportClient` and :class:`ServerApp`, used from one event loop.

    ``async with session:`` closes it at the end. What cannot be done because the session is over raises
    :class:`SessionClosed`.
    """

    def __init__(self, core: Session, link: Link, *, parameters: Mapping[str, str] | None = None) -> None:
        self.core = core
        """The state machine below."""
        self.link = link
        self.changed = Gate(link.connection.wakeups)
        self.parameters: Mapping[str, str] = dict(parameters or {})
        """Named segments of the route that led here."""
        self._datagrams = WebTransportDatagrams(core, link, self.changed)
        core.face = self

    def __repr__(self) -> str:
        return f"<WebTransportSession {self.session_id} {self.path} {self.state.value}>"

    def wake(self) -> None:
        """For the connection: the session has news."""
        self.changed.open()

    # What it is

    @property
    def session_id(self) -> int:
        return self.core.session_id

    @property
    def state(self) -> SessionState:
        """connecting, connected, draining or closed."""
        return self.core.state

    @property
    def is_closed(self) -> bool:
        return self.core.close_info is not None

    @property
    def path(self) -> str:
        """The request's ``:path``, query included."""
        request = self.core.exchange.request
        return "" if request is None or request.path is None else request.path.decode("latin-1")

    @property
    def authority(self) -> str:
        """Host and port that the client asked for."""
        request = self.core.exchange.request
        return "" if request is None or request.authority is None else request.authority.decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        """Header fields of the peer (the request's at a server, the response's at a client), names in lower case."""
        fields: dict[str, str] = {}
        for raw_name, raw_value in self.core.exchange.headers or []:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if not name.startswith(":"):
                fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return fields

    @property
    def origin(self) -> str | None:
        """The web origin of the page behind the session; None if no browser sent the request."""
        return self.headers.get("origin")

    @property
    def subprotocol(self) -> str | None:
        """What both sides agreed to speak inside the session, None if nothing was asked."""
        return self.core.subprotocol

    @property
    def dialect(self) -> str:
        """The draft of WebTransport that both sides speak, such as ``draft-02``."""
        return self.core.dialect.name

    @property
    def stats(self) -> SessionStats:
        """Counts since the session began."""
        return self.core.stats

    @property
    def transport(self) -> TransportInfo:
        """Version, cipher and addresses of the connection below."""
        return self.link.info

    @property
    def connection(self) -> Connection:
        """The QUIC connection below, for its statistics. Other sessions may share it."""
        return self.link.connection.engine

    # Datagrams and streams

    @property
    def datagrams(self) -> WebTransportDatagrams:
        """To be used plain or awaited."""
        return self._datagrams

    async def accept_stream(self) -> WebTransportStream:
        """The next bidirectional stream that the peer opens."""
        return WebTransportStream(await self._accept(unidirectional=False), self.link)

    async def accept_unidirectional_stream(self) -> WebTransportReceiveStream:
        """The next stream that the peer opens for its own sending."""
        return WebTransportReceiveStream(await self._accept(unidirectional=True), self.link)

    async def create_bidirectional_stream(self) -> WebTransportStream:
        """Open a stream for both sides, once the peer's limits allow it."""
        return WebTransportStream(await self._open(unidirectional=False), self.link)

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        """Open a stream for this side's sending, once the peer's limits allow it."""
        return WebTransportSendStream(await self._open(unidirectional=True), self.link)

    async def incoming_streams(self) -> AsyncIterator[WebTransportStream]:
        """Bidirectional streams of the peer as they come, until the session ends."""
        while True:
            try:
                stream = await self.accept_stream()
            except SessionClosed:
                return
            yield stream

    async def incoming_unidirectional_streams(self) -> AsyncIterator[WebTransportReceiveStream]:
        """Unidirectional streams of the peer as they come, until the session ends."""
        while True:
            try:
                stream = await self.accept_unidirectional_stream()
            except SessionClosed:
                return
            yield stream

    async def _accept(self, *, unidirectional: bool) -> SessionStream:
        while True:
            stream = self.core.accept_stream(unidirectional=unidirectional)
            if stream is not None:
                return stream
            self._raise_if_closed()
            await self.changed.wait()

    async def _open(self, *, unidirectional: bool) -> SessionStream:
        while True:
            if self.core.may_open_stream(unidirectional=unidirectional):
                try:
                    stream = self.link.h3.open_webtransport_stream(self.session_id, unidirectional=unidirectional)
                except StreamLimitReached:
                    self.link.connection.flush()
                    await self.link.changed.wait()
                    continue
                opened = self.core.add_opened_stream(stream)
                self.link.touch()
                return opened
            self.link.touch()
            await self.changed.wait()

    def _raise_if_closed(self) -> None:
        if self.core.close_info is not None:
            raise SessionClosed(self.core.close_info)

    # The end

    async def close(self, code: int = 0, reason: str = "") -> None:
        """End the session and tell the peer why. Streams that are not done are reset. Does not wait for the peer."""
        self.core.close(code, reason, self.link.now)
        self.link.touch()

    async def drain(self) -> None:
        """Ask the peer to come to an end soon. Everything goes on working until one side closes."""
        self.core.drain()
        self.link.touch()

    async def wait_draining(self) -> None:
        """Return once the peer, or this side, wants the session to come to an end, or it has."""
        while self.core.state in (SessionState.CONNECTING, SessionState.CONNECTED):
            await self.changed.wait()

    async def wait_closed(self) -> CloseInfo:
        """Wait for the end, and return how it came."""
        while self.core.close_info is None:
            await self.changed.wait()
        return self.core.close_info

    @property
    def close_info(self) -> CloseInfo | None:
        """How the session ended; None while it lasts."""
        return self.core.close_info

    async def wait_sent(self, timeout: float) -> None:
        """Wait until the peer has acknowledged every stream that was ended here, for ``timeout`` seconds at most."""
        try:
            async with asyncio.timeout(timeout):
                while self.core.close_info is None and self.core.is_delivering:
                    await self.link.changed.wait()
        except TimeoutError:
            pass

    async def __aenter__(self) -> WebTransportSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close(code=0 if error is None or isinstance(error, asyncio.CancelledError) else 1)

"""A server under asyncio: connections come in, sessions go to handlers, each session leaves one line in the log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType

from h3.exchange import Exchange
from quicstack.drivers.aio import AsyncConnection, AsyncServer
from quicstack.drivers.aio import serve as serve_quic
from quicstack.drivers.preferences import preferred_options, prefers_datagram_endpoint
from quicstack.drivers.udp import UdpOptions
from quicstack.errors import ConnectionClosed, QuicstackError
from quicstack.train import Address
from webtransport.codes import ErrorCode
from webtransport.config import ServerConfig
from webtransport.errors import SessionClosed
from webtransport.link import Link
from webtransport.routing import Match, Router
from webtransport.session import WebTransportSession
from webtransport.session_state import Session
from webtransport.subprotocols import choose, read_offer

__all__ = ["Handler", "Route", "WebTransportServer"]

logger = logging.getLogger("webtransport")

Handler = Callable[[WebTransportSession], Awaitable[None]]

HANDLER_FAILED = 1
"""Close code of a session whose handler raised."""
LAST_WORD = 0.25
"""How long peers may take to close their connections themselves, after the last session. Chromium answers the end of a
session before it has told the page of it: a CONNECTION_CLOSE that comes at once makes it an error for the page."""
DELIVERY_TIMEOUT = 10.0
"""How long the last streams of a handler that has returned may take to reach the peer."""


class Route:
    """A handler, and the subprotocols it speaks, best first."""

    __slots__ = ("handler", "require_subprotocol", "subprotocols")

    def __init__(self, handler: Handler, subprotocols: Iterable[str], require_subprotocol: bool) -> None:
        self.handler = handler
        self.subprotocols = tuple(subprotocols)
        self.require_subprotocol = require_subprotocol


class WebTransportServer:
    """Serves until :meth:`close`. Made by ``ServerApp.serve``."""

    def __init__(self, config: ServerConfig, router: Router[Route]) -> None:
        self._config = config
        self._router = router
        self._listeners: list[AsyncServer] = []
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._closed = asyncio.Event()

    # Life

    async def listen(
        self, host: str, port: int, *, options: UdpOptions | None = None, datagram_endpoint: bool | None = None
    ) -> Address:
        """Serve on one more address, and return it (with the port, if it was 0)."""
        listener = await serve_quic(
            host,
            port,
            configuration=self._config.configuration(),
            on_connection=self._on_connection,
            options=options or preferred_options(),
            datagram_endpoint=prefers_datagram_endpoint() if datagram_endpoint is None else datagram_endpoint,
        )
        self._listeners.append(listener)
        address: Address = listener.addresses[0]
        return address

    @property
    def addresses(self) -> list[Address]:
        """What it listens on."""
        return [address for listener in self._listeners for address in listener.addresses]

    @property
    def port(self) -> int:
        """The port of the first address."""
        return int(self.addresses[0][1])

    @property
    def sessions(self) -> list[WebTransportSession]:
        """Sessions that are open now."""
        faces = (session.face for link in self._links for session in link.table.sessions.values() if session.is_open)
        return [face for face in faces if isinstance(face, WebTransportSession)]

    async def drain(self) -> None:
        """Take no more sessions, and ask those that are there to come to an end (draft-16 §4.7)."""
        for link in list(self._links):
            if link.h3.local_goaway is None:
                link.h3.goaway()
        for session in self.sessions:
            await session.drain()

    async def close(self, code: int = 0, reason: str = "") -> None:
        """End every session with ``code`` and ``reason``, then every connection, then the tasks of the handlers."""
        if self._is_closing:
            return
        self._is_closing = True
        for session in self.sessions:
            await session.close(code, reason)
        await asyncio.gather(*(link.wait_idle(self._config.shutdown_timeout) for link in self._links))
        await asyncio.gather(*(link.wait_lost(LAST_WORD) for link in self._links))
        for link in list(self._links):
            link.close(reason=reason)
        for listener in self._listeners:
            listener.close(int(ErrorCode.H3_NO_ERROR), reason)
            await listener.wait_closed()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._closed.set()

    async def serve_forever(self) -> None:
        """Wait until somebody closes the server."""
        await self._closed.wait()

    async def __aenter__(self) -> WebTransportServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # Connections

    def _on_connection(self, connection: AsyncConnection) -> Awaitable[None]:
        """HTTP/3 begins at once: the client may have sent requests along with its last handshake packet."""
        link = Link(connection, self._config, on_session=self._on_session, on_request=_answer_request)
        self._links.add(link)
        return self._keep(link)

    async def _keep(self, link: Link) -> None:
        try:
            await link.connection.wait_closed()
        finally:
            self._links.discard(link)
            link.stop()

    def _on_session(self, link: Link, core: Session) -> None:
        """A request for a session: find its handler, or say why there is none."""
        if core.close_info is not None:
            return
        session = WebTransportSession(core, link)
        found = self._router.match(session.path)
        offer = read_offer(core.dialect, core.exchange.headers or [])
        subprotocol = choose(offer, found.target.subprotocols) if found is not None else None
        status = self._refusal(session, found, subprotocol)
        if status is not None:
            _log(session, f"refused with {status}")
            link.table.reject(core, status)
        else:
            assert found is not None
            session.parameters = found.parameters
            link.table.accept(core, subprotocol=subprotocol)
            task = asyncio.get_running_loop().create_task(self._run(found.target.handler, session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        link.touch()

    def _refusal(self, session: WebTransportSession, found: Match[Route] | None, subprotocol: str | None) -> int | None:
        """The status to refuse a session with (draft-16 §3.2, §3.3), None to accept it."""
        if self._is_closing:
            return 503
        if found is None:
            return 404  # -16 would like 405; every draft before it, and every browser, knows 404
        origin, allowed = session.origin, self._config.allowed_origins
        if origin is not None and allowed is not None and origin not in allowed:
            return 403
        if found.target.require_subprotocol and subprotocol is None:
            return 400
        return None

    async def _run(self, handler: Handler, session: WebTransportSession) -> None:
        """Call the handler; whatever it does, the session comes to an end and leaves its line."""
        started = session.link.now
        try:
            await handler(session)
            await session.wait_sent(DELIVERY_TIMEOUT)
            await session.close()
        except asyncio.CancelledError:
            await session.close()
            raise
        except (SessionClosed, ConnectionClosed):
            pass  # the peer left in the middle of something: the handler need not know how to end
        except QuicstackError as error:
            logger.warning("session %d %s: the handler ended with %s", session.session_id, session.path, error)
            await session.close(HANDLER_FAILED, "the handler failed")
        except Exception:
            logger.exception("session %d %s: the handler failed", session.session_id, session.path)
            await session.close(HANDLER_FAILED, "the handler failed")
        finally:
            session.core.discard()
            session.link.touch()
            _log(session, f"{_ending(session)} after {session.link.now - started:.3f} s")


def _ending(session: WebTransportSession) -> str:
    info = session.close_info
    if info is None:
        return "left open"
    who = "peer" if info.by_peer else "server"
    if not info.clean:
        return f"broken off by {who}: {info.cause or info.reason or 'CONNECT stream reset'}"
    return f"closed by {who} with code {info.code}" + (f" {info.reason!r}" if info.reason else "")


def _log(session: WebTransportSession, what: str) -> None:
    host, port = session.transport.remote_address[:2]
    logger.info("session %d %s from %s port %d, %s: %s", session.session_id, session.path, host, port,
                session.dialect, what)  # fmt: skip


def _answer_request(exchange: Exchange) -> None:
    """A plain HTTP request: there is nothing here for it."""
    with contextlib.suppress(QuicstackError):
        exchange.send_headers([(b":status", b"404"), (b"content-length", b"0")], end_stream=True)
        exchange.stop(ErrorCode.H3_NO_ERROR)

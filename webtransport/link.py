"""One HTTP/3 connection under asyncio: carries news from the sessions' table to those who wait, and keeps its timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from h3.connection import H3Connection
from h3.exchange import Exchange
from quicstack.connection.connection import Ready
from quicstack.drivers.aio import AsyncConnection
from quicstack.drivers.gate import Gate
from quicstack.drivers.system import real_environment
from quicstack.errors import once_more
from quicstack.train import Address
from webtransport.codes import ErrorCode
from webtransport.config import CommonConfig
from webtransport.dialects import DRAFT02, settings_to_send
from webtransport.session_state import Session
from webtransport.session_table import SessionTable

__all__ = ["Link", "TransportInfo"]


class Face(Protocol):
    """What sits on a session or a stream and has somebody waiting."""

    def wake(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TransportInfo:
    """The QUIC connection below a session, for people to look at."""

    version: int
    cipher_suite: str
    group: str
    server_name: str | None
    local_address: Address | None
    remote_address: Address


class Link:
    """The driver calls :meth:`process`, sessions and streams call :meth:`touch` after they changed something."""

    def __init__(
        self,
        connection: AsyncConnection,
        config: CommonConfig,
        *,
        on_session: Callable[[Link, Session], None] | None = None,
        on_request: Callable[[Exchange], None] | None = None,
        on_idle: Callable[[Link], None] | None = None,
        keep_alive: float | None = None,
    ) -> None:
        self.connection = connection
        self.changed = Gate(connection.wakeups)
        """Anything at all: SETTINGS, credit for streams, the end of a session or of the connection."""
        self._loop = asyncio.get_running_loop()
        self._on_session = on_session
        self._on_request = on_request
        self._on_idle = on_idle
        self._was_busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive = keep_alive
        self._pulse: asyncio.TimerHandle | None = None
        is_server = not connection.engine.is_client
        settings = settings_to_send(
            server=is_server, max_sessions=config.max_sessions, limits=config.initial_limits, dialects=config.dialects
        )
        self.h3 = _make_h3(connection, settings, implied=DRAFT02 in config.dialects)
        self.table = SessionTable(
            self.h3,
            settings=settings,
            max_sessions=config.max_sessions,
            window=config.session_window,
            limits=config.session_limits,
            dialects=config.dialects,
            require_reset_stream_at=config.require_reset_stream_at,
        )
        connection.set_protocol(self)
        self.touch()
        self._on_pulse()

    @property
    def now(self) -> float:
        return self._loop.time()

    def process(self, ready: Ready) -> None:
        """The connection has news."""
        self.table.process(ready, self.now)
        self._settle()
        self.changed.open()
        self.connection.flush()
        if self.table.failed is not None:
            self.stop()
            self.h3.release()

    def touch(self) -> None:
        """Something was written, read, opened or closed here: let it leave, and look what followed from it."""
        self.connection.flush()
        self._settle()

    def _settle(self) -> None:
        news = self.table.take_ready()
        for stream in news.streams:
            if stream.face is not None and (face := stream.face()) is not None:
                face.wake()
        for session in news.sessions:
            if session.face is None and self._on_session is not None and not session.is_forgotten:
                self._on_session(self, session)
            if session.face is not None:
                session.face.wake()
            if session.session_id not in self.table.sessions:
                session.let_go()
        for exchange in news.requests:
            if self._on_request is not None:
                self._on_request(exchange)
            else:
                exchange.cancel(ErrorCode.H3_REQUEST_REJECTED)
        self._set_timer()
        if self.table.sessions:
            self._was_busy = True
        elif self._was_busy and self._on_idle is not None:
            self._was_busy = False
            self._on_idle(self)

    def _set_timer(self) -> None:
        deadline = self.table.next_timeout()
        if deadline is None or (self._timer is not None and self._timer.when() <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.table.failed is None:
            self.table.handle_timeout(self.now)
            self.touch()

    def _on_pulse(self) -> None:
        """RFC 9000 §10.1.2: a session in which nobody says anything for a while is not over."""
        if self._keep_alive is None or self.table.failed is not None:
            return
        if any(session.is_open for session in self.table.sessions.values()):
            self.connection.ping()
        self._pulse = self._loop.call_later(self._keep_alive, self._on_pulse)

    async def wait_settings(self) -> None:
        """Return once the peer's SETTINGS are here; raises what closed the connection before."""
        while self.h3.peer_settings is None:
            self.raise_if_lost()
            await self.changed.wait()
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """The error that ended the connection, if one did."""
        error = self.table.failed or self.connection.engine.closed
        if error is not None:
            raise once_more(error)

    async def wait_idle(self, timeout: float) -> None:
        """Give peers a moment to take in how their sessions ended (draft-16 §6)."""
        await self._wait_until(lambda: not self.table.sessions or self.table.failed is not None, timeout)

    async def wait_lost(self, timeout: float) -> None:
        """Give the peer the chance to close the connection itself."""
        await self._wait_until(lambda: self.table.failed is not None, timeout)

    async def _wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self.changed.wait()
        except TimeoutError:
            pass

    def stop(self) -> None:
        """Nothing will be timed any more."""
        for timer in (self._timer, self._pulse):
            if timer is not None:
                timer.cancel()
        self._timer = self._pulse = None

    def close(self, code: int = ErrorCode.H3_NO_ERROR, reason: str = "") -> None:
        """Close the connection. Sessions that are still there are lost with it."""
        self.stop()
        self.connection.close(int(code), reason)

    @property
    def info(self) -> TransportInfo:
        engine = self.connection.engine
        return TransportInfo(
            version=engine.version,
            cipher_suite=engine.cipher_suite_name or "",
            group=engine.group_name or "",
            server_name=engine.server_name,
            local_address=self.connection.local_address,
            remote_address=self.connection.remote_address,
        )


def _make_h3(connection: AsyncConnection, settings: Mapping[int, int], *, implied: bool) -> H3Connection:
    return H3Connection(
        connection.engine,
        extra_settings=settings,
        enable_webtransport=True,
        connect_protocol_implied_by=(DRAFT02.support_setting,) if implied else (),
        random=real_environment().random,
    )

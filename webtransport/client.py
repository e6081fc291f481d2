"""A client: connects to servers and opens sessions on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from quicstack.drivers.aio import connect as connect_quic
from quicstack.drivers.preferences import preferred_options, prefers_datagram_endpoint
from quicstack.drivers.udp import UdpOptions
from quicstack.errors import ConfigurationError, StreamLimitReached, once_more
from webtransport.codes import ErrorCode
from webtransport.config import ClientConfig
from webtransport.errors import CloseInfo, ConnectTimeout, SessionClosed, WebTransportError, WebTransportUnsupported
from webtransport.link import Link
from webtransport.session import WebTransportSession
from webtransport.session_limits import SessionState
from webtransport.session_state import Session

__all__ = ["WebTransportClient"]

logger = logging.getLogger("webtransport")

DEFAULT_PORT = 443


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads."""

    host: str
    port: int
    authority: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """An https URL without user and fragment (draft-16 §3.2, RFC 9110 §4.2.2)."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"{url!r} is no URL: {error}") from None
        if parts.scheme != "https" or not parts.hostname:
            raise ConfigurationError(f"a WebTransport URL begins with https:// and a host, not {url!r}")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ConfigurationError(f"a WebTransport URL has no user and no fragment: {url!r}")
        try:
            host = parts.hostname.encode("ascii").decode() if ":" in parts.hostname else _to_ascii(parts.hostname)
            path = ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode("ascii").decode()
        except UnicodeError:
            raise ConfigurationError(f"{url!r} has characters that a URL must escape") from None
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port in (None, DEFAULT_PORT) else f"{shown}:{port}"
        return cls(host, DEFAULT_PORT if port is None else port, authority, path)


def _to_ascii(hostname: str) -> str:
    return hostname if hostname.isascii() else hostname.encode("idna").decode("ascii")


class WebTransportClient:
    """Owns the connections of its sessions::

    async with WebTransportClient(config=ClientConfig.create()) as client:
        session = await client.connect(url="https://example.com/chat")
    """

    def __init__(
        self,
        config: ClientConfig | None = None,
        *,
        options: UdpOptions | None = None,
        datagram_endpoint: bool | None = None,
    ) -> None:
        self._config = config or ClientConfig.create()
        self._options = options or preferred_options()
        self._datagram_endpoint = prefers_datagram_endpoint() if datagram_endpoint is None else datagram_endpoint
        self._links: dict[Link, tuple[str, int]] = {}
        self._closing: set[Link] = set()
        self._is_closed = False

    async def connect(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        require_subprotocol: bool = False,
        timeout: float | None = None,
    ) -> WebTransportSession:
        """Open a session.

        ``subprotocols`` are offered in this order; ``session.subprotocol`` is what the server chose of them, and with
        ``require_subprotocol`` it has to choose one. SessionRejected if the server answers with anything but 2xx (a
        redirection is not followed), WebTransportUnsupported if it speaks no draft that this client does,
        ConnectTimeout after ``timeout`` seconds, CertificateError or ConnectionClosed if the connection fails.
        """
        if self._is_closed:
            raise WebTransportError("the client is closed")
        target = Target.parse(url)
        seconds = self._config.connect_timeout if timeout is None else timeout
        fields = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        try:
            async with asyncio.timeout(seconds):
                link = await self._link_to(target)
                core = await self._ask(link, target, fields, origin, subprotocols)
        except TimeoutError as error:
            if isinstance(error, WebTransportError):
                raise
            raise ConnectTimeout(f"no session with {target.authority} within {seconds:g} s") from None
        self._check_subprotocol(core, link, subprotocols, require_subprotocol)
        session = WebTransportSession(core, link)
        logger.info("session %d with %s, %s", core.session_id, url, session.dialect)
        return session

    async def _link_to(self, target: Target) -> Link:
        """A connection that a new session may use: with pooling perhaps one that is there, else a new one."""
        if self._config.pooling:
            for link, known in self._links.items():
                if known == (target.host, target.port) and link.table.has_room:
                    return link
        connection = await connect_quic(
            target.host,
            target.port,
            configuration=self._config.configuration(target.host),
            options=self._options,
            datagram_endpoint=self._datagram_endpoint,
        )
        link = Link(
            connection,
            self._config,
            on_idle=None if self._config.pooling else self._drop,
            keep_alive=self._config.keep_alive,
        )
        self._links[link] = (target.host, target.port)
        try:
            await link.wait_settings()
        except BaseException:
            self._drop(link)
            raise
        if link.table.dialect is None:
            self._drop(link, ErrorCode.WT_REQUIREMENTS_NOT_MET)
            raise WebTransportUnsupported("the server offers no draft of WebTransport that this client speaks")
        return link

    async def _ask(
        self,
        link: Link,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        origin: str | None,
        subprotocols: Sequence[str],
    ) -> Session:
        """Send the CONNECT request and wait for its answer."""
        core: Session | None = None
        try:
            while core is None:
                try:
                    core = link.table.connect(
                        target.authority, target.path, headers=headers, origin=origin, subprotocols=subprotocols
                    )
                except StreamLimitReached:
                    await link.changed.wait()
                    link.raise_if_lost()
            link.touch()
            while core.state is SessionState.CONNECTING:
                await link.changed.wait()
        except BaseException as error:
            self._abandon(link, core, error)
            raise
        info = core.close_info
        if info is not None and not core.was_established:
            self._abandon(link, core, None)
            raise once_more(info.cause) if info.cause else SessionClosed(info)
        return core

    def _abandon(self, link: Link, core: Session | None, error: BaseException | None) -> None:
        """A session that did not come about takes its connection with it, unless others use that."""
        if core is not None:
            core.exchange.cancel(ErrorCode.H3_REQUEST_CANCELLED)
            core.end(CloseInfo(clean=False))
            link.touch()
        if not any(session.state is not SessionState.CLOSED for session in link.table.sessions.values()):
            self._drop(link)

    def _check_subprotocol(self, core: Session, link: Link, offered: Sequence[str], required: bool) -> None:
        """draft-16 §3.3: what the server chose was offered, and there is a choice if there has to be one."""
        chosen = core.subprotocol
        if chosen is not None and chosen not in offered:
            core.subprotocol = None
            if not (offered and core.dialect.strict_subprotocol):
                chosen = None
        if core.subprotocol is None and (required or chosen is not None):
            core.abort(ErrorCode.WT_ALPN_ERROR, "the server chose no subprotocol that was offered")
            link.touch()
            self._abandon(link, None, None)
            raise WebTransportError(f"the server chose the subprotocol {chosen!r}, offered were {list(offered)}")

    def _drop(self, link: Link, code: ErrorCode = ErrorCode.H3_NO_ERROR) -> None:
        if self._links.pop(link, None) is not None:
            link.close(code)
            self._closing = {one for one in self._closing if not one.connection.engine.terminated} | {link}

    async def close(self) -> None:
        """End every session with code 0, and their connections."""
        self._is_closed = True
        for link in list(self._links):
            for core in list(link.table.sessions.values()):
                core.close(0, "", link.now)
            link.touch()
        await asyncio.gather(*(link.wait_idle(self._config.shutdown_timeout) for link in self._links))
        for link in list(self._links):
            self._drop(link)
        closing, self._closing = self._closing, set()
        for link in closing:
            link.connection.release()  # no socket outlives the event loop
        await asyncio.sleep(0)  # asyncio closes transports one turn later

    async def __aenter__(self) -> WebTransportClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

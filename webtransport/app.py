"""A server application: handlers by path."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from quicstack.drivers.udp import UdpOptions
from webtransport.config import ServerConfig
from webtransport.routing import Router
from webtransport.server import Handler, Route, WebTransportServer

__all__ = ["ServerApp"]

logger = logging.getLogger("webtransport")


class ServerApp:
    """Collects handlers, then serves them::

    app = ServerApp(config=ServerConfig.create(certfile="localhost.crt", keyfile="localhost.key"))

    @app.route("/chat/{room}")
    async def chat(session: WebTransportSession) -> None:
        ...

    app.run(host="127.0.0.1", port=4433)
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self._router: Router[Route] = Router()

    def route(
        self, path: str, *, subprotocols: Iterable[str] = (), require_subprotocol: bool = False
    ) -> Callable[[Handler], Handler]:
        """Register the decorated handler for ``path``; segments in braces end up in ``session.parameters``.

        Of the client's subprotocols the first one that is in ``subprotocols`` is agreed on. Paths without a handler are
        answered with 404.
        """

        def register(handler: Handler) -> Handler:
            self.add_route(path, handler, subprotocols=subprotocols, require_subprotocol=require_subprotocol)
            return handler

        return register

    def add_route(
        self, path: str, handler: Handler, *, subprotocols: Iterable[str] = (), require_subprotocol: bool = False
    ) -> None:
        """The same without a decorator."""
        self._router.add(path, Route(handler, subprotocols, require_subprotocol))

    @contextlib.asynccontextmanager
    async def serve(
        self,
        host: str | Sequence[str] = "127.0.0.1",
        port: int = 0,
        *,
        options: UdpOptions | None = None,
        datagram_endpoint: bool | None = None,
    ) -> AsyncIterator[WebTransportServer]:
        """Serve while the context lasts, on one host or on several with the same port. Port 0 takes any free one."""
        server = WebTransportServer(self.config, self._router)
        try:
            for name in [host] if isinstance(host, str) else host:
                address = await server.listen(name, port, options=options, datagram_endpoint=datagram_endpoint)
                port = int(address[1])
            yield server
        finally:
            await server.close()

    def run(self, host: str | Sequence[str] = "127.0.0.1", port: int = 4433) -> None:
        """Serve until interrupted. For use in an event loop that runs already there is :meth:`serve`."""
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self._run(host, port))

    async def _run(self, host: str | Sequence[str], port: int) -> None:
        async with self.serve(host, port) as server:
            for address in server.addresses:
                logger.info("serving on %s port %d", address[0], address[1])
            await server.serve_forever()

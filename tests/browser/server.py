"""The WebTransport server that the browsers talk to: one route for each thing to try, and a record of what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from tests.browser.server_thread import LOCALHOST, ServerThread
from webtransport import DatagramTooLarge, ServerApp, ServerConfig, WebTransportSession
from webtransport.certificates import certificate_hash, generate_self_signed_cert
from webtransport.errors import SessionClosed, StreamReset, StreamStopped
from webtransport.stream import WebTransportReceiveStream, WebTransportStream

__all__ = ["EchoServer"]

RECORD_TIMEOUT = 10.0
SERVER_STREAMS = 5


class EchoServer(ServerThread):
    """Routes of things to try. `record` gives what a handler noted about its peer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        certfile, keyfile = generate_self_signed_cert("localhost", folder)
        self.certificate_hash = certificate_hash(certfile)
        self._app = ServerApp(ServerConfig.create(certfile, keyfile))
        for path, handler in (
            ("/echo", self._echo),
            ("/server-streams", self._server_streams),
            ("/close", self._close),
            ("/close-wait", self._close_wait),
            ("/reset", self._reset),
        ):
            self._app.add_route(path, handler)
        self._app.add_route("/protocol", self._close_wait, subprotocols=("chat-2", "chat-1"))
        self._records: queue.Queue[tuple[str, Any]] = queue.Queue()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        async with self._app.serve(LOCALHOST) as server:
            yield server.port

    def forget(self) -> None:
        """Drop what was recorded so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._records.get_nowait()

    def record(self, kind: str) -> Any:
        """Wait for the next record of a kind, and pass over those of other kinds."""
        while True:
            try:
                found, value = self._records.get(timeout=RECORD_TIMEOUT)
            except queue.Empty:
                raise AssertionError(f"the server recorded no {kind!r}") from None
            if found == kind:
                return value

    def _note(self, kind: str, value: object) -> None:
        self._records.put((kind, value))

    # Handlers

    async def _echo(self, session: WebTransportSession) -> None:
        """Datagrams and bidirectional streams come back as they are, unidirectional ones on a stream of the server."""

        async def datagrams() -> None:
            async for data in session.datagrams:
                self._note("datagram", len(data))
                with contextlib.suppress(DatagramTooLarge):
                    await session.datagrams.send(data)

        async def stream(stream: WebTransportStream) -> None:
            async for data in stream:
                await stream.write(data)
            stream.finish()

        async def answer(stream: WebTransportReceiveStream) -> None:
            data = await stream.read_all()
            await (await session.create_unidirectional_stream()).write_all(data)

        async def streams() -> None:
            async with _Tasks() as tasks:
                async for incoming in session.incoming_streams():
                    tasks.start(stream(incoming))

        async def unidirectional_streams() -> None:
            async with _Tasks() as tasks:
                async for incoming in session.incoming_unidirectional_streams():
                    tasks.start(answer(incoming))

        async with _Tasks() as tasks:
            for task in (datagrams(), streams(), unidirectional_streams()):
                tasks.start(task)

    async def _server_streams(self, session: WebTransportSession) -> None:
        async def ask(number: int) -> None:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(f"bidirectional {number}".encode())
            self._note("answer", (await stream.read_all()).decode())

        async def tell(number: int) -> None:
            stream = await session.create_unidirectional_stream()
            await stream.write_all(f"unidirectional {number}".encode())

        async with _Tasks() as tasks:
            for number in range(SERVER_STREAMS):
                tasks.start(ask(number))
                tasks.start(tell(number))
        await session.wait_closed()

    async def _close(self, session: WebTransportSession) -> None:
        """Close the way the page asks for."""
        what = await _order(await session.accept_stream())
        await session.close(what["code"], what["reason"])

    async def _close_wait(self, session: WebTransportSession) -> None:
        """Wait until the page closes."""
        self._note("session", (session.dialect, session.subprotocol))
        info = await session.wait_closed()
        self._note("close", (info.code, info.reason))
        self._note("clean", info.clean)

    async def _reset(self, session: WebTransportSession) -> None:
        """Give a stream up, or see how the page gives it up."""
        stream = await session.accept_stream()
        what = await _order(stream)
        if what["do"] == "reset":
            stream.reset(what["code"])
            await (await session.create_unidirectional_stream()).write_all(b"it was reset")
        elif what["do"] == "stop":
            stream.stop_sending(what["code"])
        else:
            async with _Tasks() as tasks:
                tasks.start(self._note_reset(stream))
                tasks.start(self._note_stop(stream))
        await session.wait_closed()

    async def _note_reset(self, stream: WebTransportStream) -> None:
        try:
            await stream.read_all()
        except StreamReset as error:
            self._note("reset", error.code)

    async def _note_stop(self, stream: WebTransportStream) -> None:
        try:
            while True:
                await stream.write(b".")
                await asyncio.sleep(0.02)
        except StreamStopped as error:
            self._note("stop", error.code)


class _Tasks(asyncio.TaskGroup):
    """Tasks that may end with their session, or with the stream that they work on, without a word."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.create_task(_until_the_end(work))


async def _until_the_end(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(SessionClosed, StreamReset, StreamStopped):
        await work


async def _order(stream: WebTransportStream) -> dict[str, Any]:
    """The line of JSON that pages/checks.js begins a stream with."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = await stream.read()
        if not chunk:
            break
        line += chunk
    order: dict[str, Any] = json.loads(line)
    return order

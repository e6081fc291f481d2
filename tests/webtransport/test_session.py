"""Sessions over real sockets, from both sides of the public API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from quicstack.errors import ConnectionClosed
from webtransport import (
    ClientConfig,
    CloseInfo,
    DatagramTooLarge,
    ServerApp,
    SessionClosed,
    SessionRejected,
    SessionState,
    StreamReset,
    StreamStopped,
    WebTransportClient,
    WebTransportError,
    WebTransportSession,
)
from webtransport.dialects import DIALECTS, DRAFT16, Dialect, FlowLimits

Config = Callable[..., ClientConfig]
ALL = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)


async def echo(session: WebTransportSession) -> None:
    """Whatever comes goes back the way it came."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_echo_datagrams(session))
        tasks.create_task(_echo_unidirectional(session))
        async for stream in session.incoming_streams():
            tasks.create_task(_echo_stream(stream))


async def _echo_datagrams(session: WebTransportSession) -> None:
    async for data in session.datagrams:
        await session.datagrams.send(data)


async def _echo_stream(stream: object) -> None:
    try:
        async for piece in stream:  # type: ignore[attr-defined]
            await stream.write(piece)  # type: ignore[attr-defined]
        stream.finish()  # type: ignore[attr-defined]
    except WebTransportError:
        pass


async def _echo_unidirectional(session: WebTransportSession) -> None:
    async for stream in session.incoming_unidirectional_streams():
        data = await stream.read_all()
        back = await session.create_unidirectional_stream()
        await back.write_all(data)


async def wait_closed(session: WebTransportSession) -> None:
    await session.wait_closed()


@ALL
async def test_everything_in_each_dialect(app: ServerApp, client_config: Config, dialect: Dialect) -> None:
    app.add_route("/echo", echo, subprotocols=["one", "two"])
    async with app.serve() as server, WebTransportClient(client_config(dialects=[dialect])) as client:
        session = await client.connect(
            f"https://127.0.0.1:{server.port}/echo?x=1", origin="https://example.test", subprotocols=["two", "three"]
        )
        assert session.dialect == dialect.name
        assert session.subprotocol == "two"
        assert session.path == "/echo?x=1"
        assert session.state is SessionState.CONNECTED
        assert await session.datagrams is session.datagrams
        assert await session.datagrams.send(b"datagram")
        assert await session.datagrams.receive() == b"datagram"
        stream = await session.create_bidirectional_stream()
        assert await stream.write_all(b"x" * 300_000) == 300_000
        assert await stream.read_all() == b"x" * 300_000
        sending = await session.create_unidirectional_stream()
        await sending.write_all(data=b"one way")
        assert await (await session.accept_unidirectional_stream()).read_all() == b"one way"
        await session.close(code=7, reason="fertig ✓")
        assert await session.wait_closed() == CloseInfo(7, "fertig ✓")


async def test_what_the_handler_sees(app: ServerApp, client_config: Config) -> None:
    seen: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    @app.route("/rooms/{room}")
    async def handler(session: WebTransportSession) -> None:
        seen.put_nowait(session)
        await session.wait_closed()

    async with app.serve() as server, WebTransportClient(client_config()) as client:
        url = f"https://127.0.0.1:{server.port}/rooms/a%20b"
        session = await client.connect(url, headers={"X-Token": "secret"}, origin="https://example.test")
        there = await seen.get()
        assert there.parameters == {"room": "a b"}
        assert there.headers["x-token"] == "secret"
        assert there.origin == "https://example.test"
        assert there.authority == f"127.0.0.1:{server.port}"
        assert there.transport.remote_address[0] == "127.0.0.1"
        assert session.transport.cipher_suite and session.transport.group and session.transport.version == 1
        assert server.sessions == [there]
        assert there.stats.datagrams_received == 0
        await session.close(0xFFFFFFFF, "ça suffit")
        assert await there.wait_closed() == CloseInfo(0xFFFFFFFF, "ça suffit", by_peer=True)
    assert server.sessions == []


@pytest.mark.parametrize("path", ["/", "/nothing", "/echo/"])
async def test_paths_without_a_handler(app: ServerApp, client_config: Config, path: str) -> None:
    app.add_route("/echo", echo)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        with pytest.raises(SessionRejected, match="404") as error:
            await client.connect(f"https://127.0.0.1:{server.port}{path}")
        assert error.value.status == 404
        session = await client.connect(f"https://127.0.0.1:{server.port}/echo")
        assert session.state is SessionState.CONNECTED


async def test_origins(app: ServerApp, client_config: Config) -> None:
    import dataclasses

    app.config = dataclasses.replace(app.config, allowed_origins=frozenset({"https://good.test"}))
    app.add_route("/", wait_closed)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        url = f"https://127.0.0.1:{server.port}/"
        with pytest.raises(SessionRejected, match="403"):
            await client.connect(url, origin="https://bad.test")
        await client.connect(url, origin="https://good.test")
        await client.connect(url)  # no browser, no origin


async def test_subprotocols(app: ServerApp, client_config: Config) -> None:
    app.add_route("/free", wait_closed)
    app.add_route("/strict", wait_closed, subprotocols=["chat"], require_subprotocol=True)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        base = f"https://127.0.0.1:{server.port}"
        assert (await client.connect(f"{base}/free", subprotocols=["chat"])).subprotocol is None
        assert (await client.connect(f"{base}/strict", subprotocols=["x", "chat"])).subprotocol == "chat"
        with pytest.raises(SessionRejected, match="400"):
            await client.connect(f"{base}/strict")
        with pytest.raises(WebTransportError, match="subprotocol"):
            await client.connect(f"{base}/free", subprotocols=["chat"], require_subprotocol=True)


@ALL
async def test_stream_codes(app: ServerApp, client_config: Config, dialect: Dialect) -> None:
    outcome: asyncio.Queue[WebTransportError] = asyncio.Queue()

    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        stream = await session.accept_stream()
        for attempt in (stream.read_all, lambda: stream.write(b"x" * (4 << 20))):
            try:
                await attempt()
            except WebTransportError as error:
                outcome.put_nowait(error)
        await session.wait_closed()

    async with app.serve() as server, WebTransportClient(client_config(dialects=[dialect])) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        stream = await session.create_bidirectional_stream()
        await stream.write(b"abc")
        stream.reset(dialect.max_stream_error)
        stream.stop_sending(30)
        reset, stopped = await outcome.get(), await outcome.get()
        assert isinstance(reset, StreamReset) and reset.code == dialect.max_stream_error
        assert isinstance(stopped, StreamStopped) and stopped.code == 30
        with pytest.raises(ValueError, match="error code"):
            stream.reset(dialect.max_stream_error + 1)


async def test_handler_ends(app: ServerApp, client_config: Config) -> None:
    """What it wrote last arrives, then the session closes with code 0."""

    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(b"z" * 700_000)

    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        stream = await session.accept_unidirectional_stream()
        assert len(await stream.read_all()) == 700_000
        assert await session.wait_closed() == CloseInfo(by_peer=True)


async def test_handler_fails(app: ServerApp, client_config: Config, caplog: pytest.LogCaptureFixture) -> None:
    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        raise LookupError("private detail")

    caplog.set_level(logging.INFO, "webtransport")
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        info = await session.wait_closed()
        assert (info.code, info.by_peer) == (1, True)
        assert "private" not in info.reason
    assert "private detail" in caplog.text
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert len([line for line in lines if line.startswith("session 0 / from 127.0.0.1")]) == 1


async def test_operations_after_the_end(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", wait_closed)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        stream = await session.create_bidirectional_stream()
        await session.close(3, "enough")
        attempts: list[Callable[[], Awaitable[object]]] = [
            session.accept_stream,
            session.accept_unidirectional_stream,
            session.create_bidirectional_stream,
            session.create_unidirectional_stream,
            session.datagrams.receive,
            lambda: session.datagrams.send(b"x"),
            lambda: stream.write(b"x"),
            stream.read,
        ]
        for attempt in attempts:
            with pytest.raises(SessionClosed, match="code 3: enough"):
                await attempt()
        assert [stream async for stream in session.incoming_streams()] == []
        assert [data async for data in session.datagrams] == []
        await session.close(4)
        assert session.close_info == CloseInfo(3, "enough")


async def test_waiting_ends_with_the_session(app: ServerApp, client_config: Config) -> None:
    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        await session.datagrams.receive()
        await session.close(9, "over")

    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        stream = await session.create_bidirectional_stream()
        attempts = [session.accept_stream(), session.datagrams.receive(), stream.read(), stream.write(b"x" * (9 << 20))]
        waiting = [asyncio.ensure_future(attempt) for attempt in attempts]
        await session.datagrams.send(b"go")
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [getattr(outcome, "code", outcome) for outcome in outcomes] == [9] * 4


async def test_a_lost_connection(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", wait_closed)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        waiting = asyncio.ensure_future(session.accept_stream())
        session.link.connection.close(0x1234, "away")
        info = await session.wait_closed()
        assert not info.clean
        with pytest.raises(SessionClosed):
            await waiting


async def test_drain(app: ServerApp, client_config: Config) -> None:
    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        await session.drain()
        await session.wait_closed()

    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        await session.wait_draining()
        assert session.state is SessionState.DRAINING
        await (await session.create_unidirectional_stream()).write_all(b"still works")


async def test_server_drains_and_closes(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", wait_closed)
    async with app.serve() as server, WebTransportClient(client_config(pooling=True)) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        await server.drain()
        await session.wait_draining()
        assert not session.link.table.has_room
        await server.close(5, "maintenance")
        assert await session.wait_closed() == CloseInfo(5, "maintenance", by_peer=True)


async def test_the_peer_may_close_the_connection_first(
    app: ServerApp, client_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chromium acknowledges the end of a session before it tells the page, and must not hear of another end by then."""
    monkeypatch.setattr("webtransport.server.LAST_WORD", 30)
    app.add_route("/", wait_closed)
    async with app.serve() as server, WebTransportClient(client_config(pooling=True)) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        link = next(iter(server._links))
        closing = asyncio.create_task(server.close())
        assert (await session.wait_closed()).clean
        await asyncio.sleep(0.2)
        assert link.table.failed is None and not closing.done()
        session.link.close()
        await closing
        error = link.connection.engine.closed
        assert isinstance(error, ConnectionClosed) and error.by_peer


async def test_one_reader_one_writer(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", wait_closed)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        stream = await session.create_bidirectional_stream()
        reading = asyncio.ensure_future(stream.read())
        writing = asyncio.ensure_future(stream.write(b"x" * (9 << 20)))
        await asyncio.sleep(0)
        with pytest.raises(WebTransportError, match="another task is reading"):
            await stream.read()
        with pytest.raises(WebTransportError, match="another task is writing"):
            await stream.write(b"y")
        for task in (reading, writing):
            task.cancel()
        assert [type(r) for r in await asyncio.gather(reading, writing, return_exceptions=True)] == [
            asyncio.CancelledError,
            asyncio.CancelledError,
        ]


async def test_cancellation(app: ServerApp, client_config: Config) -> None:
    seen: asyncio.Queue[object] = asyncio.Queue()

    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        first = await session.accept_stream()
        await first.write(b"later")
        second = await session.accept_stream()
        await session.datagrams.receive()
        try:
            await second.read_all()
        except StreamReset as error:
            seen.put_nowait(error)
        assert (await first.read(5)) == b"first"
        await session.close(8)

    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        stream = await session.create_bidirectional_stream()
        reading = asyncio.ensure_future(stream.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await stream.write(b"first")
        big = asyncio.ensure_future(stream.write(b"x" * (32 << 20)))
        assert await stream.read() == b"later"  # the cancelled read took nothing away
        big.cancel()
        with pytest.raises(asyncio.CancelledError):
            await big
        assert 0 < stream.bytes_written < 32 << 20
        whole = await session.create_bidirectional_stream()
        all_of_it = asyncio.ensure_future(whole.write_all(b"x" * (32 << 20)))
        await asyncio.sleep(0)
        all_of_it.cancel()
        with pytest.raises(asyncio.CancelledError):
            await all_of_it
        await session.datagrams.send(b"look")
        assert isinstance(await seen.get(), StreamReset)
        assert (await session.wait_closed()).code == 8


async def test_datagrams(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", echo)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        size = session.datagrams.max_size
        assert size >= 1000
        with pytest.raises(DatagramTooLarge) as error:
            await session.datagrams.send(b"x" * (size + 1))
        assert error.value.max_size == size
        await session.datagrams.send(b"x" * size)
        assert await session.datagrams.receive() == b"x" * size
        assert session.datagrams.receive_nowait() is None
        await session.datagrams.send(b"")
        assert await session.datagrams.receive() == b""
        assert session.stats.datagrams_sent == session.stats.datagrams_received == 2


async def test_read_all_with_a_limit(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", echo)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"x" * 2000)
        with pytest.raises(WebTransportError, match="1999 bytes"):
            await stream.read_all(limit=1999)


async def test_more_streams_than_the_limits_allow_at_once(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", echo)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")

        async def one(number: int) -> bool:
            stream = await session.create_bidirectional_stream()
            data = number.to_bytes(2, "big") * 50
            await stream.write_all(data)
            return await stream.read_all() == data

        assert all(await asyncio.gather(*(one(number) for number in range(400))))
        assert session.stats.streams_opened == 400
        await session.close()
        assert session.core.streams == {}


async def test_pooling(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", echo)
    async with app.serve() as server, WebTransportClient(client_config(pooling=True)) as client:
        url = f"https://127.0.0.1:{server.port}/"
        first, second = await client.connect(url), await client.connect(url)
        assert first.connection is second.connection
        for session in (first, second):
            await session.datagrams.send(str(session.session_id).encode())
        for session in (first, second):
            assert await session.datagrams.receive() == str(session.session_id).encode()
        await first.close()
        stream = await second.create_bidirectional_stream()
        await stream.write_all(b"alone")
        assert await stream.read_all() == b"alone"


async def test_no_pooling_without_flow_control(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", echo)
    config = client_config(pooling=True, dialects=[DRAFT16], initial_limits=FlowLimits())
    async with app.serve() as server, WebTransportClient(config) as client:
        url = f"https://127.0.0.1:{server.port}/"
        first, second = await client.connect(url), await client.connect(url)
        assert first.connection is not second.connection
        assert first.core.flow is None


async def test_session_as_a_context(app: ServerApp, client_config: Config) -> None:
    infos: asyncio.Queue[CloseInfo] = asyncio.Queue()

    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        infos.put_nowait(await session.wait_closed())

    async with app.serve() as server, WebTransportClient(client_config()) as client:
        url = f"https://127.0.0.1:{server.port}/"
        async with await client.connect(url):
            pass
        assert (await infos.get()).code == 0
        with pytest.raises(LookupError):
            async with await client.connect(url):
                raise LookupError
        assert (await infos.get()).code == 1


Operation = Callable[[WebTransportSession], Awaitable[object]]
OPERATIONS: dict[str, Operation] = {
    "accept_stream": lambda session: session.accept_stream(),
    "accept_unidirectional_stream": lambda session: session.accept_unidirectional_stream(),
    "create_bidirectional_stream": lambda session: session.create_bidirectional_stream(),
    "create_unidirectional_stream": lambda session: session.create_unidirectional_stream(),
    "datagrams.receive": lambda session: session.datagrams.receive(),
    "datagrams.send": lambda session: session.datagrams.send(b"x"),
    "drain": lambda session: session.drain(),
    "wait_closed": lambda session: session.wait_closed(),
    "wait_draining": lambda session: session.wait_draining(),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_cancelled_everywhere(app: ServerApp, client_config: Config, name: str) -> None:
    """Whatever is given up, and whenever, the session goes on and no task is left."""
    app.add_route("/", echo)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        for turns in range(6):
            task = asyncio.ensure_future(OPERATIONS[name](session))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"still here")
        assert await stream.read_all() == b"still here"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_over_is_freed_at_once(
    app: ServerApp, client_config: Config, no_cycles: Callable[[], Any]
) -> None:
    app.add_route("/echo", echo)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/echo")

        async def use() -> None:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"x" * 3000)
            assert await stream.read_all() == b"x" * 3000
            sending = await session.create_unidirectional_stream()
            await sending.write_all(data=b"one way")
            assert await (await session.accept_unidirectional_stream()).read_all() == b"one way"

        await use()
        with no_cycles():
            await use()
            await use()
            async with WebTransportClient(client_config()) as other:
                gone = await other.connect(f"https://127.0.0.1:{server.port}/echo")
                await gone.close()
            del gone, other
            await asyncio.sleep(0.2)  # for the last acknowledgements, and the server's end of the other connection
        await session.close()

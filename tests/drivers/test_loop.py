"""Readiness, the timer, a full socket, and the end of the loop before the end of the connection."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.drivers.loop import LoopDriver
from quicstack.drivers.system import real_environment
from quicstack.drivers.udp import UdpOptions, UdpSocket
from quicstack.endpoint import Endpoint
from quicstack.errors import ConnectionClosed

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Narrow(socket.socket):
    """A socket that has room for a train only every other time."""

    tries = 0

    def _try(self) -> None:
        self.tries += 1
        if self.tries % 2:
            raise BlockingIOError(errno.EAGAIN, "no room")

    def sendmsg(self, *args: Any) -> int:  # type: ignore[override]
        self._try()
        return super().sendmsg(*args)

    def sendto(self, *args: Any) -> int:  # type: ignore[override]
        self._try()
        return super().sendto(*args)


def test_a_full_socket_is_waited_for_and_nothing_is_lost(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            sock = Narrow(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            udp = UdpSocket(sock, UdpOptions(), client=True)
            driver = LoopDriver(
                Endpoint(pair.client, environment=real_environment(), server=False), asyncio.get_running_loop()
            )
            driver.add_socket(udp)
            import dataclasses

            configuration = dataclasses.replace(pair.client, server_name="localhost")
            path = udp.path_to(server.addresses[0])
            connection = driver.adopt(driver.endpoint.connect(path, time.monotonic(), configuration=configuration))
            driver.finish_when_idle()
            await connection.wait_connected()
            stream = await connection.open_stream()
            await stream.write_all(b"x" * 300_000)
            assert await stream.read_all() == b"echo " + b"x" * 300_000
            stats = udp.stats
            assert stats.send_blocked >= stats.trains_sent - 1 > 0
            assert connection.engine.stats().counters.packets_lost == 0
            connection.close()
            await connection.wait_released()
            assert udp.fileno() == -1

    run(scenario())


class WatchedLoop(asyncio.SelectorEventLoop):
    """Writes down the timers that are set."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: list[float] = []
        self.pending: list[int] = []
        self._drivers_timers: list[asyncio.TimerHandle] = []

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = super().call_later(delay, callback, *args, context=context)
        if isinstance(getattr(callback, "__self__", None), LoopDriver):
            self.delays.append(delay)
            self._drivers_timers.append(handle)
            now = self.time()
            alive = [timer for timer in self._drivers_timers if not timer.cancelled() and timer.when() > now]
            self._drivers_timers = alive
            self.pending.append(len(alive))
        return handle


def test_one_timer_for_all_connections_and_none_below_a_millisecond(pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            port = server.addresses[0][1]
            connections = [await connect("127.0.0.1", port, configuration=pair.client) for _ in range(3)]
            for connection in connections:
                stream = await connection.open_stream()
                await stream.write_all(bytes(500_000))
                await stream.read_all()
                connection.close()
            for connection in connections:
                await connection.wait_released()

    loop = WatchedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())
    assert loop.delays
    assert min(loop.delays) >= 0.001
    assert max(loop.pending) <= 4  # three clients and the server, one each


def test_many_calls_make_one_turn(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            async with await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client) as connection:
                stream = await connection.open_stream()
                await stream.write_all(b"settle")
                await stream.read_all()
                before = connection.engine.stats().counters
                for _ in range(10):
                    connection.send_datagram(b"small")
                for _ in range(10):
                    await connection.receive_datagram()
                after = connection.engine.stats().counters
                assert after.packets_sent - before.packets_sent < 10
            await connection.wait_released()

    run(scenario())


def _open_sockets() -> list[UdpSocket]:
    return [thing for thing in gc.get_objects() if isinstance(thing, UdpSocket) and thing.fileno() >= 0]


@pytest.mark.parametrize("factory", ["asyncio", "uvloop"])
def test_a_loop_that_ends_first_leaves_nothing_open(pair: Any, echo: Any, factory: str) -> None:
    new_loop = asyncio.new_event_loop if factory == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    kept: list[AsyncConnection] = []
    others = _open_sockets()

    async def scenario() -> None:
        server = await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo)
        for _ in range(2):
            kept.append(await connect("127.0.0.1", server.addresses[0][1], configuration=pair.client))
        kept[0].close()
        server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())
    kept[1].close()  # late, and harmless
    assert isinstance(kept[1].closed, ConnectionClosed)
    kept.clear()
    gc.collect()  # a ResourceWarning would fail the test
    assert [thing for thing in _open_sockets() if thing not in others] == []

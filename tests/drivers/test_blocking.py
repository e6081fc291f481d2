"""The blocking client and server, each against itself and against asyncio in a thread."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from quicstack.drivers import aio
from quicstack.drivers.blocking import BlockingServer, connect, listen
from quicstack.errors import CertificateError, ConnectionClosed, StreamError, StreamReset, StreamStopped


@contextmanager
def asyncio_server(pair: Any, echo: Any) -> Iterator[int]:
    """An echo server on a loop in a thread of its own; its port."""
    ports: list[int] = []
    is_serving = threading.Event()
    stop: list[Any] = []

    async def serve() -> None:
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        async with await aio.serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            ports.append(server.addresses[0][1])
            is_serving.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert is_serving.wait(20)
        yield ports[0]
    finally:
        loop, done = stop[0]
        loop.call_soon_threadsafe(done.set)
        thread.join(20)


@pytest.fixture
def server(pair: Any) -> Iterator[BlockingServer]:
    with listen("127.0.0.1", 0, configuration=pair.server) as server:
        yield server


@contextmanager
def in_thread(target: Any) -> Iterator[list[Any]]:
    """Run ``target`` beside the block, and raise what it raised."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(target())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        thread.join(30)
    for error in errors:
        raise error


def test_against_an_asyncio_server(pair: Any, echo: Any) -> None:
    data = bytes(range(256)) * 4096
    with asyncio_server(pair, echo) as port:
        with connect("127.0.0.1", port, configuration=pair.client, timeout=20) as connection:
            assert connection.remote_address == ("127.0.0.1", port)
            assert connection.local_address[1] > 0
            stream = connection.open_stream(timeout=5)
            stream.write_all(data, timeout=20)
            assert stream.read_all(timeout=20) == b"echo " + data
            assert connection.send_datagram(b"quick")
            assert connection.receive_datagram(timeout=5) == b"echo quick"
            assert connection.send_datagram(b"again")
            assert connection.receive_datagrams(timeout=5) == [b"echo again"]
        assert isinstance(connection.closed, ConnectionClosed)


def test_two_scripts(pair: Any, server: BlockingServer) -> None:
    def client() -> bytes:
        with connect("127.0.0.1", server.address[1], configuration=pair.client, timeout=20) as connection:
            ours = connection.open_stream(timeout=5)
            ours.write(b"half ", timeout=5)
            ours.write_all(b"and half", timeout=5)
            answer = ours.read_all(timeout=20)
            theirs = connection.accept_stream(timeout=5)
            return answer + theirs.read_all(timeout=5)

    with in_thread(client) as results:
        connection = server.accept(timeout=20)
        stream = connection.accept_stream(timeout=5)
        assert (stream.id, stream.read(4, timeout=5)) == (0, b"half")
        assert stream.read_all(timeout=5) == b" and half"
        stream.write_all(b"got it", timeout=5)
        back = connection.open_stream(unidirectional=True, timeout=5)
        back.write(b", goodbye", timeout=5)
        back.finish()
        error = connection.wait_closed(timeout=20)
        assert isinstance(error, ConnectionClosed) and error.by_peer
    assert results == [b"got it, goodbye"]


def test_timeouts_lose_nothing(pair: Any, server: BlockingServer) -> None:
    small = dataclasses.replace(pair.client, send_buffer=1 << 16)

    def client() -> None:
        with connect("127.0.0.1", server.address[1], configuration=small, timeout=20) as connection:
            stream = connection.open_stream(timeout=5)
            for call in (stream.read, connection.accept_stream, connection.receive_datagram, connection.wait_closed):
                with pytest.raises(TimeoutError):
                    call(timeout=0.01)
            with pytest.raises(TimeoutError):
                stream.write(bytes(8 << 20), timeout=0.2)
            assert 0 < stream.accepted < 8 << 20
            with pytest.raises(TimeoutError):
                stream.write_all(bytes(8 << 20), timeout=0.05, reset_code=6)
            connection.process(0.1)

    with in_thread(client):
        connection = server.accept(timeout=20)
        stream = connection.accept_stream(timeout=5)
        connection.wait_closed(timeout=20)
        with pytest.raises((StreamReset, ConnectionClosed)):
            stream.read_all(timeout=1)


def test_resetting_and_stopping(pair: Any, server: BlockingServer) -> None:
    def client() -> None:
        with connect("127.0.0.1", server.address[1], configuration=pair.client, timeout=20) as connection:
            stream = connection.open_stream(timeout=5)
            stream.write(b"x", timeout=5)
            assert stream.read(timeout=5) == b"y"
            stream.reset(5)
            stream.stop_sending(6)
            with pytest.raises(StreamError):
                stream.read(timeout=5)
            connection.wait_closed(timeout=20)

    with in_thread(client):
        connection = server.accept(timeout=20)
        stream = connection.accept_stream(timeout=5)
        stream.read(timeout=5)
        stream.write(b"y", timeout=5)
        with pytest.raises(StreamReset):
            while True:
                stream.read(timeout=5)
        with pytest.raises(StreamStopped):
            while True:
                stream.write(b"y", timeout=5)
                connection.process(0.01)
        connection.close()


def test_nobody_listens(pair: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    with pytest.raises(ConnectionClosed, match="nobody listens"):
        connect("127.0.0.1", port, configuration=pair.client, timeout=20)


def test_nobody_answers(pair: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(TimeoutError):
            connect("127.0.0.1", silent.getsockname()[1], configuration=pair.client, timeout=0.05)


def test_a_certificate_for_another_name(pair: Any, echo: Any) -> None:
    configuration = dataclasses.replace(pair.client, server_name="other.test")
    with asyncio_server(pair, echo) as port, pytest.raises(CertificateError):
        connect("127.0.0.1", port, configuration=configuration, timeout=20)


def test_a_wildcard_server_takes_both_families(pair: Any) -> None:
    with listen("", 0, configuration=pair.server) as server:
        for host in ("127.0.0.2", "::1"):

            def client(host: str = host) -> bytes:
                with connect(host, server.address[1], configuration=pair.client, timeout=20) as connection:
                    stream = connection.accept_stream(timeout=5)
                    return stream.read_all(timeout=5)

            with in_thread(client) as results:
                connection = server.accept(timeout=20)
                connection.open_stream(timeout=5).write_all(b"hi", timeout=5)
                connection.wait_closed(timeout=20)
            assert results == [b"hi"]


def test_calls_after_the_end(pair: Any, echo: Any) -> None:
    with asyncio_server(pair, echo) as port:
        connection = connect("127.0.0.1", port, configuration=pair.client, timeout=20)
        stream = connection.open_stream(timeout=5)
        connection.close(3, "over")
        connection.close()
        for call in (connection.open_stream, connection.accept_stream, connection.receive_datagram, stream.read):
            with pytest.raises(ConnectionClosed, match="over"):
                call(timeout=1)
        with pytest.raises(ConnectionClosed):
            stream.write(b"x", timeout=1)


def test_a_closed_connection_is_freed_at_once(pair: Any, no_cycles: Any) -> None:
    server = listen("127.0.0.1", 0, configuration=pair.server)

    def serve() -> None:
        for _ in range(2):
            with server.accept(timeout=20) as connection:
                stream = connection.accept_stream(timeout=20)
                stream.write_all(stream.read_all(timeout=20))
                connection.wait_closed(timeout=20)
        server.close()

    def client() -> None:
        with connect("127.0.0.1", server.address[1], configuration=pair.client, timeout=20) as connection:
            stream = connection.open_stream()
            stream.write_all(b"?")
            assert stream.read_all(timeout=20) == b"?"

    thread = threading.Thread(target=serve)
    thread.start()
    client()
    with no_cycles():
        client()
        thread.join(20)

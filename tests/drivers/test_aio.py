"""``connect`` and ``serve`` over real sockets, under asyncio and uvloop."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from quicstack.drivers.aio import AsyncConnection, AsyncServer, UdpOptions, connect, serve
from quicstack.drivers.udp import UdpSocket
from quicstack.errors import CertificateError, ConnectionClosed, ConnectionTimeout, TransportErrorCode
from quicstack.tls.trust import Trust

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def port_of(server: AsyncServer) -> int:
    port: int = server.addresses[0][1]
    return port


async def ask(connection: AsyncConnection, question: bytes) -> bytes:
    stream = await connection.open_stream()
    await stream.write_all(question)
    return await stream.read_all()


def test_handshake_streams_and_datagrams(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            async with await connect("127.0.0.1", port_of(server), configuration=pair.client) as connection:
                assert connection.engine.alpn_protocol == "echo"
                assert connection.remote_address == server.addresses[0]
                assert connection.local_address[1] > 0
                assert await ask(connection, b"hello") == b"echo hello"
                assert connection.send_datagram(b"quick")
                assert await connection.receive_datagram() == b"echo quick"
            await connection.wait_released()

    run(scenario())


def test_a_megabyte_arrives_whole(run: Run, pair: Any, echo: Any) -> None:
    data = bytes(range(256)) * 4096

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            async with await connect("127.0.0.1", port_of(server), configuration=pair.client) as connection:
                assert await ask(connection, data) == b"echo " + data
            await connection.wait_released()

    run(scenario())


@pytest.mark.parametrize(
    "options",
    [UdpOptions(gso=False), UdpOptions(gro=False), UdpOptions(ecn=False), UdpOptions(gso=False, gro=False, ecn=False)],
    ids=["no GSO", "no GRO", "no ECN", "none"],
)
@pytest.mark.parametrize("datagram_endpoint", [False, True])
def test_each_feature_may_be_missing(
    run: Run, pair: Any, echo: Any, options: UdpOptions, datagram_endpoint: bool
) -> None:
    async def scenario() -> None:
        server = await serve(
            "127.0.0.1", 0, configuration=pair.server, on_connection=echo, options=options,
            datagram_endpoint=datagram_endpoint,
        )  # fmt: skip
        async with server:
            port = port_of(server)
            async with await connect("127.0.0.1", port, configuration=pair.client, options=options) as connection:
                assert await ask(connection, b"x" * 100_000) == b"echo " + b"x" * 100_000
            await connection.wait_released()

    run(scenario())


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2"),
        ("::", "::1"),
        ("::", "127.0.0.2"),
        (None, "::1"),
        ("", "127.0.0.1"),
        ("localhost", "localhost"),
        (["127.0.0.2", "::1"], "::1"),
        (["127.0.0.2", "::1"], "127.0.0.2"),
    ],
)
def test_answers_come_from_the_address_that_was_asked(run: Run, pair: Any, echo: Any, host: Any, asked: str) -> None:
    async def scenario() -> None:
        async with await serve(host, 0, configuration=pair.server, on_connection=echo) as server:
            assert len({address[1] for address in server.addresses}) == 1
            async with await connect(asked, port_of(server), configuration=pair.client) as connection:
                assert await ask(connection, b"who?") == b"echo who?"
                [other] = server.endpoint.connections
                if asked != "localhost":
                    assert other.path.local is not None
                    assert other.path.local[0].removeprefix("::ffff:") == asked
            await connection.wait_released()

    run(scenario())


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a host that the system knows under two addresses, IPv6 first."""
    system = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        hosts = ["::1", "127.0.0.1"] if host == "both.test" else [host]
        return [found for name in hosts for found in system(name, port, *args, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return "both.test"


def test_a_refused_address_gives_way_to_the_next(run: Run, pair: Any, echo: Any, two_addresses: str) -> None:
    configuration = dataclasses.replace(pair.client, server_name="localhost")

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            async with await connect(two_addresses, port_of(server), configuration=configuration) as connection:
                assert connection.remote_address[0] == "127.0.0.1"
                assert _sockets() == 2
            await connection.wait_released()

    run(scenario())


def test_a_silent_address_does_not_keep_the_next_one_waiting(
    run: Run, pair: Any, echo: Any, two_addresses: str
) -> None:
    configuration = dataclasses.replace(pair.client, server_name="localhost")

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent:
                silent.bind(("::1", port_of(server)))
                async with await connect(two_addresses, port_of(server), configuration=configuration) as connection:
                    assert connection.remote_address[0] == "127.0.0.1"
                await connection.wait_released()

    run(scenario())


def test_the_most_telling_error_is_raised(run: Run, pair: Any, echo: Any, two_addresses: str) -> None:
    configuration = dataclasses.replace(pair.client, server_name="other.test")

    async def scenario() -> None:
        for host in ("127.0.0.1", "::1"):
            async with await serve(host, 0, configuration=pair.server, on_connection=echo) as server:
                with pytest.raises(CertificateError):
                    await connect(two_addresses, port_of(server), configuration=configuration)

    run(scenario())


def test_the_local_address_is_what_was_asked_for(run: Run, pair: Any, echo: Any) -> None:
    async def scenario() -> None:
        async with await serve("0.0.0.0", 0, configuration=pair.server, on_connection=echo) as server:
            connection = await connect(
                "localhost", port_of(server), configuration=pair.client, local_address=("127.0.0.2", 0)
            )
            async with connection:
                assert connection.local_address[0] == "127.0.0.2"
                assert await ask(connection, b"?") == b"echo ?"
            await connection.wait_released()

    run(scenario())


def test_nobody_listens(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            port = gone.getsockname()[1]
        with pytest.raises(ConnectionClosed, match="nobody listens") as caught:
            await connect("127.0.0.1", port, configuration=pair.client)
        assert caught.value.code == TransportErrorCode.CONNECTION_REFUSED
        assert not caught.value.by_peer

    run(scenario())


def test_nobody_answers(run: Run, pair: Any) -> None:
    configuration = dataclasses.replace(pair.client, handshake_timeout=0.05)

    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionTimeout):
                await connect("127.0.0.1", silent.getsockname()[1], configuration=configuration)

    run(scenario())


def test_an_unknown_host_is_an_os_error(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        with pytest.raises(socket.gaierror):
            await connect("host.invalid", 4433, configuration=pair.client)

    run(scenario())


def test_a_certificate_nobody_trusts(run: Run, pair: Any, echo: Any) -> None:
    configuration = dataclasses.replace(pair.client, trust=Trust.system())

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            with pytest.raises(CertificateError):
                await connect("localhost", port_of(server), configuration=configuration)
            assert _sockets() == len(server.addresses)

    run(scenario())


def _sockets() -> int:
    """UDP sockets of ours that are open and that this test has opened."""
    return sum(thing not in _others for thing in _open_sockets())


_others: list[UdpSocket] = []


def _open_sockets() -> list[UdpSocket]:
    return [thing for thing in gc.get_objects() if isinstance(thing, UdpSocket) and thing.fileno() >= 0]


@pytest.fixture(autouse=True)
def _sockets_of_others() -> Iterator[None]:
    """Servers that fixtures of other modules keep open in this process do not count."""
    _others[:] = _open_sockets()
    yield
    _others.clear()


async def _until_only(sockets: int) -> None:
    """A transport closes its socket a few turns of the loop after it was told to."""
    for _ in range(10):
        if _sockets() == sockets:
            return
        await asyncio.sleep(0)
    assert _sockets() == sockets


def test_no_protocol_in_common(run: Run, pair: Any, echo: Any) -> None:
    configuration = dataclasses.replace(pair.client, alpn_protocols=("other",))

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            with pytest.raises(ConnectionClosed) as caught:
                await connect("127.0.0.1", port_of(server), configuration=configuration)
            assert caught.value.code == 0x178
            assert _sockets() == len(server.addresses)

    run(scenario())


# -- cancellation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("datagram_endpoint", [False, True])
def test_a_cancelled_connect_closes_what_it_opened(
    run: Run, pair: Any, echo: Any, cancelled_at: Any, datagram_endpoint: bool
) -> None:
    async def scenario() -> int:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            for point in itertools.count():
                attempt = connect(
                    "localhost",
                    port_of(server),
                    configuration=pair.client,
                    datagram_endpoint=datagram_endpoint,
                )
                opened: list[AsyncConnection] = []

                async def keep(attempt: Any = attempt, opened: list[AsyncConnection] = opened) -> None:
                    opened.append(await attempt)

                if not await cancelled_at(keep(), point):
                    break
                await _until_only(len(server.addresses))
            opened[0].close()
            await opened[0].wait_released()
            return point

    assert run(scenario()) > 1


@pytest.mark.parametrize("datagram_endpoint", [False, True])
def test_a_cancelled_serve_leaves_no_socket(
    run: Run, pair: Any, echo: Any, cancelled_at: Any, datagram_endpoint: bool
) -> None:
    async def scenario() -> None:
        for point in itertools.count():
            served: list[AsyncServer] = []

            async def keep(served: list[AsyncServer] = served) -> None:
                server = await serve(
                    ["127.0.0.1", "localhost", "127.0.0.2"],
                    0,
                    configuration=pair.server,
                    on_connection=echo,
                    datagram_endpoint=datagram_endpoint,
                )
                served.append(server)

            if not await cancelled_at(keep(), point):
                break
            await _until_only(0)
        served[0].close()
        await served[0].wait_closed()

    run(scenario())


def test_every_wait_of_a_connection_can_be_cancelled_wherever_it_suspends(
    run: Run, pair: Any, echo: Any, cancelled_at: Any
) -> None:
    async def scenario() -> None:
        configuration = dataclasses.replace(pair.server, initial_max_streams_bidi=1)
        async with await serve("127.0.0.1", 0, configuration=configuration, on_connection=echo) as server:
            async with await connect("127.0.0.1", port_of(server), configuration=pair.client) as connection:
                stream = await connection.open_stream()
                for wait in (
                    stream.read,
                    stream.read_all,
                    stream.__anext__,
                    connection.open_stream,
                    connection.accept_stream,
                    connection.receive_datagram,
                    connection.wait_closed,
                    connection.wait_released,
                ):
                    assert await cancelled_at(wait(), 0), wait
                # All of it still works.
                connection.send_datagram(b"?")
                assert await connection.receive_datagram() == b"echo ?"
                await stream.write_all(b"?")
                assert await stream.read_all() == b"echo ?"
                assert (await connection.open_stream()).id == 4
            await connection.wait_released()

    run(scenario())


def test_a_cancelled_task_leaves_the_loop_clean(run: Run, pair: Any) -> None:
    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            silent.setblocking(False)
            task = asyncio.ensure_future(connect("127.0.0.1", silent.getsockname()[1], configuration=pair.client))
            await asyncio.get_running_loop().sock_recv(silent, 2000)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # It said goodbye before it left: the address knows that nobody waits for it any more.
            assert await asyncio.get_running_loop().sock_recv(silent, 2000)

    run(scenario())


def test_the_datagram_endpoint_is_chosen_where_no_reader_can_be_added(pair: Any, echo: Any) -> None:
    class Proactor(asyncio.SelectorEventLoop):
        def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
            raise NotImplementedError

    async def scenario() -> None:
        async with await serve("127.0.0.1", 0, configuration=pair.server, on_connection=echo) as server:
            async with await connect("127.0.0.1", port_of(server), configuration=pair.client) as connection:
                assert await ask(connection, b"?") == b"echo ?"
                assert connection.engine.stats().counters.trains_received > 0
            await connection.wait_released()

    with asyncio.Runner(loop_factory=Proactor) as runner:
        runner.run(scenario())

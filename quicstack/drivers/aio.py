"""QUIC with asyncio (or uvloop): ``connect`` and ``serve``.

::

    async with await connect("example.org", 4433, configuration=Configuration(alpn_protocols=("echo",))) as connection:
        stream = await connection.open_stream()
        await stream.write_all(b"hello")
        print(await stream.read_all())
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from quicstack.config import Configuration
from quicstack.drivers.aio_connection import AsyncConnection, ConnectionProtocol
from quicstack.drivers.aio_server import AsyncServer, OnConnection
from quicstack.drivers.aio_stream import AsyncStream
from quicstack.drivers.datagram_endpoint import open_datagram_endpoint
from quicstack.drivers.gate import Gate
from quicstack.drivers.loop import LoopDriver
from quicstack.drivers.pump import give_up_if_unreachable
from quicstack.drivers.resolve import resolve, wildcards
from quicstack.drivers.system import observed, real_environment
from quicstack.drivers.udp import UdpOptions, UdpSocket
from quicstack.drivers.wakeups import wakeups_of
from quicstack.endpoint import Endpoint
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.train import Address, SendError

__all__ = ["AsyncConnection", "AsyncServer", "AsyncStream", "ConnectionProtocol", "UdpOptions", "connect", "serve"]

ATTEMPT_DELAY: Final = 0.25
"""RFC 8305 §5: how long an address has the field for itself before the next one is tried beside it."""

Start = Callable[[Address], Awaitable["_Attempt"]]


async def connect(
    host: str,
    port: int,
    *,
    configuration: Configuration,
    options: UdpOptions | None = None,
    local_address: Address | None = None,
    datagram_endpoint: bool = False,
) -> AsyncConnection:
    """A connection whose handshake is complete; raises what closed it otherwise.

    With ``configuration.early_data``, and a session of that server, it returns at once: what is written then goes out
    in 0-RTT packets. ``connection.wait_connected()`` waits for the handshake, and ``engine.early_data_accepted`` then
    says what became of them; if they were rejected, the data has gone out again by itself.

    All addresses of ``host`` are tried in the system's order, each after the one before was refused or had 250 ms
    (RFC 8305); the first whose handshake completes is taken. ``configuration.server_name`` defaults to ``host``.
    """
    loop = asyncio.get_running_loop()
    configuration = observed(configuration)
    configuration = configuration.for_server(host.partition("%")[0])
    addresses = await resolve(host, port, loop)
    if local_address is not None:
        addresses = [address for address in addresses if (":" in address[0]) == (":" in local_address[0])]
    changed = Gate(wakeups_of(loop))

    async def start(address: Address) -> _Attempt:
        attempt = _Attempt(configuration, loop, changed.open)
        udp = UdpSocket.towards(address, local_address=local_address, options=options)
        await attempt.start(udp, address, datagram_endpoint)
        return attempt

    return await _first_connected(addresses, start, changed, loop)


class _Attempt:
    """A connection on its way, with a socket of its own."""

    connection: AsyncConnection

    def __init__(
        self, configuration: Configuration, loop: asyncio.AbstractEventLoop, on_change: Callable[[], None]
    ) -> None:
        endpoint = Endpoint(configuration, environment=real_environment(), server=False)
        self.driver = LoopDriver(endpoint, loop, on_change=on_change, on_failure=self._failed)

    async def start(self, udp: UdpSocket, address: Address, datagram_endpoint: bool) -> None:
        path = udp.path_to(address)
        try:
            await carry(self.driver, udp, datagram_endpoint)
            self.connection = self.driver.adopt(self.driver.endpoint.connect(path, time.monotonic()))
        except BaseException:
            self.driver.finish()
            raise
        self.driver.finish_when_idle()

    def _failed(self, error: SendError) -> None:
        give_up_if_unreachable(self.connection.engine, error)

    def keep(self) -> AsyncConnection:
        """This is the one."""
        self.driver.on_change = self.driver.on_failure = None
        return self.connection

    def abandon(self) -> None:
        """Say goodbye and leave nothing behind: who closes the socket need not linger (RFC 9000 §10.2)."""
        self.connection.close()
        self.driver.flush_now()
        self.driver.finish()


async def _first_connected(
    addresses: Sequence[Address], start: Start, changed: Gate, loop: asyncio.AbstractEventLoop
) -> AsyncConnection:
    waiting = deque(addresses)
    attempts: list[_Attempt] = []
    errors: list[Exception] = []
    try:
        while True:
            for attempt in list(attempts):
                engine = attempt.connection.engine
                if engine.closed is not None:
                    errors.append(engine.closed)
                    attempts.remove(attempt)
                    attempt.abandon()
                elif engine.handshake_complete or engine.sends_early_data:
                    attempts.remove(attempt)
                    return attempt.keep()
            if not attempts and not waiting:
                raise _most_telling(errors)
            # The delay is over, or there is nothing to wait for.
            if waiting and (not attempts or not await _within(ATTEMPT_DELAY, changed, loop)):
                try:
                    attempts.append(await start(waiting.popleft()))
                except OSError as error:
                    errors.append(error)
            elif not waiting:
                await changed.wait()
    finally:
        for attempt in attempts:
            attempt.abandon()


async def _within(delay: float, changed: Gate, loop: asyncio.AbstractEventLoop) -> bool:
    """Wait for a change; False when the delay passed first."""
    deadline = time.monotonic() + delay
    timer = loop.call_later(delay, changed.open)
    try:
        await changed.wait()
    finally:
        timer.cancel()
    return time.monotonic() < deadline


def _most_telling(errors: Sequence[Exception]) -> Exception:
    """Of what went wrong at each address, what the peer or TLS said before what the network said."""
    for error in errors:
        refused = isinstance(error, ConnectionClosed) and error.code == TransportErrorCode.CONNECTION_REFUSED
        if not refused and not isinstance(error, OSError):
            return error
    return errors[0] if errors else OSError(errno.EADDRNOTAVAIL, "no address of the host suits the local address")


async def carry(driver: LoopDriver, udp: UdpSocket, datagram_endpoint: bool) -> None:
    """Let ``driver`` send and receive with ``udp``, in the way that its loop offers."""
    if not datagram_endpoint:
        try:
            driver.add_socket(udp)
            return
        except NotImplementedError:  # the Proactor loop of Windows
            pass
        except BaseException:
            udp.close()
            raise
    await open_datagram_endpoint(driver, udp)


async def serve(
    host: str | Sequence[str] | None,
    port: int,
    *,
    configuration: Configuration,
    on_connection: OnConnection,
    options: UdpOptions | None = None,
    datagram_endpoint: bool = False,
) -> AsyncServer:
    """Listen, on every address of this machine (IPv6 and IPv4) if ``host`` is None, "" or "::".

    ``on_connection`` is called for each connection whose handshake is complete; if it returns an awaitable, the server
    runs it as a task. What it raises is logged and closes that connection.
    """
    loop = asyncio.get_running_loop()
    endpoint = Endpoint(observed(configuration), environment=real_environment(), server=True)
    addresses: list[Address] = []
    for name in wildcards(host):
        addresses += await resolve(name, port, loop)
    server = AsyncServer(endpoint, loop, on_connection)
    sockets = deque(_bind_all(list(dict.fromkeys(addresses)), options or UdpOptions(), falls_back=not host))
    _bind_preferred(sockets, configuration, options or UdpOptions())
    try:
        while sockets:
            await carry(server.driver, sockets.popleft(), datagram_endpoint)
    except BaseException:
        server.driver.finish()
        for udp in sockets:
            udp.close()
        raise
    return server


def _bind_preferred(sockets: deque[UdpSocket], configuration: Configuration, options: UdpOptions) -> None:
    """RFC 9000 §9.6: listen where clients are sent to, unless that is somebody else's or has a socket already."""
    try:
        for preferred in (configuration.preferred_ipv4, configuration.preferred_ipv6):
            if preferred is not None and all(udp.address[1] != preferred[1] for udp in sockets):
                with contextlib.suppress(OSError):
                    sockets.append(UdpSocket.bind(preferred, options=options, index=len(sockets)))
    except BaseException:
        for udp in sockets:
            udp.close()
        raise


def _bind_all(addresses: Sequence[Address], options: UdpOptions, *, falls_back: bool) -> list[UdpSocket]:
    """A socket for each address, all on the same port. Addresses this machine does not have are passed over, unless
    none is left."""
    dual_stack = all(":" in address[0] for address in addresses)
    sockets: list[UdpSocket] = []
    refused: OSError | None = None
    port = 0
    candidates = [*addresses, ("0.0.0.0", addresses[0][1])] if falls_back else addresses
    try:
        for address in candidates:
            if falls_back and sockets:
                break
            place = (address[0], address[1] or port, *address[2:])
            try:
                sockets.append(UdpSocket.bind(place, options=options, index=len(sockets), dual_stack=dual_stack))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                refused = error
                continue
            port = port or sockets[-1].address[1]
        if refused is not None and not sockets:
            raise refused
    except BaseException:
        for udp in sockets:
            udp.close()
        raise
    return sockets

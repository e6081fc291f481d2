"""QUIC for scripts without an event loop: calls that wait, on ``select``.

::

    with connect("example.org", 4433, configuration=Configuration(alpn_protocols=("echo",))) as connection:
        stream = connection.open_stream()
        stream.write_all(b"hello")
        print(stream.read_all())

Packets move only while one of these calls waits; a script that computes for longer than the idle timeout calls
``process`` in between. Each call takes a ``timeout`` in seconds and raises :class:`TimeoutError`; nothing is lost then.
Connections of one server share its sockets and are served by one thread, whichever of them a call waits for.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.drivers.blocking_stream import BlockingStream
from quicstack.drivers.busy_poll import habit_of
from quicstack.drivers.pump import Pump, forget_connections, give_up_if_unreachable
from quicstack.drivers.system import observed, real_environment
from quicstack.drivers.udp import UdpOptions, UdpSocket
from quicstack.endpoint import Endpoint
from quicstack.errors import ConnectionTimeout, QuicstackError, StreamLimitReached, once_more
from quicstack.train import Address
from quicstack.transport.stream import Stream

__all__ = ["BlockingConnection", "BlockingServer", "BlockingStream", "connect", "listen"]

T = TypeVar("T")


class SelectDriver:
    """An endpoint on ``select``: the loop runs inside the calls that wait."""

    def __init__(self, endpoint: Endpoint, udp: UdpSocket) -> None:
        self.endpoint = endpoint
        self.udp = udp
        self.connections: dict[Connection, BlockingConnection] = {}
        self.accepted: deque[BlockingConnection] = deque()
        self.is_finished = False
        self._pump = Pump(endpoint)
        self._pump.carriers.append(udp)
        self._habit = habit_of(udp.options.busy_poll)
        self._stays_awake = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(udp, selectors.EVENT_READ)

    def adopt(self, engine: Connection) -> BlockingConnection:
        connection = self.connections.get(engine)
        if connection is None:
            connection = self.connections[engine] = BlockingConnection(engine, self)
        return connection

    def until(self, condition: Callable[[], T | None], timeout: float | None) -> T:
        """Run until ``condition`` returns something, or raises."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            value = condition()
            self.send()
            if value is not None:
                return value
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"nothing happened within {timeout:g} s")
            self._turn(left)

    def process(self, duration: float) -> None:
        """Run for so long."""
        deadline = time.monotonic() + duration
        while (left := deadline - time.monotonic()) > 0:
            self.send()
            self._turn(left)

    def _turn(self, patience: float | None) -> None:
        """Wait for a datagram, room in the socket or a deadline, and take it in."""
        if self.is_finished:
            raise ConnectionTimeout("the socket is closed")
        delay = self._pump.delay()
        if patience is not None and (delay is None or patience < delay):
            delay = patience
        wanted = selectors.EVENT_READ if self._pump.waiting is None else selectors.EVENT_READ | selectors.EVENT_WRITE
        if self._selector.get_key(self.udp).events != wanted:
            self._selector.modify(self.udp, wanted)
        if any(events & selectors.EVENT_READ for _, events in self._select(delay)):
            self._pump.receive(self.udp)
        self._pump.expire()
        if self._dispatch() and self._habit is not None:
            self._stays_awake = self._habit.came(time.monotonic(), self._pump.take_moved())

    def _select(self, delay: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, at first without sleeping if that has paid (``busy_poll``)."""
        if self._stays_awake and self._habit is not None:
            duration = self._habit.duration
            busy = duration if delay is None else min(duration, delay)
            delay = None if delay is None else delay - busy
            end = time.monotonic() + busy
            while time.monotonic() < end:
                if found := self._selector.select(0):
                    return found
            self._stays_awake = False
            if busy == duration:
                self._habit.in_vain()
        return self._selector.select(delay)

    def send(self) -> None:
        """Send what the engine has, as far as the socket takes it."""
        while not self.is_finished and self._pump.send():
            pass
        if self._pump.failure is not None:
            failure, self._pump.failure = self._pump.failure, None
            for engine in self.connections:
                if engine.is_client:
                    give_up_if_unreachable(engine, failure)

    def _dispatch(self) -> bool:
        """Take over what connections have; True if any has something."""
        engines = self.endpoint.take_ready()
        for engine in engines:
            connection = self.adopt(engine)
            ready = engine.take_ready()
            connection.take(ready.streams)
            if (
                (engine.handshake_complete or engine.may_be_a_replay)
                and not engine.is_client
                and not connection.is_reported
            ):
                connection.is_reported = True
                self.accepted.append(connection)
            if engine.terminated:
                engine.disown_streams()  # or they and the connection would hold each other
                del self.connections[engine]
                if connection in self.accepted:  # or those that come and go would pile up where nobody accepts them
                    self.accepted.remove(connection)
        return bool(engines)

    def finish(self) -> None:
        if not self.is_finished:
            self.send()
            self.is_finished = True
            self._selector.close()
            self.udp.close()
            forget_connections(self.endpoint)
            for engine in self.connections:
                engine.disown_streams()
            self.connections.clear()


class BlockingConnection:
    """``engine`` is the connection itself."""

    def __init__(self, engine: Connection, driver: SelectDriver) -> None:
        self.engine = engine
        self.is_reported = False
        self._driver = driver
        self._streams: deque[BlockingStream] = deque()

    def __enter__(self) -> BlockingConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local_address(self) -> Address:
        return self.engine.path.local or self._driver.udp.address

    @property
    def remote_address(self) -> Address:
        """Where the peer is; a new address of it counts from when it is proven (RFC 9000 §9.3.1)."""
        return self.engine.proven_path.remote

    @property
    def closed(self) -> QuicstackError | None:
        """Why the connection is over, from the moment that it is."""
        return self.engine.closed

    def check_open(self) -> None:
        if self.engine.closed is not None:
            raise once_more(self.engine.closed)

    def flush(self) -> None:
        """Send what was asked of ``engine``, as far as the socket takes it."""
        self._driver.send()

    def until(self, condition: Callable[[], T | None], timeout: float | None) -> T:
        """Move packets until ``condition`` returns something or raises; TimeoutError after ``timeout`` seconds."""
        return self._driver.until(condition, timeout)

    def process(self, duration: float) -> None:
        """Only move packets, for so many seconds."""
        self._driver.process(duration)

    # -- streams and datagrams -----------------------------------------------------------------------------------

    def open_stream(self, unidirectional: bool = False, *, timeout: float | None = None) -> BlockingStream:
        """A new stream, as soon as the peer allows one more."""

        def opened() -> BlockingStream | None:
            self.check_open()
            try:
                return BlockingStream(self.engine.open_stream(unidirectional=unidirectional), self)
            except StreamLimitReached:
                return None

        return self.until(opened, timeout)

    def accept_stream(self, *, timeout: float | None = None) -> BlockingStream:
        """The next stream that the peer opened."""

        def accepted() -> BlockingStream | None:
            if self._streams:
                stream = self._streams.popleft()
                stream.engine.let_go()
                return stream
            self.check_open()
            return None

        return self.until(accepted, timeout)

    def send_datagram(self, data: bytes) -> bool:
        """Send a datagram (RFC 9221); False if the queue is full and it was dropped."""
        sent = self.engine.send_datagram(data)
        self._driver.send()
        return sent

    def receive_datagram(self, *, timeout: float | None = None) -> bytes:
        """The next datagram."""

        def received() -> bytes | None:
            data = self.engine.receive_datagram()
            if data is None:
                self.check_open()
            return data

        return self.until(received, timeout)

    def receive_datagrams(self, *, timeout: float | None = None) -> list[bytes]:
        """All that wait, at least one, in the order in which they came."""

        def received() -> list[bytes] | None:
            found = self.engine.receive_datagrams()
            if not found:
                self.check_open()
            return found or None

        return self.until(received, timeout)

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close at once. A client's socket is closed too, which ends the closing state early (RFC 9000 §10.2)."""
        self.engine.close(code, reason, now=time.monotonic())
        self._driver.send()
        if self.engine.is_client:
            self._driver.finish()

    def wait_connected(self, *, timeout: float | None = None) -> None:
        """Until the handshake is complete; raises what closed the connection before."""

        def connected() -> bool | None:
            self.check_open()
            return self.engine.handshake_complete or None

        self.until(connected, timeout)

    def wait_closed(self, *, timeout: float | None = None) -> QuicstackError:
        """Why the connection is over, once it is."""
        return self.until(lambda: self.engine.closed, timeout)

    def take(self, streams: list[Stream]) -> None:
        """Streams that changed; those new from the peer wait for ``accept_stream``."""
        for stream in streams:
            if not stream.is_local and stream.owner is None:
                stream.owner = self
                stream.hold()  # or the peer could open and reset streams that nobody accepts without end
                self._streams.append(BlockingStream(stream, self))


class BlockingServer:
    """Accepts connections on one socket; ``with`` closes it."""

    def __init__(self, driver: SelectDriver) -> None:
        self._driver = driver

    def __enter__(self) -> BlockingServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> Address:
        return self._driver.udp.address

    def accept(self, *, timeout: float | None = None) -> BlockingConnection:
        """The next connection whose handshake is complete."""
        accepted = self._driver.accepted
        return self._driver.until(lambda: accepted.popleft() if accepted else None, timeout)

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close all connections and the socket."""
        self._driver.endpoint.close(time.monotonic(), code, reason)
        self._driver.finish()


def connect(
    host: str,
    port: int,
    *,
    configuration: Configuration,
    options: UdpOptions | None = None,
    timeout: float | None = None,
) -> BlockingConnection:
    """A connection whose handshake is complete. The addresses of ``host`` are tried one after another.

    With ``configuration.early_data``, and a session of that server, it returns at once, and what is written goes out in
    0-RTT packets; ``wait_connected`` waits for the handshake.
    """
    configuration = observed(configuration)
    configuration = configuration.for_server(host.partition("%")[0])
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    addresses: list[Address] = list(dict.fromkeys(address for *_, address in found))
    while True:
        address = addresses.pop(0)
        try:
            return _connect_to(address, configuration, options, timeout)
        except (QuicstackError, OSError):
            if not addresses:
                raise


def _connect_to(
    address: Address, configuration: Configuration, options: UdpOptions | None, timeout: float | None
) -> BlockingConnection:
    endpoint = Endpoint(configuration, environment=real_environment(), server=False)
    udp = UdpSocket.towards(address, options=options)
    driver = SelectDriver(endpoint, udp)
    try:
        connection = driver.adopt(endpoint.connect(udp.path_to(address), time.monotonic()))

        def connected() -> bool | None:
            connection.check_open()
            return connection.engine.handshake_complete or connection.engine.sends_early_data or None

        driver.until(connected, timeout)
        return connection
    except BaseException:
        endpoint.close(time.monotonic())
        driver.finish()
        raise


def listen(host: str, port: int, *, configuration: Configuration, options: UdpOptions | None = None) -> BlockingServer:
    """Listen on one address; "" or "::" is every address of this machine, IPv6 and IPv4."""
    found = socket.getaddrinfo(host or "::", port, type=socket.SOCK_DGRAM)
    endpoint = Endpoint(observed(configuration), environment=real_environment(), server=True)
    return BlockingServer(SelectDriver(endpoint, UdpSocket.bind(found[0][4], options=options, dual_stack=True)))

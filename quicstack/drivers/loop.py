"""An endpoint on an asyncio event loop: readiness of sockets, one timer, and who is woken when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from quicstack.connection.connection import Connection
from quicstack.drivers.aio_connection import AsyncConnection
from quicstack.drivers.busy_poll import BusyPoll, habit_of
from quicstack.drivers.gate import Gate
from quicstack.drivers.pump import SHORTEST_TIMER, Carrier, Pump, Source, forget_connections
from quicstack.drivers.udp import UdpSocket
from quicstack.drivers.wakeups import wakeups_of
from quicstack.endpoint import Endpoint
from quicstack.train import Address, Path, SendError

__all__ = ["LoopDriver"]

LINGER = 1.0
"""Seconds for which the socket of a path that was left goes on reading."""


class LoopDriver:
    """One wake-up handles a batch: trains in, applications woken, and after they have run, trains out.

    So what an application answers leaves together with the acknowledgement of what it was asked. Tasks that wait for a
    stream or a datagram go on within the turn (drivers/wakeups.py); for others one more turn is waited.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        loop: asyncio.AbstractEventLoop,
        *,
        on_connection: Callable[[AsyncConnection], None] | None = None,
        on_change: Callable[[], None] | None = None,
        on_failure: Callable[[SendError], None] | None = None,
    ) -> None:
        self.loop = loop
        self.wakeups = wakeups_of(loop)
        self.endpoint = endpoint
        self.pump = Pump(endpoint)
        self.sockets: list[UdpSocket] = []
        self.addresses: list[Address] = []
        self.on_change = on_change
        self.on_failure = on_failure
        self._on_connection = on_connection
        self._connections: dict[Connection, AsyncConnection] = {}
        self._closers: list[Callable[[], None]] = []
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._lingering: list[asyncio.TimerHandle] = []
        self._blocked: UdpSocket | None = None
        self._dispatching = False
        self._is_telling = False
        self._is_answered = False
        self._is_last = False
        self._is_finished = False
        self._busy_poll: BusyPoll | None = None
        self._finished = Gate(self.wakeups)

    # -- sockets -------------------------------------------------------------------------------------------------

    def add_socket(self, udp: UdpSocket) -> None:
        """Carry trains by this socket. NotImplementedError where the loop cannot watch one."""
        self.loop.add_reader(udp.fileno(), self.readable, udp)
        self.note_socket(udp)
        self.add_carrier(udp, udp.address, partial(self._remove_socket, udp))

    def note_socket(self, udp: UdpSocket) -> None:
        """A socket by which trains are carried, here or by a datagram transport."""
        self.sockets.append(udp)
        if self._busy_poll is None and (habit := habit_of(udp.options.busy_poll)) is not None:
            self._busy_poll = BusyPoll(self.loop, habit)

    def add_carrier(self, carrier: Carrier, address: Address, close: Callable[[], None]) -> None:
        """Carry trains by something else; their ``Path.socket`` is its place in the order of adding."""
        self.pump.carriers.append(carrier)
        self.addresses.append(address)
        self._closers.append(close)

    def open_path(self, remote: Address, local_address: Address | None) -> Path:
        """A client's further path, with a socket of its own. NotImplementedError where the loop cannot watch one."""
        options = self.sockets[0].options if self.sockets else None
        index = len(self.pump.carriers)
        udp = UdpSocket.towards(remote, local_address=local_address, options=options, index=index)
        try:
            self.add_socket(udp)
        except BaseException:
            udp.close()
            raise
        return udp.path_to(remote)

    def close_path(self, path: Path) -> None:
        """No connection uses this path any more. What is still on its way there is read for a while."""
        carrier = self.pump.carriers[path.socket]
        if isinstance(carrier, UdpSocket) and not self._is_finished:
            self._lingering.append(self.loop.call_later(LINGER, self._remove_socket, carrier))

    def _remove_socket(self, udp: UdpSocket) -> None:
        if udp.fileno() < 0:
            return
        if not self.loop.is_closed():
            self.loop.remove_reader(udp.fileno())
            if self._blocked is udp:
                self.loop.remove_writer(udp.fileno())
        udp.close()

    def local_address(self, connection: Connection) -> Address:
        path = connection.path
        return path.local or self.addresses[path.socket]

    # -- turns ---------------------------------------------------------------------------------------------------

    def readable(self, source: Source) -> None:
        """Take in what came, then either send or first let the applications that were woken run."""
        self.pump.receive(source)
        has_news = self._react()
        if has_news and self._busy_poll is not None and not self._is_finished:  # anybody can send what is none
            self._busy_poll.came(self.pump.take_moved())

    def flush(self) -> None:
        if self._dispatching:
            return  # what an upper layer has to say by itself leaves with what the application will say
        if self._is_telling:
            self._is_answered = True
        elif self._turn is None and not self._is_finished:
            self._turn = self.loop.call_soon(self._run)

    def flush_now(self) -> None:
        if self._dispatching or self.loop.is_closed():
            self.flush_if_possible()
        elif not self._is_finished:
            self._run()

    def send_now(self) -> None:
        if not self._dispatching:  # else it is sent when all have been told
            self._send()

    def flush_if_possible(self) -> None:
        """``flush``, harmless on a loop that was closed."""
        if self.loop.is_closed():
            self.finish()
        else:
            self.flush()

    def writable(self) -> None:
        """The socket that was full has room again."""
        if self._blocked is not None:
            self.loop.remove_writer(self._blocked.fileno())
            self._blocked = None
        self._send()

    def _react(self) -> bool:
        """Let applications know, and send. True if there was anything to know."""
        if self.on_change is not None:
            self._send()  # connecting: the end of the handshake waits for no application, and is a datagram of its own
        has_news = self._tell()
        if has_news and not self._is_answered:
            self.flush()
        else:
            self._send()
        return has_news

    def _run(self) -> None:
        self._turn = None
        self._send()
        if self._tell():
            self.flush()

    def _tell(self) -> bool:
        """Let applications know what changed; True if there was anything. ``_is_answered``: one has sent something."""
        self._is_answered = False
        self._is_telling = True
        try:
            return self._dispatch()
        finally:
            self.wakeups.step_all()
            self._is_telling = False

    def _send(self) -> None:
        if self._is_finished:
            return
        if self._blocked is None:
            more = self.pump.send()
            waiting = self.pump.waiting
            if waiting is not None:
                self._wait_until_writable(waiting.path.socket)
            elif more:
                self.flush()
        if self.pump.failure is not None:
            self._failed(self.pump.failure)
        self._set_timer()

    def _failed(self, error: SendError) -> None:
        self.pump.failure = None
        if self.on_failure is not None:
            self.on_failure(error)
            self.flush()

    def _wait_until_writable(self, index: int) -> None:
        carrier = self.pump.carriers[index]
        if isinstance(carrier, UdpSocket):  # a datagram transport calls ``writable`` by itself
            self._blocked = carrier
            self.loop.add_writer(carrier.fileno(), self.writable)

    # -- the timer -----------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Move the timer if the deadline is earlier; one that fires too early only looks again."""
        deadline = self.endpoint.next_timeout()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(deadline - time.monotonic(), SHORTEST_TIMER)
        self._timer = self.loop.call_later(delay, self._expired)
        self._timer_at = deadline

    def _expired(self) -> None:
        self._timer = None
        self.pump.expire()
        self._react()

    # -- connections ---------------------------------------------------------------------------------------------

    def adopt(self, engine: Connection) -> AsyncConnection:
        """The ``async`` face of a connection, the same one each time."""
        connection = self._connections.get(engine)
        if connection is None:
            connection = self._connections[engine] = AsyncConnection(engine, self)
        return connection

    def _dispatch(self) -> bool:
        """Tell connections what changed; True if there was anything to tell."""
        engines = self.endpoint.take_ready()
        if engines and not self._dispatching:
            self._dispatching = self.wakeups.are_collected = True
            try:
                for engine in engines:
                    self._process(self.adopt(engine))
            finally:
                self._dispatching = False
        if engines and self.on_change is not None:
            self.on_change()
        if self._is_last and not self.endpoint.connections:
            self.finish()
        return bool(engines)

    def _process(self, connection: AsyncConnection) -> None:
        engine = connection.engine
        try:
            if connection.opens() and self._on_connection is not None:
                self._on_connection(connection)
            connection.process()
        except Exception as error:
            connection.fail(error)
        if engine.terminated:
            self._connections.pop(engine, None)
            connection.released()

    # -- the end -------------------------------------------------------------------------------------------------

    def finish_when_idle(self) -> None:
        """No connection will come after those that are there: when they are gone, so is this."""
        self._is_last = True
        self.flush_if_possible()

    def finish(self) -> None:
        """Close the sockets now. What was closing stops answering (RFC 9000 §10.2 permits it)."""
        if self._is_finished:
            return
        self._is_finished = True
        for handle in (self._turn, self._timer, *self._lingering):
            if handle is not None:
                handle.cancel()
        self._turn = self._timer = None
        if self._busy_poll is not None:
            self._busy_poll.end()
        for close in self._closers:
            close()
        self._closers.clear()  # they hold this driver
        forget_connections(self.endpoint)
        for connection in self._connections.values():
            connection.released()
        self._connections.clear()
        self._finished.open()

    def release(self) -> None:
        """``finish`` without waiting for closing and draining, if that is all that is left to do."""
        if self._is_last and all(connection.closed is not None for connection in self.endpoint.connections):
            self.finish()

    async def wait_finished(self) -> None:
        """Until the sockets are closed."""
        while not self._is_finished:
            await self._finished.wait()

    def snapshot(self) -> list[dict[str, Any]]:
        """Statistics of each socket."""
        return [udp.snapshot() for udp in self.sockets]

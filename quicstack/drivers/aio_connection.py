"""A connection for ``async`` code: waits for streams, credit, datagrams and the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from types import TracebackType
from typing import Final, Protocol

from quicstack.connection.connection import Connection, Ready
from quicstack.drivers.aio_stream import AsyncStream
from quicstack.drivers.gate import Gate
from quicstack.drivers.wakeups import wakeups_of
from quicstack.errors import (
    ConnectionClosed,
    MigrationFailed,
    QuicstackError,
    StreamLimitReached,
    TransportErrorCode,
    once_more,
)
from quicstack.train import Address, Path
from quicstack.transport.path import MigrationOutcome
from quicstack.transport.stream import Stream

__all__ = ["AsyncConnection", "ConnectionDriver", "ConnectionProtocol"]

logger = logging.getLogger("quicstack")

_NONE: deque[AsyncStream] = deque()
"""What all connections share that have no stream to accept: an empty deque takes 760 bytes."""
MESSAGES_TOGETHER: Final = 16
"""Messages that may wait for the end of a turn of the loop, less one."""
FINISHED_KEPT: Final = 64
"""Finished streams that may be kept until somebody looks for them."""


class ConnectionProtocol(Protocol):
    """An upper layer, HTTP/3 for one. ``process`` is called with each batch of changes and must not block."""

    def process(self, ready: Ready) -> None: ...


class ConnectionDriver(Protocol):
    """What moves the packets of a connection."""

    loop: asyncio.AbstractEventLoop

    def flush(self) -> None:
        """Send soon: the engine has something new."""

    def flush_now(self) -> None:
        """Send at once, if that can be."""

    def send_now(self) -> None:
        """Send at once what there is, and tell nobody anything."""

    def local_address(self, connection: Connection) -> Address: ...

    def open_path(self, remote: Address, local_address: Address | None) -> Path:
        """A path from another socket."""
        ...

    def close_path(self, path: Path) -> None:
        """That socket is not needed any more."""

    def release(self) -> None:
        """Close the sockets now if only connections that are closing use them, and no others will come."""


class AsyncConnection:
    """``engine`` is the connection itself; whoever calls it directly calls ``flush`` afterwards."""

    def __init__(self, engine: Connection, driver: ConnectionDriver) -> None:
        self.engine = engine
        self.loop = driver.loop
        self.wakeups = wakeups_of(driver.loop)
        self._driver = driver
        self._protocol: ConnectionProtocol | None = None
        self._streams: dict[int, AsyncStream] = {}
        self._most_streams = FINISHED_KEPT
        self._accepted = _NONE
        self._messages = 0
        self._is_open = False
        self._is_closed = False
        self._is_released = False
        self._new_streams = Gate(self.wakeups)
        self._credit = Gate(self.wakeups)
        self._datagrams = Gate(self.wakeups)
        self._state = Gate(self.wakeups)

    def __repr__(self) -> str:
        return f"<AsyncConnection {self.engine!r}>"

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> QuicstackError | None:
        """Why the connection is over, from the moment that it is."""
        return self.engine.closed

    @property
    def local_address(self) -> Address:
        """Where we receive. A client that is not bound to an address shows the wildcard."""
        return self._driver.local_address(self.engine)

    @property
    def remote_address(self) -> Address:
        """Where the peer is; a new address of it counts from when it is proven (RFC 9000 §9.3.1)."""
        return self.engine.proven_path.remote

    def flush(self) -> None:
        """The engine was touched: send what it has, soon and once for many calls."""
        self._driver.flush()

    def flush_message(self) -> None:
        """``flush``, after the end of a message was written.

        Every sixteenth makes those before it leave at once. Else a peer that has many requests under way would wait
        until all of a batch are answered, and we for all of the next: with 50 it was half the rate.
        """
        self._messages += 1
        if self._messages < MESSAGES_TOGETHER:
            self._driver.flush()
        else:
            self._messages = 0
            self._driver.send_now()

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close at once, without waiting for the network; closing goes on in the background."""
        self._close(code, reason, transport=False)

    def _close(self, code: int, reason: str, *, transport: bool) -> None:
        if self.engine.closed is None:
            self.engine.close(code, reason, transport=transport, now=time.monotonic())
            self._driver.flush_now()

    async def wait_closed(self) -> QuicstackError:
        """Why the connection is over, once it is: ConnectionClosed, ConnectionTimeout, CertificateError ..."""
        while (error := self.engine.closed) is None:
            await self._state.wait()
        return error

    async def wait_connected(self) -> None:
        """Until the handshake is complete; raises what closed the connection before."""
        while not self.engine.handshake_complete:
            self._check_open()
            await self._state.wait()

    async def wait_released(self) -> None:
        """Until nothing of it is left: closing and draining are over and, on a client, the socket is closed."""
        while not self._is_released:
            await self._state.wait()

    def release(self) -> None:
        """Let go of a connection that is closed: a client's socket does not stay open for what the peer still sends.

        RFC 9000 §10.2 permits it; if CONNECTION_CLOSE was lost, the peer learns of the end by its idle timeout.
        """
        if self.engine.closed is not None:
            self._driver.release()

    async def migrate(self, *, local_address: Address | None = None) -> None:
        """Client: go on from another socket (RFC 9000 §9.2), bound to ``local_address`` or wherever the system says.

        Returns when the new path is proven and in use. MigrationRefused where the server forbids it or it cannot be
        now, MigrationFailed when packets do not get through; the connection then stays where it is.
        """
        self._check_open()
        old = self.engine.path
        path = self._driver.open_path(old.remote, local_address)
        left = path
        try:
            migration = self.engine.migrate(path, time.monotonic())
            self.flush()
            while migration.outcome is MigrationOutcome.VALIDATING:
                self._check_open()
                await self._state.wait()
            if migration.outcome is MigrationOutcome.FAILED:
                raise MigrationFailed(f"no answer from {old.remote} by way of {path.local or 'another socket'}")
            left = old
        finally:
            if left is old or self.engine.path != path:
                self._driver.close_path(left)

    def ping(self) -> None:
        """Make the peer acknowledge something; keeps the connection from becoming idle."""
        self.engine.ping()
        self.flush()

    def _check_open(self) -> None:
        if self.engine.closed is not None:
            raise once_more(self.engine.closed)

    # -- streams -------------------------------------------------------------------------------------------------

    async def open_stream(self, unidirectional: bool = False) -> AsyncStream:
        """A new stream; waits until the peer allows one more."""
        while True:
            self._check_open()
            try:
                return self.stream(self.engine.open_stream(unidirectional=unidirectional))
            except StreamLimitReached:
                self.flush()  # STREAMS_BLOCKED
                await self._credit.wait()

    async def accept_stream(self) -> AsyncStream:
        """The next stream that the peer opened. Raises what closed the connection when there are no more."""
        while not self._accepted:
            self._check_open()
            await self._new_streams.wait()
        stream = self._accepted.popleft()
        stream.engine.let_go()
        if stream.engine.finished:
            self.flush()  # the peer may open another one in its place
        return stream

    def stream(self, engine: Stream) -> AsyncStream:
        """The ``async`` face of an engine's stream, the same one each time."""
        stream = self._streams.get(engine.id)
        if stream is None:
            if len(self._streams) >= self._most_streams:
                self._forget_finished()
            stream = self._streams[engine.id] = AsyncStream(engine, self)
        return stream

    def _forget_finished(self) -> None:
        """Most streams end by what the application does, not by what arrives, so they are looked for now and then."""
        self._streams = {stream.id: stream for stream in self._streams.values() if not stream.engine.finished}
        self._most_streams = 2 * len(self._streams) + FINISHED_KEPT

    # -- datagrams -----------------------------------------------------------------------------------------------

    def send_datagram(self, data: bytes) -> bool:
        """Queue a datagram (RFC 9221); False if the queue is full and it was dropped."""
        sent = self.engine.send_datagram(data)
        self._driver.flush()
        return sent

    async def receive_datagram(self) -> bytes:
        """The next datagram. Raises what closed the connection."""
        while (data := self.engine.receive_datagram()) is None:
            self._check_open()
            await self._datagrams.wait()
        return data

    async def receive_datagrams(self) -> list[bytes]:
        """All that wait, at least one, in the order in which they came. Raises what closed the connection."""
        while not (found := self.engine.receive_datagrams()):
            self._check_open()
            await self._datagrams.wait()
        return found

    # -- upper layers --------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: ConnectionProtocol) -> None:
        """Give everything from now on to ``protocol``, starting with the streams that nobody accepted yet."""
        self._protocol = protocol
        waiting = [stream.engine for stream in self._accepted]
        self._accepted.clear()
        for engine in waiting:
            engine.let_go()
        protocol.process(Ready(waiting, True, True, True))
        self.flush()

    # -- from the driver -----------------------------------------------------------------------------------------

    def opens(self) -> bool:
        """True once: when the handshake has become complete, or at a server when 0-RTT data can be read."""
        engine = self.engine
        if self._is_open or not (engine.handshake_complete or engine.may_be_a_replay):
            return False
        self._is_open = True
        logger.info(
            "%s opened: version %#x, %s, %s, alpn %r, peer %s",
            engine.original_dcid.hex(),
            engine.version,
            engine.cipher_suite_name,
            engine.group_name,
            engine.alpn_protocol,
            engine.path.remote,
        )
        return True

    def process(self) -> None:
        """The engine changed: wake whoever waits for that, then let the upper layer look."""
        self._messages = 0
        ready = self.engine.take_ready()
        if ready.state_changed:
            self._state_changed()
        for engine in ready.streams:
            stream = self._streams.get(engine.id)
            if stream is not None:
                stream.wake()
            elif self._protocol is None and not engine.is_local and engine.owner is None:
                engine.hold()  # or the peer could open and reset streams that nobody accepts without end
                if not self._accepted:
                    self._accepted = deque()
                self._accepted.append(self.stream(engine))
                self._new_streams.open()
        if ready.streams_allowed:
            self._credit.open()
        if ready.datagrams:
            self._datagrams.open()
        if self._protocol is not None:
            self._protocol.process(ready)

    def released(self) -> None:
        """The driver has forgotten the connection."""
        self._is_released = True
        self._streams.clear()  # which hold the connection, as the protocol does, and what it owns
        self._protocol = None
        self.engine.disown_streams()
        self._state.open()

    def fail(self, error: BaseException) -> None:
        """The application's callback raised: its connection ends, the loop goes on."""
        logger.error("%s: a callback failed", self.engine.original_dcid.hex(), exc_info=error)
        self._close(TransportErrorCode.INTERNAL_ERROR, "internal error", transport=True)

    def _state_changed(self) -> None:
        self._state.open()
        if self.engine.closed is None or self._is_closed:
            return
        self._is_closed = True
        self._log_closed(self.engine.closed)
        for stream in self._streams.values():
            stream.wake()
        for gate in (self._new_streams, self._credit, self._datagrams):
            gate.open()

    def _log_closed(self, error: QuicstackError) -> None:
        name = self.engine.original_dcid.hex()
        if isinstance(error, ConnectionClosed) and not isinstance(error, TimeoutError):
            kind = "transport" if error.transport else "application"
            who = "the peer" if error.by_peer else "this side"
            logger.info("%s closed by %s: %s code %#x, %r", name, who, kind, error.code, error.reason)
        else:
            logger.info("%s closed by this side: %s: %r", name, type(error).__name__, str(error))
        if self.engine.internal_error is not None:
            logger.error("%s: a defect of this library", name, exc_info=self.engine.internal_error)

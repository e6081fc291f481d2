"""The loop that every driver runs: take in a few trains, pull trains until there are none or the socket is full.

asyncio, ``select`` and datagram endpoints differ in how they wait; what happens between two waits is here, once.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.errors import TransportErrorCode
from quicstack.train import SendError, Train

__all__ = [
    "MAX_TRAINS",
    "SHORTEST_TIMER",
    "TURN_BYTES",
    "Carrier",
    "Pump",
    "Source",
    "forget_connections",
    "give_up_if_unreachable",
]

MAX_TRAINS: Final = 8
"""Trains taken in, and trains sent, before anything else gets its turn: the peer hears of its packets that often."""

TURN_BYTES: Final = 240_000
"""Or so many bytes: four full trains. With more, the peer's window empties while it waits (8 full trains: 2 % less
throughput on a quiet loopback, 32: a sixth), with fewer there are more ACKs than anybody needs."""

SHORTEST_TIMER: Final = 0.001
"""asyncio rounds up to its clock's resolution, uvloop would fire at once and spin."""


class Carrier(Protocol):
    """What can carry a train: a :class:`UdpSocket` or a datagram transport."""

    def send(self, train: Train) -> Train | SendError | None:
        """None: it left. A train: what has to wait until the socket is writable. A SendError: it will not leave."""
        ...


class Source(Protocol):
    """What can be asked for the next train."""

    refused: list[Train]

    def receive(self) -> Train | None: ...


class Pump:
    """Moves trains between one :class:`Endpoint` and its sockets; ``carriers[path.socket]`` sends."""

    __slots__ = ("_moved", "carriers", "endpoint", "failure", "waiting")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.carriers: list[Carrier] = []
        self.waiting: Train | None = None
        """The one train that was built and found the socket full."""
        self.failure: SendError | None = None
        """The last error of sending. To the engine it is loss; a client that tries addresses may give this one up."""
        self._moved = 0

    def receive(self, source: Source) -> None:  # hot path
        """Take in at most 8 trains, or four full ones. Empty datagrams count, so a flood of them starves nobody."""
        endpoint = self.endpoint
        size = 0
        for _ in range(MAX_TRAINS):
            train = source.receive()
            if train is None:
                break
            if train.data:
                endpoint.receive(train, time.monotonic())
                size += len(train.data)
                if size >= TURN_BYTES:
                    break
        self._moved += size
        if source.refused:
            for train in source.refused:
                self._failed(train, SendError.REFUSED)
            source.refused.clear()

    def send(self) -> bool:  # hot path
        """Pull and send at most 8 trains, or four full ones; True if there may be more. ``waiting``: socket full."""
        endpoint, carriers = self.endpoint, self.carriers
        train, self.waiting = self.waiting, None
        size = 0
        for _ in range(MAX_TRAINS):
            if size >= TURN_BYTES:
                break
            if train is None:
                train = endpoint.next_train(time.monotonic())
                if train is None:
                    return False
            left = carriers[train.path.socket].send(train)
            if left is not None:
                if isinstance(left, Train):
                    self.waiting = left
                    return False
                self._failed(train, left)
            size += len(train.data)
            self._moved += len(train.data)
            train = None
        return True

    def take_moved(self) -> int:
        """Bytes that came and went since the last call."""
        moved, self._moved = self._moved, 0
        return moved

    def _failed(self, train: Train, error: SendError) -> None:
        self.failure = error
        self.endpoint.send_failed(train, error, time.monotonic())

    def expire(self) -> None:
        """Tell the engine that its deadline has passed, if it has."""
        deadline = self.endpoint.next_timeout()
        if deadline is not None:
            now = time.monotonic()
            if deadline <= now:
                self.endpoint.handle_timeout(now)

    def delay(self) -> float | None:
        """Seconds until the engine wants ``expire``, never less than a timer can measure; None: not at all."""
        deadline = self.endpoint.next_timeout()
        if deadline is None:
            return None
        return max(deadline - time.monotonic(), SHORTEST_TIMER)


def give_up_if_unreachable(engine: Connection, error: SendError) -> None:
    """Nobody there, or no way to go: a client believes the network until the first packet came, and not later.

    Without this it would send into the void until the handshake times out. An attacker who can forge an ICMP message
    could prevent a connection to an address as well by answering first.
    """
    if error is not SendError.TOO_BIG and not engine.stats().counters.packets_received:
        reason = (
            f"{engine.path.remote} is {error.value}"
            if error is SendError.UNREACHABLE
            else (f"nobody listens at {engine.path.remote}")
        )
        engine.close(TransportErrorCode.CONNECTION_REFUSED, reason, transport=True, now=time.monotonic())


def forget_connections(endpoint: Endpoint) -> None:
    """The sockets are closed: end the closing and draining states now (RFC 9000 §10.2), and with them the traces.

    What stood in a line of the endpoint, to be asked or told, does not stand there any longer.
    """
    endpoint.close(time.monotonic())
    while (deadline := endpoint.next_timeout()) is not None:
        endpoint.handle_timeout(deadline)
    while endpoint.next_train(time.monotonic()) is not None:
        pass
    endpoint.take_ready()

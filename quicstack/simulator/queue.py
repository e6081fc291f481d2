"""The bottleneck: a link of some rate, and the queue in front of it.

Which datagram waits, leaves, is marked or is dropped is the business of a *discipline*; how long it takes to leave is
the business of :class:`Queue`. Tail drop is the discipline here. An active one (RED, CoDel, PIE, fair queueing, a dual
queue for L4S) is a class with the same two methods, in the user's own file::

    Queue(rate=20e6, limit=200, discipline=CoDel)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from quicstack.simulator.datagram import IP_UDP_HEADER, Datagram
from quicstack.simulator.node import Node

__all__ = ["Discipline", "DisciplineFactory", "DropTail", "Queue", "QueueContext"]


@dataclass(frozen=True, slots=True)
class QueueContext:
    """What a discipline is told about the queue it orders.

    ``limit`` and ``limit_bytes`` bound what waits (None: no bound), ``rate`` is in bits per second, ``random`` is the
    node's own source and ``drop`` is how a discipline gets rid of a datagram, whenever it likes.
    """

    limit: int | None
    limit_bytes: int | None
    rate: float
    random: Random
    drop: Callable[[Datagram], None]


class Discipline(Protocol):
    """The order of a queue. ``size`` is the datagram's size on the link; ``now`` never goes back.

    ``packets`` and ``bytes`` say what waits now.
    """

    packets: int
    bytes: int

    def enqueue(self, datagram: Datagram, size: int, now: float) -> None:
        """Take a datagram in; drop it, or others, as the discipline sees fit."""
        ...

    def dequeue(self, now: float) -> tuple[Datagram, int] | None:
        """The datagram to send next and its size, perhaps CE-marked; None if nothing waits."""
        ...


DisciplineFactory = Callable[[QueueContext], Discipline]


class DropTail:
    """First in, first out; what finds the queue full is dropped."""

    def __init__(self, context: QueueContext) -> None:
        self.packets = 0
        self.bytes = 0
        self._context = context
        self._waiting: deque[tuple[Datagram, int]] = deque()

    def enqueue(self, datagram: Datagram, size: int, now: float) -> None:
        limit, limit_bytes = self._context.limit, self._context.limit_bytes
        if (limit is not None and self.packets >= limit) or (
            limit_bytes is not None and self.bytes + size > limit_bytes
        ):
            self._context.drop(datagram)
            return
        self._waiting.append((datagram, size))
        self.packets += 1
        self.bytes += size

    def dequeue(self, now: float) -> tuple[Datagram, int] | None:
        if not self._waiting:
            return None
        self.packets -= 1
        datagram, size = self._waiting.popleft()
        self.bytes -= size
        return datagram, size


class Queue(Node):
    """A link of ``rate`` bits per second behind a queue of ``limit`` datagrams and/or ``limit_bytes`` bytes.

    A datagram takes ``8 * (len(data) + overhead) / rate`` seconds on the link. The one on the link has left the queue
    and does not count against the limits. ``rate`` may be changed while the simulation runs (on ``lanes[direction]``).
    """

    discipline: Discipline

    def __init__(
        self,
        limit: int | None = None,
        *,
        rate: float = 10e6,
        limit_bytes: int | None = None,
        discipline: DisciplineFactory = DropTail,
        overhead: int = IP_UDP_HEADER,
    ) -> None:
        super().__init__()
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.rate = rate
        self.overhead = overhead
        self._factory = discipline
        self._busy = False

    def start(self) -> None:
        self.discipline = self._factory(QueueContext(self.limit, self.limit_bytes, self.rate, self.random, self.drop))

    def receive(self, datagram: Datagram) -> None:
        self.discipline.enqueue(datagram, len(datagram.data) + self.overhead, self.clock.now)
        if not self._busy:
            self._serve()

    def _serve(self) -> None:
        """Put the next datagram on the link, if there is one."""
        head = self.discipline.dequeue(self.clock.now)
        self._busy = head is not None
        if head is not None:
            datagram, size = head
            self.clock.after(8 * size / self.rate, self._sent, datagram)

    def _sent(self, datagram: Datagram) -> None:
        """The last bit has left: the datagram goes on, and the link is free."""
        self.forward(datagram)
        self._serve()

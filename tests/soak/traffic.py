"""What the hosts of the soak do: sparse errands on long connections, and every byte of them checked.

A message says itself what it is: one byte for what the server shall do with it, where in ``POOL`` its body begins and
how long that is. So both sides can check every byte as it comes, and need to remember none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from weakref import WeakSet

from quicstack.connection.connection import Connection
from quicstack.errors import (
    ConnectionClosed,
    ConnectionTimeout,
    MigrationRefused,
    StreamLimitReached,
    StreamReset,
    TransportErrorCode,
)
from quicstack.simulator import Host
from quicstack.train import Path
from quicstack.transport.path import Migration, MigrationOutcome
from quicstack.transport.stream import Stream

__all__ = ["GOODBYE", "PATIENCE", "Home", "Service", "Slot"]

POOL = Random("soak").randbytes(1 << 17)
HEADER = 9
ECHO, TAKE, FETCH, TURN_AWAY, LEAVE = range(5)
"""What the first byte of a message asks of the server: send it back, only read it, send a body on a stream of the
server's own, refuse to read on, close the connection."""
GOODBYE = 7
PATIENCE = 1500.0
"""Virtual seconds in which an errand on a connection that lives has to be done, outages and silence included."""


def message(kind: int, random: Random, most: int) -> bytes:
    length = int(most ** random.random())
    begin = random.randrange(len(POOL) - length)
    return bytes((kind,)) + begin.to_bytes(4) + length.to_bytes(4) + POOL[begin : begin + length]


class Inflow:
    """Checks a message while it arrives: every byte, in order, once."""

    def __init__(self) -> None:
        self.head = b""
        self.position = 0

    @property
    def kind(self) -> int:
        return self.head[0] if self.head else -1

    @property
    def length(self) -> int:
        return int.from_bytes(self.head[5:9])

    @property
    def begin(self) -> int:
        return int.from_bytes(self.head[1:5])

    def take(self, data: bytes) -> None:
        missing = HEADER - len(self.head)
        if missing > 0:
            self.head += data[:missing]
            data = data[missing:]
        if data:
            start = self.begin + self.position
            assert data == POOL[start : start + len(data)], f"wrong bytes at {self.position} of {self.length}"
            self.position += len(data)
            assert self.position <= self.length, "more bytes than were sent"

    @property
    def complete(self) -> bool:
        return len(self.head) == HEADER and self.position == self.length


class Errand:
    """One stream of either side: what is still to be written, and a check of what comes."""

    def __init__(self, stream: Stream, since: float, outgoing: bytes = b"", *, finish: bool = False) -> None:
        self.stream = stream
        self.since = since
        self.inflow = Inflow()
        self.outgoing = outgoing
        self.finish = finish
        self.expects_body = not outgoing or outgoing[0] not in (FETCH, LEAVE)
        self.was_reset = False
        self.given_up = False
        self.done = False

    def read(self) -> bytes:
        stream = self.stream
        if stream.receive is None:
            return b""
        try:
            data = stream.read()
        except StreamReset:
            self.was_reset = True
            return b""
        self.inflow.take(data)
        if stream.at_end:
            whole = self.inflow.complete if self.expects_body else not self.inflow.head
            assert whole, f"stream {stream.id} ended after {self.inflow.position} bytes"
        return data

    def write(self) -> None:
        stream = self.stream
        if stream.send is None or stream.send_done or stream.stop_code is not None or self.given_up:
            return
        if self.outgoing:
            self.outgoing = self.outgoing[stream.write(self.outgoing) :]
        if self.finish and not self.outgoing:
            self.finish = False
            stream.finish()


class Service:
    """The server: does what each message asks, and forgets it."""

    def __init__(self) -> None:
        self.objects: WeakSet[Connection] = WeakSet()
        self.ended: WeakSet[Connection] = WeakSet()
        self.causes: Counter[str] = Counter()
        self.done = 0

    def start(self, host: Host) -> None:
        pass

    def ready(self, host: Host, connection: Connection) -> None:
        self.objects.add(connection)
        ready = connection.take_ready()
        if connection.closed is not None:
            if connection not in self.ended:
                self.ended.add(connection)
                self.causes[cause(connection)] += 1
            return
        for stream in ready.streams:
            if stream.owner is None:
                stream.owner = Errand(stream, host.clock.now)
            errand = stream.owner
            assert isinstance(errand, Errand)
            if not stream.is_local:
                self.serve(host, connection, errand)
            if connection.closed is not None:
                return
            errand.write()
        while (datagram := connection.receive_datagram()) is not None:
            connection.send_datagram(datagram)

    def serve(self, host: Host, connection: Connection, errand: Errand) -> None:
        stream = errand.stream
        if errand.done or errand.was_reset:
            return
        data = errand.read()
        kind = errand.inflow.kind
        if kind == ECHO:
            errand.outgoing += data
        if errand.was_reset:
            errand.given_up = True
            if stream.send is not None:
                stream.reset(1)
        elif kind == TURN_AWAY and len(errand.inflow.head) == HEADER:
            errand.done = errand.given_up = True
            stream.stop_sending(2)
            stream.reset(3)
        elif stream.at_end:
            errand.done = True
            self.done += 1
            errand.finish = stream.send is not None
            if kind == FETCH and connection.can_open_stream(unidirectional=True):
                answer = connection.open_stream(unidirectional=True)
                answer.owner = mine = Errand(answer, host.clock.now, message(TAKE, host.random, 20_000), finish=True)
                mine.write()
            elif kind == LEAVE:
                connection.close(GOODBYE, "as you wish", now=host.clock.now)


def cause(connection: Connection) -> str:
    """Why a connection ended, in a word; anything that was not meant to happen is an error."""
    error = connection.closed
    if isinstance(error, ConnectionTimeout):
        return "silence"
    assert isinstance(error, ConnectionClosed), f"{connection!r} ended: {error!r}"
    if error.by_peer and "stateless reset" in error.reason:
        return "stateless reset"
    if error.by_peer and error.code == TransportErrorCode.APPLICATION_ERROR and not connection.handshake_confirmed:
        return "closed by the client"  # so early that it said so in a Handshake packet too (RFC 9000 §10.2.3)
    assert not error.transport, f"{connection!r} ended: {error!r}"
    assert error.code in (0, GOODBYE), f"{connection!r} ended: {error!r}"
    return "closed by the server" if error.code == GOODBYE else "closed by the client"


ERRANDS = {
    "echo": 30, "give": 15, "fetch": 10, "reset": 8, "reset_at": 6, "turn_away": 8, "datagrams": 8, "ping": 5,
    "key_update": 6, "migrate": 6, "burst": 2, "close": 2, "leave": 1, "vanish": 1,
}  # fmt: skip


class Slot:
    """A place for one connection after the other."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.connection: Connection | None = None
        self.errands: dict[int, Errand] = {}
        self.migration: Migration | None = None


class Home:
    """A client host: ``slots`` connections to the server, each with ``pause`` seconds on average between errands."""

    def __init__(self, server: Host, slots: int, *, pause: float, ends: float) -> None:
        self.server = server
        self.pause = pause
        self.ends = ends
        self.slots = [Slot(number) for number in range(slots)]
        self.by_connection: dict[Connection, Slot] = {}
        self.objects: WeakSet[Connection] = WeakSet()
        self.causes: Counter[str] = Counter()
        self.errands: Counter[str] = Counter()

    def start(self, host: Host) -> None:
        self.host = host
        for slot in self.slots:
            host.clock.after(host.random.uniform(0.0, 2 * self.pause), self.connect, slot)

    # -- the life of a connection ------------------------------------------------------------------------------------

    def connect(self, slot: Slot) -> None:
        host = self.host
        if host.clock.now >= self.ends:
            return
        settings = host.configuration if slot.number % 20 else replace(host.configuration, keep_alive=None)
        slot.connection = connection = host.connect(self.server, configuration=settings)
        self.by_connection[connection] = slot
        self.objects.add(connection)
        self.errands["connect"] += 1
        self.later(slot, connection)

    def later(self, slot: Slot, connection: Connection) -> None:
        random = self.host.random
        pause = random.expovariate(1 / self.pause)
        if random.random() < 0.03:
            pause += 12 * self.pause  # a long silence: keep-alive holds the connection, or it is gone afterwards
        self.host.clock.after(pause, self.act, slot, connection)

    def over(self, slot: Slot, reason: str) -> None:
        assert slot.connection is not None
        self.causes[reason] += 1
        del self.by_connection[slot.connection]
        slot.connection = slot.migration = None
        slot.errands.clear()
        self.host.clock.after(self.host.random.uniform(1.0, self.pause), self.connect, slot)

    def ready(self, host: Host, connection: Connection) -> None:
        ready = connection.take_ready()
        slot = self.by_connection.get(connection)
        if slot is None:
            return  # said goodbye before
        if connection.closed is not None:
            reason = cause(connection)
            if reason == "stateless reset":  # after an outage in which the server had given the connection up
                living = {other.original_dcid for other in self.server.endpoint.connections}
                assert connection.original_dcid not in living
            self.over(slot, reason)
            return
        for stream in ready.streams:
            errand = stream.owner
            if errand is None:
                stream.owner = errand = slot.errands[stream.id] = Errand(stream, host.clock.now)
            assert isinstance(errand, Errand)
            errand.read()
            errand.write()
            if stream.finished:
                slot.errands.pop(stream.id, None)
        while (datagram := connection.receive_datagram()) is not None:
            assert datagram in POOL[:2000]

    # -- errands -----------------------------------------------------------------------------------------------------

    def act(self, slot: Slot, connection: Connection) -> None:
        if slot.connection is not connection or connection.closed is not None or self.host.clock.now >= self.ends:
            return
        self.check(slot)
        if connection.handshake_complete:
            random = self.host.random
            name = random.choices(list(ERRANDS), list(ERRANDS.values()))[0]
            self.errands[name] += 1
            try:
                for _ in range(random.randrange(2, 20) if name == "burst" else 1):
                    self.run(slot, connection, "echo" if name == "burst" else name)
            except StreamLimitReached:
                self.errands["refused by the stream limit"] += 1
            self.host.wake()
        if slot.connection is connection:
            self.later(slot, connection)

    def run(self, slot: Slot, connection: Connection, name: str) -> None:
        host, random, now = self.host, self.host.random, self.host.clock.now
        match name:
            case "echo":
                self.send(slot, connection, message(ECHO, random, 30_000))
            case "give":
                self.send(slot, connection, message(TAKE, random, 30_000), unidirectional=True)
            case "fetch":
                self.send(slot, connection, message(FETCH, random, 100))
            case "turn_away":
                self.send(slot, connection, message(TURN_AWAY, random, 60_000))
            case "leave":
                self.send(slot, connection, message(LEAVE, random, 100))
            case "reset" | "reset_at":
                stream = self.send(slot, connection, message(ECHO, random, 60_000), finish=False)
                keep = random.randrange(stream.bytes_written) if name == "reset_at" else 0
                host.clock.after(random.choice((0.0, 0.05, 0.5)), self.reset, connection, stream, keep)
            case "datagrams":
                for _ in range(random.randrange(1, 10)):
                    start = random.randrange(1000)
                    connection.send_datagram(POOL[start : start + random.randrange(1, 1000)])
            case "ping":
                connection.ping()
            case "key_update":
                self.errands["keys updated"] += connection.update_keys(now)
            case "migrate":
                self.migrate(slot, connection)
            case "close":
                connection.close(0, "done", now=now)
            case "vanish":
                connection.abandon(now)
                self.over(slot, "vanished")

    def send(
        self, slot: Slot, connection: Connection, outgoing: bytes, *, unidirectional: bool = False, finish: bool = True
    ) -> Stream:
        stream = connection.open_stream(unidirectional=unidirectional)
        stream.owner = errand = slot.errands[stream.id] = Errand(stream, self.host.clock.now, outgoing, finish=finish)
        errand.write()
        return stream

    def reset(self, connection: Connection, stream: Stream, keep: int) -> None:
        if connection.closed is None and not stream.send_done:
            assert isinstance(stream.owner, Errand)
            stream.owner.given_up = True
            stream.reset(5, keep)
            self.host.wake()

    def migrate(self, slot: Slot, connection: Connection) -> None:
        local = connection.path.local
        assert local is not None
        addresses = [str(self.host.address[0]), *self.host.other_hosts]
        address = (addresses[local[0] == addresses[0]], self.host.address[1])
        try:
            slot.migration = connection.migrate(Path(self.server.address, address), self.host.clock.now)
        except MigrationRefused:
            self.errands["migration refused"] += 1

    def check(self, slot: Slot) -> None:
        """Nothing hangs: errands get done, migrations come to an end."""
        now = self.host.clock.now
        for errand in slot.errands.values():
            assert now - errand.since < PATIENCE, f"stream {errand.stream.id} of {slot.connection!r} hangs"
        if slot.migration is not None and slot.migration.outcome is not MigrationOutcome.VALIDATING:
            self.errands[f"migration {slot.migration.outcome.value}"] += 1
            slot.migration = None

"""Two endpoints, the datagrams between them, and a model of what each stream has to deliver.

Nothing happens by itself: whoever plays decides which datagram arrives, twice, late, damaged or never, when a timer is
noticed, and what the applications do. ``settle`` heals the network and lets everything come to its end, and checks the
model; ``assert_nothing_left`` looks for what a closed connection left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from quicstack.connection.connection import Connection
from quicstack.connection.state import Phase
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import ConnectionClosed, ConnectionTimeout, StreamReset, TransportErrorCode
from quicstack.simulator import VIRTUAL_EPOCH, configurations
from quicstack.train import Address, Path, Train
from quicstack.transport.stream import Stream

__all__ = ["CLIENT", "SERVER", "Flight", "Flow", "World", "assert_nothing_left"]

CLIENT, SERVER = 0, 1
SERVER_ADDRESS: Address = ("192.0.2.1", 443)
HOMES: tuple[Address, ...] = (("10.0.0.1", 50000), ("10.0.0.2", 50000), ("10.0.0.1", 50001))
POOL = Random("properties").randbytes(1 << 18)
ROUND_TRIP = 0.02
PATIENCE = 500.0
"""Virtual seconds in which everything comes to an end on a network that works."""


@dataclass(slots=True)
class Flight:
    """A datagram under way, with the address it bears on the public network."""

    data: bytes
    public: Address
    ecn: int


@dataclass(slots=True)
class Flow:
    """One direction of one stream: what was promised, and what came."""

    stream_id: int
    sender: int
    offset: int
    """Where in POOL its bytes begin."""
    writer: Stream | None = None
    reader: Stream | None = None
    written: int = 0
    finished: bool = False
    resets: list[tuple[int, int]] = field(default_factory=list)
    """(code, reliable size) of each reset, in order. The code that counts is that of the first to be sent."""
    stopped: bool = False
    received: int = 0
    ended: bool = False
    reset_seen: int | None = None

    def bytes(self, start: int, size: int) -> bytes:
        return POOL[self.offset + start : self.offset + start + size]

    @property
    def writes(self) -> bool:
        return self.writer is not None and not self.finished and not self.resets and self.writer.stop_code is None

    def read(self, limit: int = -1) -> None:
        """Read what is there: it has to be the next of what was written."""
        if self.reader is None or self.stopped or self.ended or self.reset_seen is not None:
            return
        try:
            data = self.reader.read(limit)
        except StreamReset as error:
            assert self.resets or self.stop_answered, f"a reset of stream {self.stream_id} that nobody asked for"
            self.reset_seen = error.code
            return
        assert data == self.bytes(self.received, len(data)), f"stream {self.stream_id}: wrong at {self.received}"
        self.received += len(data)
        assert self.received <= self.written, f"stream {self.stream_id}: more than was written"
        if self.reader.at_end:
            assert self.finished and self.received == self.written, f"stream {self.stream_id} ends too early"
            self.ended = True

    @property
    def stop_answered(self) -> bool:
        return self.writer is not None and self.writer.stop_code is not None

    @property
    def is_delivered(self) -> bool:
        """What a connection that lives owes, when it has come to rest."""
        if self.stopped:
            return True
        if not self.resets:
            return self.received == self.written and self.ended == self.finished
        return self.ended or (
            self.reset_seen in [code for code, _ in self.resets]
            and self.received >= min(size for _, size in self.resets)
        )


class World:
    """The pair, its network and its applications."""

    def __init__(self, seed: int = 0, *, client: dict[str, object] | None = None, **settings: object) -> None:
        self.now = 1000.0
        for_client, for_server = configurations(**settings | (client or {}))[0], configurations(**settings)[1]
        self.endpoints = (
            Endpoint(for_client, environment=self._environment(seed), server=False),
            Endpoint(for_server, environment=self._environment(seed + 1), server=True),
        )
        self.home = HOMES[0]
        self.public: dict[Address, Address] = {}
        self.next_port = 61000
        self.flights: tuple[list[Flight], list[Flight]] = ([], [])
        """Under way from the client, and from the server."""
        self.holding = [False, False]
        self.carries = 1500
        self.connections: list[Connection | None] = [None, None]
        self.flows: dict[tuple[int, int], Flow] = {}
        self.sent_datagrams: tuple[set[bytes], set[bytes]] = (set(), set())
        self.counter = 0
        self.closed_by_application = False
        self.rebindings = 0
        self.connections[CLIENT] = self.endpoints[CLIENT].connect(Path(SERVER_ADDRESS, self.home), self.now)
        self.pump()

    @staticmethod
    def _environment(seed: int) -> Environment:
        return Environment(random=Random(seed).randbytes, wall_time=lambda: VIRTUAL_EPOCH + 1000.0, simulation=True)

    def connection(self, side: int) -> Connection | None:
        """The connection of that side while it is open."""
        connection = self.connections[side]
        return connection if connection is not None and connection.closed is None else None

    # -- the network -------------------------------------------------------------------------------------------------

    def rebind(self, *, address: bool = False) -> None:
        """The NAT forgets everything; what it gives out next is a new port, or another address too."""
        self.public.clear()
        self.rebindings += 1
        self.next_port += 1000 if address else 1

    def outside(self, private: Address) -> Address:
        if private not in self.public:
            self.next_port += 1
            self.public[private] = (f"203.0.113.{self.next_port // 1000}", self.next_port % 1000 + 1024)
        return self.public[private]

    def pump(self) -> None:
        """Look at what is ready, and put what the endpoints send on its way, unless that side is held up."""
        for side, endpoint in enumerate(self.endpoints):
            self.look(side)
            while not self.holding[side] and (train := endpoint.next_train(self.now)) is not None:
                local = train.path.local
                assert local is not None
                public = self.outside(local) if side == CLIENT else train.path.remote
                self.flights[side].extend(
                    Flight(data, public, train.ecn) for data in train.datagrams() if len(data) + 28 <= self.carries
                )
            self.look(side)

    def arrive(self, side: int, flights: list[Flight]) -> None:
        """Datagrams that ``side`` sent reach the other one: as one train if they can be."""
        for flight in flights:
            if side == CLIENT:
                path = Path(flight.public, SERVER_ADDRESS)
            else:
                private = next((home for home, public in self.public.items() if public == flight.public), None)
                if private is None:
                    continue  # the NAT knows nobody there
                path = Path(SERVER_ADDRESS, private)
            self.endpoints[1 - side].receive(Train(flight.data, len(flight.data), path, flight.ecn), self.now)
        self.pump()

    def arrive_as_train(self, side: int, flights: list[Flight]) -> None:
        """As UDP GRO delivers them: equal sizes, the last one may be shorter."""
        first = flights[0]
        fits = [flights[0]]
        for flight in flights[1:]:
            is_same = (flight.public, flight.ecn) == (first.public, first.ecn)
            if not is_same or len(flight.data) > len(first.data) or len(fits[-1].data) < len(first.data):
                break
            fits.append(flight)
        private = next((home for home, public in self.public.items() if public == first.public), None)
        if side == CLIENT or private is not None:
            path = Path(first.public, SERVER_ADDRESS) if side == CLIENT else Path(SERVER_ADDRESS, private)
            data = b"".join(flight.data for flight in fits)
            self.endpoints[1 - side].receive(Train(data, len(first.data), path, first.ecn), self.now)
        self.arrive(side, flights[len(fits) :])

    def advance(self, seconds: float, late: float = 0.0) -> None:
        """Time passes. Each deadline is noticed ``late``, that of a side held up at the end; nothing arrives."""
        end = self.now + seconds
        for _ in range(2000):
            deadlines = self.deadlines()
            if not deadlines or min(deadlines) + late > end:
                break
            self.now = max(self.now, min(deadlines) + late)
            for side, endpoint in enumerate(self.endpoints):
                if not self.holding[side]:
                    endpoint.handle_timeout(self.now)
            self.pump()
        else:
            raise AssertionError("timers do not come to rest")
        self.now = end
        for side, endpoint in enumerate(self.endpoints):
            if self.holding[side]:
                endpoint.handle_timeout(self.now)

    def deadlines(self) -> list[float]:
        """Of the sides that are not held up: who may not send is not rid of a deadline of its pacer."""
        return [
            deadline
            for side, endpoint in enumerate(self.endpoints)
            if not self.holding[side] and (deadline := endpoint.next_timeout()) is not None
        ]

    # -- the applications --------------------------------------------------------------------------------------------

    def look(self, side: int) -> None:
        """Take what is ready: streams of the other side are met here."""
        for connection in self.endpoints[side].take_ready():
            if self.connections[side] is None:
                self.connections[side] = connection
            ready = connection.take_ready()
            if connection is not self.connections[side]:
                continue
            for stream in ready.streams:
                self.meet(side, stream)
            while (datagram := connection.receive_datagram()) is not None:
                assert datagram in self.sent_datagrams[1 - side], "a datagram that nobody sent, or sent twice"
                self.sent_datagrams[1 - side].remove(datagram)

    def meet(self, side: int, stream: Stream) -> None:
        for sender in (CLIENT, SERVER):
            if stream.is_unidirectional and sender != stream.id & 1:
                continue
            flow = self.flows.get((stream.id, sender))
            if flow is None:
                offset = (stream.id * 7919 + sender * 104_729) % (1 << 17)
                flow = self.flows[stream.id, sender] = Flow(stream.id, sender, offset)
            if sender == side:
                flow.writer = stream
            else:
                flow.reader = stream

    def open(self, side: int, *, unidirectional: bool) -> None:
        connection = self.connection(side)
        if connection is not None and connection.can_open_stream(unidirectional):
            self.meet(side, connection.open_stream(unidirectional=unidirectional))

    def write(self, flow: Flow, size: int, *, fin: bool) -> None:
        if flow.writer is None or not flow.writes or self.connection(flow.sender) is None:
            return
        size = min(size, (1 << 17) - flow.written)
        accepted = flow.writer.write(flow.bytes(flow.written, size), fin)
        flow.written += accepted
        flow.finished = fin and accepted == size

    def reset(self, flow: Flow, code: int, keep: float) -> None:
        """Reset, with that part of what was written to arrive all the same."""
        if flow.writer is None or flow.writer.send_done or self.connection(flow.sender) is None:
            return
        size = int(keep * flow.writer.bytes_written)
        flow.writer.reset(code, size)
        flow.resets.append((code, size))

    def stop(self, flow: Flow, code: int) -> None:
        if flow.reader is not None and self.connection(1 - flow.sender) is not None:
            flow.stopped = True
            flow.reader.stop_sending(code)

    def datagram(self, side: int, size: int) -> None:
        connection = self.connection(side)
        if connection is not None and connection.max_datagram_payload >= max(size, 4):
            self.counter += 1
            data = self.counter.to_bytes(4) + bytes(max(0, size - 4))
            if connection.send_datagram(data):
                self.sent_datagrams[side].add(data)

    # -- the end -----------------------------------------------------------------------------------------------------

    def run(self, seconds: float, *, restless: bool) -> None:
        """The network works: what is sent arrives after half a round trip. ``restless``: applications read what comes,
        and the client speaks now and then, or a NAT that forgot it would keep it from hearing anything."""
        end = self.now + seconds
        next_ping = self.now
        while self.now < end:
            if restless:
                self.read_all()
            self.pump()
            client = self.connection(CLIENT)
            if restless and client is not None and self.now >= next_ping:
                client.ping()
                next_ping = self.now + max(0.5, seconds / 8)
                continue
            flights = [(side, list(self.flights[side])) for side in (CLIENT, SERVER)]
            for side in (CLIENT, SERVER):
                self.flights[side].clear()
            if any(batch for _, batch in flights):
                self.advance(ROUND_TRIP / 2)
                for side, batch in flights:
                    self.arrive(side, batch)
                continue
            deadlines = self.deadlines()
            if restless and client is not None:
                deadlines.append(next_ping)
            if not deadlines:
                return
            self.advance(max(0.0, min([*deadlines, end]) - self.now))

    def read_all(self) -> None:
        for flow in self.flows.values():
            flow.read()

    def settle(self) -> None:
        """Heal, deliver, check; then finish every stream and see the tables empty. A connection may be over before."""
        self.holding = [False, False]
        self.carries = 1500
        self.run_until(lambda: all(flow.is_delivered for flow in self.flows.values()))
        if self.both_open():
            for flow in self.flows.values():
                assert flow.is_delivered, flow
            self.run_until(self.finish_all)
            self.rest()
        if self.both_open():
            self.assert_at_rest()
        self.check_ends()

    def finish_all(self) -> bool:
        """End every stream that is known; the end of one that carried nothing makes the other side meet it."""
        for flow in list(self.flows.values()):
            self.write(flow, 0, fin=True)
        return all(
            flow.writer is not None and flow.reader is not None and not flow.writes and flow.is_delivered
            for flow in self.flows.values()
        )

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Probe timeouts back off, so the wait becomes longer too."""
        seconds = 1.0
        while seconds < PATIENCE and self.both_open():
            self.run(seconds, restless=True)
            self.read_all()
            if condition() and all(side is not None and side.handshake_confirmed for side in self.connections):
                return
            seconds *= 2

    def rest(self) -> None:
        """Nobody says more than he has to, for as long as it takes: a round trip may have been measured as a minute."""
        seconds = 10.0
        while seconds < PATIENCE and self.both_open():
            self.run(seconds, restless=False)
            if not any(side is not None and side._state.recovery.bytes_in_flight for side in self.connections):
                return
            seconds *= 2

    def both_open(self) -> bool:
        return self.connection(CLIENT) is not None and self.connection(SERVER) is not None

    def check_ends(self) -> None:
        """A connection that is over ended by the application, or by silence: never by an error of the protocol."""
        for side, connection in enumerate(self.connections):
            if connection is None:
                continue
            if connection.internal_error is not None:
                raise AssertionError("a defect closed a connection") from connection.internal_error
            error, other = connection.closed, self.connections[1 - side]
            if error is None or isinstance(error, ConnectionTimeout):
                continue
            assert isinstance(error, ConnectionClosed), repr(error)
            if error.transport and error.by_peer and "stateless reset" in error.reason:
                assert other is not None and other.terminated, "a reset from a side that has the connection"
            elif error.transport and error.by_peer and error.code == TransportErrorCode.INVALID_TOKEN:
                assert self.rebindings and not connection.handshake_complete, "the client is where its Retry went"
            elif error.transport:  # RFC 9000 §10.2.3: before the handshake is done an application's code stays at home
                assert error.by_peer and error.code == TransportErrorCode.APPLICATION_ERROR, repr(error)
                assert self.closed_by_application

    def assert_at_rest(self) -> None:
        """Nobody wants anything of anybody: both sides know that everything has arrived."""
        for connection in self.connections:
            assert connection is not None
            state = connection._state
            for stream in state.streams:
                states = stream.receive and stream.receive.state, stream.send and stream.send.state
                raise AssertionError(f"{connection!r} keeps stream {stream.id}: {states}")
            assert not state.streams._waiting and not state.outbox.sending and not state.outbox.touched
            assert not state.outbox.control, f"{connection!r} still has something to say"
            assert len(state.datagrams_out) == 0
            assert state.recovery.bytes_in_flight == 0
            assert not any(packet.in_flight for space in range(3) for packet in state.recovery.outstanding(space))
            assert state.recovery.loss_detection_timer is None
            for flow in state.streams.peer.values():
                assert not flow.skipped

    def close(self, side: int, code: int = 0) -> None:
        connection = self.connection(side)
        if connection is not None:
            self.closed_by_application = True
            connection.close(code, "done", now=self.now)

    def die_out(self) -> None:
        """Until nobody waits for anything."""
        for _ in range(100):
            if not any(self.flights) and all(endpoint.next_timeout() is None for endpoint in self.endpoints):
                break
            self.run(100.0, restless=False)
        for endpoint in self.endpoints:
            assert_nothing_left(endpoint, self.now)
        for connection in self.connections:
            if connection is not None:
                assert_forgotten(connection)


def assert_nothing_left(endpoint: Endpoint, now: float) -> None:
    assert not endpoint.connections
    assert endpoint.next_timeout() is None
    assert endpoint.next_train(now) is None
    for name in ("_by_cid", "_by_token", "_ready", "_bell", "_handshakes", "_fresh_cids"):
        assert not getattr(endpoint, name), f"{name}: {getattr(endpoint, name)}"
    assert not endpoint._deadlines._known and not endpoint._deadlines._heap and not endpoint._deadlines._touched
    assert endpoint._last_sent is None
    assert endpoint._budget.used == 0


def assert_forgotten(connection: Connection) -> None:
    state = connection._state
    assert state.phase is Phase.CLOSED and connection.next_timeout() is None
    for space in range(3):
        assert not list(state.recovery.outstanding(space))
        assert not state.spaces[space].waiting
    assert state.recovery.bytes_in_flight == 0
    if state.handshake_confirmed:  # a client before that always has one to compute, and nobody asks any more
        assert state.recovery.loss_detection_timer is None
    assert not state.outbox.control and not state.outbox.sending
    assert len(state.datagrams_out) == 0

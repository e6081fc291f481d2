"""Credit over a network: what is not read blocks only itself, and what is thrown away is paid back."""

from __future__ import annotations

import pytest

from quicstack.connection.connection import Connection
from quicstack.errors import ConnectionTimeout
from quicstack.simulator import BlackHole, BulkTransfer, Delay, Host, Loss, Node, Queue, Simulation, configurations
from quicstack.transport.stream import Stream

RESETS = 10_000


class Server:
    """Answers streams that begin with "?", never reads the others."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.unread: set[Stream] = set()

    def start(self, host: Host) -> None:
        pass

    def ready(self, host: Host, connection: Connection) -> None:
        self.connection = connection
        for stream in connection.take_ready().streams:
            if stream.peek(1) == b"?":
                question = stream.read()
                if stream.at_end:
                    stream.write(question + b"!", fin=True)
            else:
                self.unread.add(stream)


def connect(*nodes: Node, seed: int = 0, **settings: object) -> tuple[Simulation, Connection, Connection, Server]:
    """Client and server after the handshake, with the client's connection first."""
    for_client, for_server = configurations(**settings)
    server = Host(for_server, server=True, application=(application := Server()))
    client = Host(for_client)
    simulation = Simulation([client, Delay(0.01), *nodes, server], seed=seed)
    connection = client.connect(server)
    simulation.run(until=lambda: connection.handshake_confirmed)
    assert application.connection is not None
    return simulation, connection, application.connection, application


def ask(simulation: Simulation, connection: Connection) -> bytes:
    """A request and its answer, within a second."""
    stream = connection.open_stream()
    stream.write(b"?really", fin=True)
    answer = bytearray()

    def answered() -> bool:
        answer.extend(stream.read())
        return stream.at_end

    simulation.run(until=answered, limit=1.0)
    return bytes(answer)


SMALL = {"initial_max_data": 1 << 17, "initial_max_stream_data_bidi_remote": 1 << 15}


@pytest.mark.parametrize("settings", [SMALL, pytest.param({}, marks=pytest.mark.slow)])
def test_fifty_streams_that_nobody_reads_do_not_block_a_request(settings: dict[str, int]) -> None:
    """Each is held back by its own window; the connection's, far too small for them all, makes room."""
    simulation, connection, other, application = connect(**settings)
    for _ in range(50):
        connection.open_stream().write(bytes(1 << 20))
    simulation.run(until=simulation.now + 10.0)
    window = other.configuration.initial_max_stream_data_bidi_remote
    assert [stream.readable for stream in application.unread] == [window] * 50
    assert ask(simulation, connection) == b"?really!"


def test_unread_streams_take_no_more_memory_than_allowed() -> None:
    """Nothing completes that needs credit, but nothing breaks, and reading gets everything going again."""
    allowed = 1 << 19
    simulation, connection, _, application = connect(**SMALL, max_connection_window=allowed)
    for _ in range(50):
        connection.open_stream().write(bytes(30_000), fin=True)
    simulation.run(until=simulation.now + 10.0)
    assert sum(stream.readable for stream in application.unread) == allowed
    waiting = connection.open_stream()
    waiting.write(b"?", fin=True)
    simulation.run(until=simulation.now + 1.0)
    assert waiting.readable == 0
    total = 0
    for _ in range(10):
        total += sum(len(stream.read()) for stream in application.unread)
        simulation.run(until=simulation.now + 1.0)
    assert total == 50 * 30_000
    assert waiting.read() == b"?!"


@pytest.mark.slow
def test_ten_thousand_streams_reset_half_read_leave_the_credit_exact() -> None:
    """Some were read by half, some not at all, some stopped by the reader; some lost their datagrams."""
    for_client, for_server = configurations(initial_max_streams_bidi=100, **SMALL)
    server = Host(for_server, server=True, application=(reader := HalfReader()))
    client = Host(for_client, application=(writer := Resetter(server)))
    simulation = Simulation([client, Delay(0.01), Loss(0.02), server], seed=1)
    simulation.run(until=lambda: writer.done == RESETS, limit=3600.0)
    assert writer.connection is not None and reader.connection is not None
    simulation.run(until=simulation.now + 5.0)
    assert writer.connection.closed is None
    for connection in (writer.connection, reader.connection):
        streams = connection._state.streams
        assert not streams.streams
        assert not streams.peer[0].skipped
        assert not connection._state.outbox.control
        assert not connection._state.outbox.sending
    sending, receiving = writer.connection._state.streams, reader.connection._state.streams
    window = receiving.receive_window
    assert window.received == window.consumed == sending.send_window.used > RESETS * 300
    assert window.limit == sending.send_window.limit
    assert window.limit - window.consumed >= window.size / 2
    opened, peer = sending.local[0], receiving.peer[0]
    assert opened.opened == peer.opened == peer.closed == RESETS
    assert opened.limit == peer.limit
    assert peer.limit - peer.closed >= 50
    assert ask(simulation, writer.connection) == b"?really!"


class HalfReader(Server):
    """Reads half of what is there, once; stops every seventh stream."""

    def ready(self, host: Host, connection: Connection) -> None:
        self.connection = connection
        for stream in connection.take_ready().streams:
            if stream.peek(1) == b"?":
                stream.write(stream.read() + b"!", fin=True)
            elif stream.owner is None and stream.readable:
                stream.owner = self
                stream.read(stream.readable // 2)
                if stream.id % 7 == 0:
                    stream.stop_sending(7)
            if stream.reset_code is not None and not stream.send_done:
                stream.reset(9)


class Resetter:
    """Opens streams as fast as it may, writes up to three kilobytes on each, and resets it at some later time."""

    def __init__(self, to: Host) -> None:
        self.to = to
        self.connection: Connection | None = None
        self.opened = 0
        self.done = 0

    def start(self, host: Host) -> None:
        self.connection = host.connect(self.to)

    def ready(self, host: Host, connection: Connection) -> None:
        for stream in connection.take_ready().streams:
            if stream.finished and stream.owner is self:
                stream.owner = None
                self.done += 1
        while connection.handshake_complete and self.opened < RESETS and connection.can_open_stream():
            stream = connection.open_stream()
            stream.owner = self
            self.opened += 1
            stream.write(bytes(host.random.randrange(1, 4000)))
            host.clock.after(host.random.uniform(0.0, 0.05), self.reset, host, stream)

    def reset(self, host: Host, stream: Stream) -> None:
        stream.reset(3)
        host.wake()


def test_nothing_is_left_of_a_connection_that_was_closed() -> None:
    """No timers, streams, packets, routes; in the middle of a transfer, with losses, closed by either side."""
    for closer in (0, 1):
        for_client, for_server = configurations()
        server = Host(for_server, server=True, application=BulkTransfer(bytes(10_000_000)))
        client = Host(for_client, application=(transfer := BulkTransfer(bytes(10_000_000), to=server, streams=5)))
        simulation = Simulation([client, Delay(0.02), Loss(0.05), server], seed=closer)
        simulation.run(until=2.0)
        assert transfer.connection is not None
        (other,) = server.endpoint.connections
        assert other._state.streams.streams
        (transfer.connection, other)[closer].close(5, "enough")
        simulation.run()
        assert simulation.now < 4.0
        assert_nothing_left(client, transfer.connection)
        assert_nothing_left(server, other)


def test_nothing_is_left_of_a_connection_that_fell_silent() -> None:
    for_client, for_server = configurations(max_idle_timeout=5.0)
    server = Host(for_server, server=True, application=BulkTransfer(bytes(10_000_000)))
    client = Host(for_client, application=(transfer := BulkTransfer(bytes(10_000_000), to=server)))
    simulation = Simulation([client, Delay(0.02), BlackHole(1.0), Queue(50), server])
    simulation.run(until=1.0)
    (other,) = server.endpoint.connections
    simulation.run()
    assert transfer.connection is not None
    assert isinstance(transfer.connection.closed, ConnectionTimeout)
    assert_nothing_left(client, transfer.connection)
    assert_nothing_left(server, other)


def assert_nothing_left(host: Host, connection: Connection) -> None:
    endpoint, state = host.endpoint, connection._state
    assert connection.terminated
    assert not endpoint.connections
    assert endpoint.next_timeout() is None
    assert endpoint.next_train(host.clock.now) is None
    for table in (endpoint._by_cid, endpoint._by_token, endpoint._deadlines._known, endpoint._ready, endpoint._bell):
        assert not table
    assert endpoint._budget.used == 0
    assert connection.next_timeout() is None
    for space in range(3):
        assert not list(state.recovery.outstanding(space))
    assert state.recovery.bytes_in_flight == 0
    assert state.recovery.loss_detection_timer is None
    assert not state.outbox.control
    assert not state.outbox.sending
    assert len(state.datagrams_out) == 0

"""A host with an endpoint: the loop of a driver, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.simulator.clock import Clock, Timer
from quicstack.simulator.datagram import IP_UDP_HEADER, Datagram
from quicstack.simulator.datagram_host import DatagramHost
from quicstack.train import Address, Path, SendError, Train

__all__ = ["Application", "Host"]

MAX_ROUNDS = 10_000
"""An endpoint that goes on so often within one instant goes on for ever."""


class Application(Protocol):
    """What runs on a host. It acts on the connections it is shown, and the host does the rest."""

    def start(self, host: Host) -> None:
        """Virtual time begins: a client connects here."""
        ...

    def ready(self, host: Host, connection: Connection) -> None:
        """A connection is new, has changed or is closed; ``connection.take_ready()`` says more."""
        ...


class Host(DatagramHost):
    """Carries one endpoint, client or server, and at will an application.

    The endpoint gets its randomness from the simulation's seed and takes virtual time for real, timers exact. It is
    told of every datagram by itself: an ACK policy sees them as from a slow link, whatever the network was.
    ``mtu`` is that of the host's own interface: larger IP packets are refused to the endpoint's face. An experiment
    does not go on over a defect of this library: what closed a connection with INTERNAL_ERROR is raised.
    """

    endpoint: Endpoint
    _timer: Timer

    def __init__(
        self,
        configuration: Configuration,
        *,
        server: bool = False,
        application: Application | None = None,
        address: Address | None = None,
        other_hosts: tuple[str, ...] = (),
        mtu: int = 65535,
    ) -> None:
        super().__init__(address=address, other_hosts=other_hosts)
        self.configuration = configuration
        self.is_server = server
        self.application = application
        self.mtu = mtu
        self._rounds = (0.0, 0)

    def attach(
        self, clock: Clock, random: Random, wall_time: Callable[[], float], network: Callable[[Datagram], None]
    ) -> None:
        super().attach(clock, random, wall_time, network)
        own = Random(random.getrandbits(256))  # what an application draws from host.random changes nothing on the wire
        environment = Environment(random=own.randbytes, wall_time=wall_time, simulation=True)
        self.endpoint = Endpoint(self.configuration, environment=environment, server=self.is_server)
        self._timer = Timer(clock, self._expired)

    def start(self) -> None:
        if self.application is not None:
            self.application.start(self)
        self.wake()

    def connect(self, server: DatagramHost, *, configuration: Configuration | None = None) -> Connection:
        """Begin a connection to another host; its first datagrams leave at this instant."""
        connection = self.endpoint.connect(self.path_to(server), self.clock.now, configuration=configuration)
        self.clock.at(self.clock.now, self.wake)
        return connection

    def receive(self, datagram: Datagram) -> None:
        data, source, destination, ecn = datagram
        self.endpoint.receive(Train(data, len(data), Path(source, destination), ecn), self.clock.now)
        self.wake()

    def wake(self) -> None:
        """Show the application what is ready, send what there is to send, set the timer."""
        endpoint, now = self.endpoint, self.clock.now
        while True:
            ready = endpoint.take_ready()
            for connection in ready:
                if connection.internal_error is not None:
                    raise RuntimeError(f"a defect closed {connection!r}") from connection.internal_error
                if self.application is not None:
                    self.application.ready(self, connection)
            while (train := endpoint.next_train(now)) is not None:
                self._transmit(train)
                self._count_round()
            if not ready:
                break
            self._count_round()
        self._timer.set(endpoint.next_timeout())

    def _transmit(self, train: Train) -> None:
        """A link takes trains apart: from here on each datagram is by itself."""
        if train.segment_size + IP_UDP_HEADER > self.mtu:
            self.endpoint.send_failed(train, SendError.TOO_BIG, self.clock.now)
            return
        path = train.path
        for data in train.datagrams():
            self.send(data, path.remote, source=path.local, ecn=train.ecn)

    def _expired(self) -> None:
        self._count_round()
        self.endpoint.handle_timeout(self.clock.now)
        self.wake()

    def _count_round(self) -> None:
        """Virtual time must go on: an endpoint that always has one thing more to do now is caught here."""
        time, count = self._rounds
        self._rounds = (self.clock.now, count + 1 if time == self.clock.now else 1)
        if self._rounds[1] > MAX_ROUNDS:
            raise RuntimeError(f"the endpoint at {self.address} does not come to rest at {self.clock.now:.6f} s")

"""Two session tables over two engines in one process, and a clock of their own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

import pytest

from h3.connection import H3Connection
from h3.exchange import Exchange
from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust
from quicstack.train import Path, Train
from webtransport.app import ServerApp
from webtransport.certificates import CertificatePair, generate_self_signed_cert
from webtransport.config import ClientConfig, ServerConfig
from webtransport.dialects import DIALECTS, DRAFT02, Dialect, FlowLimits, settings_to_send
from webtransport.session_limits import SessionLimits
from webtransport.session_state import Session
from webtransport.session_table import SessionTable

CLIENT, SERVER = ("192.0.2.1", 50000), ("192.0.2.2", 443)
DELAY = 0.01
SOON = 0.4  # timers of the engine further away than this are left alone, unless a test says otherwise


class Side:
    """One table and what it reported."""

    def __init__(
        self, quic: Connection, settings: dict[int, int], dialects: tuple[Dialect, ...], **table: object
    ) -> None:
        self.quic = quic
        self.h3 = H3Connection(
            quic,
            extra_settings=settings,
            enable_webtransport=True,
            connect_protocol_implied_by=(DRAFT02.support_setting,),
        )
        self.table = SessionTable(self.h3, settings=settings, dialects=dialects, **table)  # type: ignore[arg-type]
        self.requested: list[Session] = []
        self.http: list[Exchange] = []
        self.on_request: Callable[[Session], None] | None = self.accept

    def accept(self, session: Session) -> None:
        self.table.accept(session)

    def process(self, now: float) -> None:
        self.table.process(self.quic.take_ready(), now)
        news = self.table.take_ready()
        self.http.extend(news.requests)
        for session in news.sessions:
            if not self.quic.is_client and session not in self.requested:
                self.requested.append(session)
                if self.on_request is not None:
                    self.on_request(session)


class Net:
    """A wire with a delay between a client and a server; ``run`` lets them talk until both are silent."""

    def __init__(
        self,
        pair: CertificatePair,
        *,
        client_dialects: tuple[Dialect, ...] = DIALECTS,
        server_dialects: tuple[Dialect, ...] = DIALECTS,
        client_limits: FlowLimits | None = None,
        server_limits: FlowLimits | None = None,
        window: FlowLimits | None = None,
        max_sessions: int = 4,
        session_limits: SessionLimits | None = None,
        server_settings: dict[int, int] | None = None,
        raw_client: bool = False,
        quic: dict[str, object] | None = None,
        require_reset_stream_at: bool = True,
    ) -> None:
        seeded = random.Random(7)
        environment = Environment(random=seeded.randbytes, wall_time=lambda: 0.0, simulation=True)
        store = CertificateStore(CertificateKey.load(*pair))
        configuration = Configuration(
            alpn_protocols=("h3",),
            certificates=store,
            trust=Trust.insecure(),
            **(quic or {}),  # type: ignore[arg-type]
        )
        self.client: Side
        self.server: Side
        self.now = 1000.0
        self.drop: Callable[[Train], bool] = lambda train: False
        self.soon = SOON
        self._endpoints = {
            CLIENT: Endpoint(configuration, environment=environment, server=False),
            SERVER: Endpoint(configuration, environment=environment, server=True),
        }
        self._wire: list[tuple[float, tuple[object, ...], Train]] = []
        client = self._endpoints[CLIENT].connect(Path(SERVER, CLIENT), self.now)
        self._sides: dict[Connection, Side] = {}
        self.run()
        server = next(iter(self._endpoints[SERVER].connections))
        default = FlowLimits(1 << 16, 8, 8)
        self.client_quic = client
        for connection, dialects, limits in (
            (client, client_dialects, default if client_limits is None else client_limits),
            (server, server_dialects, default if server_limits is None else server_limits),
        ):
            settings = settings_to_send(
                server=not connection.is_client, max_sessions=max_sessions, limits=limits, dialects=dialects
            )
            if connection.is_client and raw_client:
                continue
            if not connection.is_client:
                settings |= server_settings or {}
            side = Side(
                connection,
                settings,
                dialects,
                max_sessions=max_sessions,
                window=window or FlowLimits(1 << 20, 32, 32),
                limits=session_limits,
                require_reset_stream_at=require_reset_stream_at,
            )
            self._sides[connection] = side
            if connection.is_client:
                self.client = side
            else:
                self.server = side
        self.run()

    def run(self) -> None:
        """Until nothing is on the wire, no timer is near and nobody has anything to send."""
        for _ in range(5000):
            for here, endpoint in self._endpoints.items():
                for connection in endpoint.take_ready():
                    if connection in self._sides:
                        self._sides[connection].process(self.now)
                while (train := endpoint.next_train(self.now)) is not None:
                    if not self.drop(train):
                        arriving = Train(train.data, train.segment_size, Path(here, train.path.remote), train.ecn)
                        self._wire.append((self.now + DELAY, train.path.remote, arriving))
            deadlines = [endpoint.next_timeout() for endpoint in self._endpoints.values()]
            near = [at for at in deadlines if at is not None and at < self.now + self.soon]
            near += [at for at, *_ in self._wire[:1]]
            if not near:
                return
            self.now = max(self.now, min(near))
            for endpoint in self._endpoints.values():
                if (at := endpoint.next_timeout()) is not None and at <= self.now:
                    endpoint.handle_timeout(self.now)
            while self._wire and self._wire[0][0] <= self.now:
                _, there, arriving = self._wire.pop(0)
                self._endpoints[there].receive(arriving, self.now)
        raise AssertionError("the two never fall silent")

    def wait(self, seconds: float) -> None:
        """Let time pass for the tables, then let everybody talk."""
        self.now += seconds
        for side in self._sides.values():
            side.table.handle_timeout(self.now)
        self.run()

    def connect(self, path: str = "/", **arguments: object) -> tuple[Session, Session]:
        """A session, seen from both sides."""
        session = self.client.table.connect("test", path, **arguments)  # type: ignore[arg-type]
        self.run()
        return session, self.server.requested[-1]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> CertificatePair:
    folder: FilePath = tmp_path_factory.mktemp("certificates")
    return generate_self_signed_cert("localhost", folder)


@pytest.fixture
def net(certificate: CertificatePair) -> Iterator[Callable[..., Net]]:
    """Makes nets."""

    def make(**arguments: object) -> Net:
        return Net(certificate, **arguments)  # type: ignore[arg-type]

    yield make


# Over real sockets


@pytest.fixture
def app(certificate: CertificatePair) -> ServerApp:
    """A server application without routes."""
    return ServerApp(config=ServerConfig.create(*certificate, max_sessions=8))


@pytest.fixture
def client_config(certificate: CertificatePair) -> Callable[..., ClientConfig]:
    """Makes client configurations that believe the test's certificate, and nothing else."""

    def make(**options: object) -> ClientConfig:
        return ClientConfig.create(ca_certs=certificate.certfile, **options)  # type: ignore[arg-type]

    return make

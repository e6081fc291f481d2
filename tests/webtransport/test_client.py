from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import pytest

from quicstack.errors import CertificateError, ConfigurationError, ConnectionClosed
from webtransport import (
    ClientConfig,
    ConnectTimeout,
    ServerApp,
    WebTransportClient,
    WebTransportError,
    WebTransportSession,
    WebTransportUnsupported,
    certificate_hash,
)
from webtransport.certificates import CertificatePair, generate_self_signed_cert
from webtransport.client import Target
from webtransport.config import ServerConfig
from webtransport.link import Link
from webtransport.routing import Router
from webtransport.server import WebTransportServer
from webtransport.session_state import Session

Config = Callable[..., ClientConfig]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("example.com", 443, "example.com", "/")),
        ("https://Example.com:443/a?b=c", Target("example.com", 443, "example.com", "/a?b=c")),
        ("https://127.0.0.1:4433/", Target("127.0.0.1", 4433, "127.0.0.1:4433", "/")),
        ("https://[::1]:8443/x", Target("::1", 8443, "[::1]:8443", "/x")),
        ("https://bücher.example/", Target("xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/")),
    ],
)
def test_urls(url: str, target: Target) -> None:
    assert Target.parse(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "example.com",
        "https://",
        "https://a@example.com/",
        "https://example.com/#x",
        "https://example.com:99999/",
        "https://example.com/ü",
        "https://[::1/",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Target.parse(url)


async def stay(session: WebTransportSession) -> None:
    await session.wait_closed()


async def test_verification_is_on(app: ServerApp) -> None:
    app.add_route("/", stay)
    async with app.serve() as server, WebTransportClient() as client:
        with pytest.raises(CertificateError):
            await client.connect(f"https://127.0.0.1:{server.port}/")


async def test_ways_to_believe(app: ServerApp, certificate: CertificatePair) -> None:
    app.add_route("/", stay)
    digest = certificate_hash(certificate.certfile)
    configs = [
        ClientConfig.create(ca_certs=certificate.certfile),
        ClientConfig.create(server_certificate_hashes=[digest]),
        ClientConfig.create(verify_mode=ssl.CERT_NONE),
    ]
    async with app.serve(["127.0.0.1", "::1"]) as server:
        for config in configs:
            for host in ("127.0.0.1", "[::1]", "localhost"):
                async with WebTransportClient(config) as client:
                    await client.connect(f"https://{host}:{server.port}/")


async def test_ways_not_to_believe(app: ServerApp, tmp_path: object) -> None:
    app.add_route("/", stay)
    other = generate_self_signed_cert("localhost", tmp_path)  # type: ignore[arg-type]
    configs = [
        ClientConfig.create(ca_certs=other.certfile),
        ClientConfig.create(server_certificate_hashes=[bytes(32)]),
    ]
    async with app.serve() as server:
        for config in configs:
            async with WebTransportClient(config) as client:
                with pytest.raises(CertificateError):
                    await client.connect(f"https://127.0.0.1:{server.port}/")


def test_contradictions() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        ClientConfig.create(ca_certs="x.pem", server_certificate_hashes=[bytes(32)])
    with pytest.raises(ConfigurationError, match="CERT_NONE"):
        ClientConfig.create(verify_mode=ssl.CERT_NONE, ca_certs="x.pem")
    with pytest.raises(ConfigurationError, match="draft-99"):
        ClientConfig.create(dialects=["draft-99"])
    with pytest.raises(ConfigurationError, match="dialects"):
        ClientConfig.create(dialects=[])
    with pytest.raises(ConfigurationError, match="max_sessions"):
        ClientConfig.create(max_sessions=0)
    with pytest.raises(ConfigurationError, match="quic"):
        ClientConfig.create(quic={"no_such_knob": 1}).configuration("test")


async def test_nobody_there(client_config: Config) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with WebTransportClient(client_config()) as client:
        with pytest.raises((ConnectionClosed, OSError)):
            await client.connect(f"https://127.0.0.1:{port}/")


async def test_somebody_silent(client_config: Config) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with WebTransportClient(client_config()) as client:
            with pytest.raises(ConnectTimeout, match=r"0\.2 s"):
                await client.connect(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2)
            with pytest.raises(TimeoutError):
                await client.connect(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.1)


async def test_no_common_draft(certificate: CertificatePair, client_config: Config) -> None:
    app = ServerApp(ServerConfig.create(*certificate, dialects=["draft-16"]))
    async with app.serve() as server, WebTransportClient(client_config(dialects=["draft-02"])) as client:
        with pytest.raises(WebTransportUnsupported):
            await client.connect(f"https://127.0.0.1:{server.port}/")


async def test_too_many_sessions_of_one_connection(certificate: CertificatePair, client_config: Config) -> None:
    app = ServerApp(ServerConfig.create(*certificate, max_sessions=1))
    app.add_route("/", stay)
    async with app.serve() as server, WebTransportClient(client_config(pooling=True, dialects=["draft-02"])) as client:
        url = f"https://127.0.0.1:{server.port}/"
        await client.connect(url)
        with pytest.raises(WebTransportError, match="refused the session with a stream reset") as error:
            await client.connect(url)
        assert error.value.code == 0x10B  # type: ignore[attr-defined]


async def test_cancelled_connect_leaves_nothing(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", stay)
    async with app.serve() as server, WebTransportClient(client_config()) as client:
        came_about = []
        for turns in range(0, 60, 3):
            connecting = asyncio.ensure_future(client.connect(f"https://127.0.0.1:{server.port}/"))
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            came_about += await asyncio.gather(connecting, return_exceptions=True)
        sessions = [outcome for outcome in came_about if isinstance(outcome, WebTransportSession)]
        assert len(sessions) < len(came_about)
        assert set(client._links) == {session.link for session in sessions}


async def test_a_closed_client(app: ServerApp, client_config: Config) -> None:
    client = WebTransportClient(client_config())
    await client.close()
    with pytest.raises(WebTransportError, match="closed"):
        await client.connect("https://127.0.0.1/")


async def test_the_end_of_a_client_reaches_the_server(app: ServerApp, client_config: Config) -> None:
    ends: asyncio.Queue[object] = asyncio.Queue()

    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        ends.put_nowait(await session.wait_closed())

    async with app.serve() as server:
        async with WebTransportClient(client_config()) as client:
            await client.connect(f"https://127.0.0.1:{server.port}/")
        info = await ends.get()
        assert info.clean and info.code == 0 and info.by_peer  # type: ignore[attr-defined]


class LyingServer(WebTransportServer):
    """Chooses a subprotocol that nobody offered."""

    def _on_session(self, link: Link, core: Session) -> None:
        if core.close_info is None:
            link.table.accept(core, headers=[(b"wt-protocol", b'"other"')])
            WebTransportSession(core, link)
            link.touch()


@pytest.mark.parametrize(("dialect", "offered", "fails"), [
    ("draft-16", ["one"], True),
    ("draft-16", [], False),
    ("draft-14", ["one"], False),
    ("draft-02", ["one"], False),
])  # fmt: skip
async def test_a_subprotocol_that_was_not_offered(
    certificate: CertificatePair, client_config: Config, dialect: str, offered: list[str], fails: bool
) -> None:
    config = ServerConfig.create(*certificate)
    async with LyingServer(config, Router()) as server, WebTransportClient(client_config(dialects=[dialect])) as client:
        await server.listen("127.0.0.1", 0)
        connecting = client.connect(f"https://127.0.0.1:{server.port}/", subprotocols=offered)
        if fails:
            with pytest.raises(WebTransportError, match="'other'"):
                await connecting
        else:
            assert (await connecting).subprotocol is None


async def test_a_silent_session_lives_on(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", stay)
    config = client_config(keep_alive=0.05, quic={"max_idle_timeout": 0.4})
    async with app.serve() as server, WebTransportClient(config) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.2):
                await session.wait_closed()


async def test_a_silent_session_may_time_out(app: ServerApp, client_config: Config) -> None:
    app.add_route("/", stay)
    config = client_config(keep_alive=None, quic={"max_idle_timeout": 0.3})
    async with app.serve() as server, WebTransportClient(config) as client:
        session = await client.connect(f"https://127.0.0.1:{server.port}/")
        info = await session.wait_closed()
        assert isinstance(info.cause, TimeoutError) and not info.clean

"""Our endpoint for the QUIC interop runner: ``python -m interop.endpoint``, told what to do by its environment.

Exit status: 0 for success, 1 for failure, 127 for a test case that it does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from h3.client import H3Client
from h3.server import Reply, Request
from h3.server import serve as serve_h3
from interop import hq
from interop.cases import CASES, ENDPOINT_CASES
from interop.surroundings import UNSUPPORTED, Surroundings, Target
from quicstack import CertificateKey, CertificateStore, Configuration, QuicstackError, Trust
from quicstack.drivers.aio import AsyncConnection, connect, serve
from quicstack.session_store import MemorySessionStore
from quicstack.tls.groups import SECP256R1, X25519
from quicstack.tls.key_schedule import TLS_CHACHA20_POLY1305_SHA256
from quicstack.wire.version import QUIC_V1, QUIC_V2

__all__ = ["client_configuration", "main", "server_configuration"]

H3_ALPN: Final = "h3"
TWO_CONNECTIONS: Final = ("resumption", "zerortt")
TICKET_TIMEOUT: Final = 5.0
HANDSHAKE_TIMEOUT: Final = 60.0
"""With three datagrams in ten lost each way, a handshake takes its time."""


class Sessions(MemorySessionStore):
    """Says when there is a session to resume: a ticket may come after the last byte of a file."""

    __slots__ = ("arrived",)

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()

    def put(self, key: str, session: bytes, /) -> None:
        super().put(key, session)
        self.arrived.set()


def shared_settings(case: str, protocol: str) -> dict[str, Any]:
    """What a case asks of both sides.

    Certificates are not compressed: one of the cases counts their bytes. A ClientHello shall fit into one packet:
    others count ClientHellos, or the datagrams before and after the first.
    """
    settings: dict[str, Any] = {
        "alpn_protocols": (protocol,),
        "handshake_timeout": HANDSHAKE_TIMEOUT,
        "certificate_compression": (),
        "groups": (X25519, SECP256R1),
    }
    if case == "chacha20":
        settings["cipher_suites"] = (TLS_CHACHA20_POLY1305_SHA256,)
    return settings


def client_configuration(surroundings: Surroundings) -> Configuration:
    """The runner makes certificates for itself, and they are not what it tests: any is taken."""
    settings = shared_settings(surroundings.case, surroundings.protocol)
    if surroundings.case == "v2":
        settings |= {"versions": (QUIC_V2, QUIC_V1), "original_version": QUIC_V1}
    if surroundings.case in TWO_CONNECTIONS:
        settings |= {"session_store": Sessions(), "early_data": surroundings.case == "zerortt"}
    else:
        settings["session_store"] = None
    return Configuration(trust=Trust.insecure(), **settings)


def server_configuration(surroundings: Surroundings) -> Configuration:
    settings = shared_settings(surroundings.case, surroundings.protocol)
    settings["early_data"] = surroundings.case == "zerortt"
    settings["retry"] = "always" if surroundings.case == "retry" else "never"
    if surroundings.case == "v2":
        settings["versions"] = (QUIC_V2, QUIC_V1)
    if surroundings.case == "connectionmigration":
        for address in surroundings.preferred:
            settings["preferred_ipv6" if ":" in address[0] else "preferred_ipv4"] = address
    store = CertificateStore(CertificateKey.load(surroundings.certificate, surroundings.key))
    return Configuration(certificates=store, **settings)


# -- client ------------------------------------------------------------------------------------------------------


async def run_client(surroundings: Surroundings) -> None:
    """Connections one after the other, each with some of the requests: mostly one with all."""
    targets, configuration = surroundings.targets, client_configuration(surroundings)
    download = _download_h3 if surroundings.protocol == H3_ALPN else _download
    parts = [targets]
    if surroundings.case == "multiconnect":
        parts = [(target,) for target in targets]
    elif surroundings.case in TWO_CONNECTIONS:
        parts = [targets[:1], targets[1:]]
    for part in parts:
        await download(surroundings, part, configuration)


async def _wait_for_session(configuration: Configuration) -> None:
    """Where there is to be a second connection, the first one does not end without a ticket."""
    if isinstance(configuration.session_store, Sessions):
        async with asyncio.timeout(TICKET_TIMEOUT):
            await configuration.session_store.arrived.wait()


async def _download(surroundings: Surroundings, targets: Sequence[Target], configuration: Configuration) -> None:
    """All files at once on one connection."""
    connection = await connect(targets[0].host, targets[0].port, configuration=configuration)
    async with connection, asyncio.TaskGroup() as tasks:
        for target in targets:
            tasks.create_task(hq.fetch(connection, target.path, surroundings.download(target.path)))
        if surroundings.case == "keyupdate":
            tasks.create_task(_update_keys(connection))
        tasks.create_task(_wait_for_session(configuration))
    connection.release()


async def _update_keys(connection: AsyncConnection) -> None:
    """As soon as it may be: RFC 9001 §6 wants the handshake confirmed."""
    while not connection.engine.update_keys(time.monotonic()):
        await asyncio.sleep(0.01)
    connection.flush()


async def _download_h3(surroundings: Surroundings, targets: Sequence[Target], configuration: Configuration) -> None:
    async with H3Client.connect(targets[0].host, targets[0].port, configuration=configuration) as client:

        async def fetch(target: Target) -> None:
            response = await client.get(target.path)
            if response.status != 200:
                raise RuntimeError(f"{target.path}: status {response.status}")
            with surroundings.download(target.path).open("wb") as file:
                async for chunk in response:
                    file.write(chunk)

        async with asyncio.TaskGroup() as tasks:
            for target in targets:
                tasks.create_task(fetch(target))
            if surroundings.case == "keyupdate":
                tasks.create_task(_update_keys(client.session.connection))
            tasks.create_task(_wait_for_session(configuration))


# -- server ------------------------------------------------------------------------------------------------------


async def run_server(surroundings: Surroundings) -> None:
    """Until it is told to end."""
    configuration = server_configuration(surroundings)
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    hosts = surroundings.host.split() or None
    if surroundings.protocol == H3_ALPN:
        server: Any = await serve_h3(hosts, surroundings.port, _h3_handler(surroundings), configuration)
    else:

        async def answer(connection: AsyncConnection) -> None:
            await hq.serve_connection(connection, surroundings.file)

        server = await serve(hosts, surroundings.port, configuration=configuration, on_connection=answer)
    async with server:
        await ending.wait()


def _h3_handler(surroundings: Surroundings) -> Any:
    async def answer(request: Request) -> Reply:
        path: Path | None = surroundings.file(request.path)
        return Reply(404, (), b"") if path is None else Reply(200, (), path.read_bytes())

    return answer


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    surroundings = Surroundings.read()
    if surroundings.case not in ENDPOINT_CASES | CASES.keys():
        print(f"unsupported test case: {surroundings.case}", file=sys.stderr)
        return UNSUPPORTED
    status = 0
    try:
        asyncio.run(run_server(surroundings) if surroundings.role == "server" else run_client(surroundings))
    except* (QuicstackError, OSError, RuntimeError) as errors:
        print("\n".join(_told(errors)), file=sys.stderr)
        status = 1
    return status


def _told(error: BaseException) -> list[str]:
    """What is in a group of errors, a line each."""
    if isinstance(error, BaseExceptionGroup):
        return [line for one in error.exceptions for line in _told(one)]
    return [f"{type(error).__name__}: {error}"]


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())

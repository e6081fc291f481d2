"""Two configurations that trust each other, and a runner that checks what a scenario leaves behind."""

from __future__ import annotations

import asyncio
import datetime
import gc
import ipaddress
import itertools
import os
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from quicstack.config import Configuration
from quicstack.drivers.aio import AsyncConnection
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def certificate() -> CertificateKey:
    """Self-signed, for the names of this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    addresses = [ipaddress.ip_address(text) for text in ("127.0.0.1", "127.0.0.2", "::1")]
    names = [x509.DNSName("localhost"), *(x509.IPAddress(address) for address in addresses)]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateKey((certificate,), key)


class Pair(NamedTuple):
    client: Configuration
    server: Configuration


@pytest.fixture
def pair(certificate: CertificateKey) -> Pair:
    return Pair(
        Configuration(alpn_protocols=("echo",), trust=Trust.roots(certificate.certificates)),
        Configuration(alpn_protocols=("echo",), certificates=CertificateStore(certificate)),
    )


async def echo(connection: AsyncConnection) -> None:
    """Send back what comes on each stream, once it is complete, and each datagram."""

    async def datagrams() -> None:
        while True:
            connection.send_datagram(b"echo " + await connection.receive_datagram())

    async def stream() -> None:
        while True:
            stream = await connection.accept_stream()
            await stream.write_all(b"echo " + await stream.read_all())

    await asyncio.gather(datagrams(), stream())


@pytest.fixture(name="echo")
def echo_handler() -> Callable[[AsyncConnection], Awaitable[None]]:
    return echo


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform.startswith("linux") else 0


def _timers(loop: asyncio.AbstractEventLoop) -> list[Any]:
    """What asyncio still has on its schedule; uvloop does not show."""
    return [timer for timer in getattr(loop, "_scheduled", []) if not timer.cancelled()]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a scenario on each kind of loop, within 30 s. It must leave no task, timer, socket or logged exception."""
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop", reason="install uvloop").new_event_loop
    else:
        factory = asyncio.new_event_loop
    complaints: list[dict[str, Any]] = []

    async def checked(scenario: Coroutine[Any, Any, Any]) -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        gc.collect()
        files = _open_files()
        async with asyncio.timeout(30):
            result = await scenario
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert _timers(loop) == []
        assert _open_files() == files
        return result

    def run(scenario: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            result = runner.run(checked(scenario))
        assert complaints == []
        return result

    yield run


@types.coroutine
def cancelled_at(coroutine: Coroutine[Any, Any, Any], point: int) -> Generator[Any, Any, bool]:
    """Run ``coroutine`` and cancel it where it suspends for the ``point``-th time. False if it never did so often."""
    for suspensions in itertools.count():
        try:
            waited_for = coroutine.send(None) if suspensions != point + 1 else coroutine.throw(asyncio.CancelledError())
        except StopIteration:
            return False
        except asyncio.CancelledError:
            return True
        if suspensions == point:
            continue
        yield waited_for
    raise AssertionError


@pytest.fixture(name="cancelled_at")
def cancelled_at_fixture() -> Callable[..., Any]:
    return cancelled_at

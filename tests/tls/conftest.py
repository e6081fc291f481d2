"""A certificate authority, and a wire between a client's and a server's handshake that can cut and alter messages."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.client import ClientHandshake
from quicstack.tls.epoch import Epoch
from quicstack.tls.handshake import Handshake, Output, TlsEvent
from quicstack.tls.server import ServerHandshake
from quicstack.tls.server_name import parse_ip
from quicstack.tls.settings import TlsSettings
from quicstack.tls.trust import Trust

NOW = 1_800_000_000.0
DAY = 86400.0
Alter = Callable[[Handshake, bytes], bytes]


def _moment(offset: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(NOW + offset, datetime.UTC)


class Authority:
    """Issues certificates of every kind, right ones and wrong ones. Keys are made once: RSA takes its time."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], Any] = {}
        self._serial = 1000

    def key(self, kind: str = "p256", name: str = "leaf") -> Any:
        make: dict[str, Callable[[], Any]] = {
            "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
        }
        if (kind, name) not in self._keys:
            self._keys[kind, name] = make[kind]()
        return self._keys[kind, name]

    def certificate(
        self,
        subject: str = "leaf",
        *,
        names: Sequence[str] | None = ("localhost",),
        key: Any = None,
        issuer: tuple[x509.Certificate, Any] | None = None,
        not_before: float = -DAY,
        not_after: float = 5 * DAY,
        usages: Sequence[x509.ObjectIdentifier] | None = None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> x509.Certificate:
        """Self-signed unless there is an ``issuer``. ``names`` become subjectAltName."""
        key = key or self.key()
        issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (_name(subject), key)
        self._serial += 1
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(self._serial)
            .not_valid_before(_moment(not_before))
            .not_valid_after(_moment(not_after))
        )
        if names is not None:
            addresses = [(name, parse_ip(name)) for name in names]
            general = [x509.DNSName(n) if a is None else x509.IPAddress(a) for n, a in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
        if usages is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        is_edwards = isinstance(issuer_key, ed25519.Ed25519PrivateKey)
        return builder.sign(issuer_key, None if is_edwards else hashes.SHA256())

    def root(self, subject: str = "root", kind: str = "p256", **changes: Any) -> tuple[x509.Certificate, Any]:
        """(certificate, key) of an authority; with ``issuer`` an intermediate one."""
        key = self.key(kind, subject)
        extensions = changes.pop("extensions", [(x509.BasicConstraints(True, None), True)])
        changes = {"names": None, "not_before": -3650 * DAY, "not_after": 36500 * DAY} | changes
        return self.certificate(subject, key=key, extensions=extensions, **changes), key

    def server(self, kind: str = "p256", **changes: Any) -> tuple[CertificateKey, x509.Certificate]:
        """A server's certificate with its key, and the root that issued it."""
        root, root_key = self.root()
        key = self.key(kind)
        changes = {"usages": [ExtendedKeyUsageOID.SERVER_AUTH]} | changes
        return CertificateKey((self.certificate(key=key, issuer=(root, root_key), **changes),), key), root

    def client(self, kind: str = "p256", **changes: Any) -> tuple[CertificateKey, x509.Certificate]:
        """A client's certificate without a name, with its key, and the root that issued it."""
        changes = {"subject": "client", "names": None, "usages": [ExtendedKeyUsageOID.CLIENT_AUTH]} | changes
        return self.server(kind, **changes)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Wire:
    """A client and a server, and what passes between them. ``alter`` sees each message with its sender."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        certificate_key, root = authority.server()
        self.certificates = CertificateStore(certificate_key)
        self.trust = Trust.roots(root)
        self.events: dict[Handshake, list[TlsEvent]] = {}
        self.messages: list[bytes] = []
        self.keylog: list[str] = []

    def client(self, seed: int = 1, **settings: Any) -> ClientHandshake:
        """Without compression of certificates, so that Certificate messages can be seen and altered."""
        defaults = {"alpn_protocols": ("h3",), "server_name": "localhost", "trust": self.trust}
        settings = defaults | {"certificate_compression": ()} | settings
        client = ClientHandshake(TlsSettings(**settings), transport_parameters=lambda _: b"client's", **_world(seed))
        self.events[client] = []
        return client

    def server(
        self,
        seed: int = 2,
        transport_parameters: Callable[[bytes | None], bytes] | None = None,
        make: type[ServerHandshake] = ServerHandshake,
        **settings: Any,
    ) -> ServerHandshake:
        settings = {"alpn_protocols": ("h3",), "certificates": self.certificates} | settings
        answer = transport_parameters or (lambda peer: b"server's for " + (peer or b"nobody"))
        server = make(TlsSettings(**settings), transport_parameters=answer, **_world(seed))
        self.events[server] = []
        return server

    def run(
        self, client: Handshake, server: Handshake, *, alter: Alter | None = None, chunk: int = 1 << 20
    ) -> tuple[Handshake, Handshake]:
        """Carry messages until both are silent."""
        client.start()
        server.start()
        while any([self.carry(client, server, alter, chunk), self.carry(server, client, alter, chunk)]):
            pass
        return client, server

    def carry(self, sender: Handshake, receiver: Handshake, alter: Alter | None = None, chunk: int = 1 << 20) -> bool:
        events = sender.take_events()
        self.events[sender] += events
        for event in events:
            if isinstance(event, Output):
                data = alter(sender, event.data) if alter else event.data
                self.messages.append(data)
                for start in range(0, len(data), chunk):
                    receiver.receive(event.epoch, data[start : start + chunk])
        return bool(events)

    def client_hello(self, **settings: Any) -> bytes:
        """The ClientHello of a fresh client, alone."""
        client = self.client(**settings)
        client.start()
        (event,) = client.take_events()
        assert isinstance(event, Output)
        assert event.epoch == Epoch.INITIAL
        return event.data


def _world(seed: int) -> dict[str, Any]:
    return {"random": random.Random(seed).randbytes, "wall_time": lambda: NOW}


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def wire(authority: Authority) -> Wire:
    return Wire(authority)


@pytest.fixture
def now() -> float:
    return NOW


class Trace:
    """One of the handshakes of RFC 8448, octet by octet."""

    def __init__(self, name: str) -> None:
        file = Path(__file__).parents[1] / "vectors" / "rfc8448_traces.json"
        self.steps = [
            (step["who"], step["step"], {field["name"]: bytes.fromhex(field["hex"]) for field in step["fields"]})
            for step in json.loads(file.read_text())["traces"][name]
        ]

    @property
    def messages(self) -> list[bytes]:
        """The handshake messages, in the order in which both sides add them to the transcript."""
        return [next(iter(fields.values())) for _, step, fields in self.steps if step.startswith("construct a")]

    def secret(self, label: str) -> bytes:
        """The result of ``derive secret "tls13 LABEL"``."""
        (found,) = {f["expanded"] for _, step, f in self.steps if step.endswith(f'"tls13 {label}"') and "expanded" in f}
        return found

    def shared_secret(self) -> bytes:
        (found,) = {f["IKM"] for _, step, f in self.steps if step == 'extract secret "handshake"'}
        return found


@pytest.fixture
def trace() -> type[Trace]:
    return Trace

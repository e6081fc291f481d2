"""Our handshake against a stranger's: the TLS engine of aioquic, which does no I/O either."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from quicstack.tls.certificate import CertificateStore
from quicstack.tls.epoch import Epoch
from quicstack.tls.handshake import Handshake, HandshakeComplete, NewKeys, Output, PeerTransportParameters
from quicstack.tls.key_schedule import CIPHER_SUITES
from quicstack.tls.trust import Trust

stranger = pytest.importorskip("aioquic.tls", reason="install aioquic")
buffer = pytest.importorskip("aioquic.buffer", reason="install aioquic")

DAY = 86400.0
SUITES = sorted(CIPHER_SUITES)
GROUPS = {"secp256r1": 0x17, "secp384r1": 0x18, "x25519": 0x1D}
EPOCHS = {Epoch.INITIAL: "INITIAL", Epoch.HANDSHAKE: "HANDSHAKE", Epoch.ONE_RTT: "ONE_RTT"}


class Stranger:
    """An aioquic Context with the few lines that a QUIC connection puts around it."""

    def __init__(self, *, is_client: bool, suite: int, groups: tuple[int, ...], root: Any) -> None:
        self.context = stranger.Context(
            is_client=is_client,
            alpn_protocols=["h3"],
            cadata=root.public_bytes(Encoding.PEM),
            cipher_suites=[stranger.CipherSuite(suite)],
            server_name="localhost" if is_client else None,
        )
        self.context._supported_groups = [stranger.Group(group) for group in groups]
        self.context.handshake_extensions = [(0x39, b"the stranger's")]
        self.context.update_traffic_key_cb = self.on_key
        self.output = {epoch: buffer.Buffer(capacity=16384) for epoch in stranger.Epoch}
        self.secrets: dict[tuple[str, str], bytes] = {}

    def on_key(self, direction: Any, epoch: Any, suite: Any, secret: bytes) -> None:
        self.secrets[epoch.name, direction.name] = secret

    def receive(self, data: bytes) -> None:
        self.context.handle_message(data, self.output)

    def take(self) -> list[tuple[Epoch, bytes]]:
        sent = []
        for epoch, name in EPOCHS.items():
            out = self.output[stranger.Epoch[name]]
            if out.tell():
                sent.append((epoch, out.data))
                out.seek(0)
        return sent


def converse(ours: Handshake, theirs: Stranger) -> list[Any]:
    """Run both to silence; what our side said and did."""
    ours.start()
    if not ours.is_client:
        theirs.receive(b"")
    events: list[Any] = []
    for _ in range(4):
        for epoch, data in theirs.take():
            ours.receive(epoch, data)
        new = ours.take_events()
        events += new
        for event in new:
            if isinstance(event, Output):
                theirs.receive(event.data)
    return events


def check_secrets(events: list[Any], theirs: Stranger) -> None:
    for event in events:
        if isinstance(event, NewKeys):
            direction = "DECRYPT" if event.is_write else "ENCRYPT"
            assert theirs.secrets[EPOCHS[event.epoch], direction] == event.secret
    assert len(theirs.secrets) == 4
    assert HandshakeComplete() in events


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
@pytest.mark.parametrize("suite", SUITES)
def test_our_client_with_its_server(wire: Any, authority: Any, suite: int, kind: str) -> None:
    certificate_key, root = authority.server(kind)
    theirs = Stranger(is_client=False, suite=suite, groups=tuple(GROUPS.values()), root=root)
    theirs.context.certificate = certificate_key.certificates[0]
    theirs.context.certificate_private_key = certificate_key.private_key
    client = wire.client()
    events = converse(client, theirs)
    check_secrets(events, theirs)
    assert client.cipher_suite == CIPHER_SUITES[suite]
    assert client.peer_certificates == certificate_key.certificates
    assert PeerTransportParameters(b"the stranger's") in events
    assert theirs.context.alpn_negotiated == client.alpn_protocol == "h3"


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
@pytest.mark.parametrize("suite", SUITES)
def test_its_client_with_our_server(wire: Any, authority: Any, suite: int, kind: str) -> None:
    """Its client checks our certificate with OpenSSL, against the root and the name."""
    certificate_key, root = authority.server(kind, not_before=-3650 * DAY, not_after=36500 * DAY)
    theirs = Stranger(is_client=True, suite=suite, groups=tuple(GROUPS.values()), root=root)
    server = wire.server(certificates=CertificateStore(certificate_key))
    check_secrets(converse(server, theirs), theirs)
    assert server.is_complete
    assert server.server_name == "localhost"


@pytest.mark.parametrize("group", GROUPS)
def test_groups_with_its_server(wire: Any, authority: Any, group: str) -> None:
    certificate_key, root = authority.server()
    theirs = Stranger(is_client=False, suite=0x1301, groups=(GROUPS[group],), root=root)
    theirs.context.certificate = certificate_key.certificates[0]
    theirs.context.certificate_private_key = certificate_key.private_key
    client = wire.client(groups=(GROUPS[group],))
    check_secrets(converse(client, theirs), theirs)
    assert client.group_name == group


@pytest.mark.parametrize("group", GROUPS)
def test_groups_with_its_client(wire: Any, authority: Any, group: str) -> None:
    certificate_key, root = authority.server(not_before=-3650 * DAY, not_after=36500 * DAY)
    theirs = Stranger(is_client=True, suite=0x1302, groups=tuple(GROUPS.values()), root=root)
    server = wire.server(groups=(GROUPS[group],), certificates=CertificateStore(certificate_key))
    check_secrets(converse(server, theirs), theirs)
    assert server.group_name == group


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_our_client_shows_its_server_a_certificate(wire: Any, authority: Any, kind: str) -> None:
    """Its server takes whatever is signed right; OpenSSL, in another test, looks at the chain too."""
    certificate_key, root = authority.server()
    shown, _ = authority.client(kind)
    theirs = Stranger(is_client=False, suite=0x1301, groups=tuple(GROUPS.values()), root=root)
    theirs.context.certificate = certificate_key.certificates[0]
    theirs.context.certificate_private_key = certificate_key.private_key
    theirs.context._request_client_certificate = True
    check_secrets(converse(wire.client(client_certificate=shown), theirs), theirs)
    assert theirs.context._peer_certificate == shown.certificates[0]


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa", None])
def test_its_client_shows_our_server_a_certificate(wire: Any, authority: Any, kind: str | None) -> None:
    certificate_key, root = authority.server(not_before=-3650 * DAY, not_after=36500 * DAY)
    theirs = Stranger(is_client=True, suite=0x1301, groups=tuple(GROUPS.values()), root=root)
    chain: tuple[Any, ...] = ()
    if kind is not None:
        shown, _ = authority.client(kind)
        theirs.context.certificate, theirs.context.certificate_private_key = shown.certificates[0], shown.private_key
        chain = shown.certificates
    server = wire.server(
        certificates=CertificateStore(certificate_key),
        client_authentication="optional",
        client_trust=Trust.roots(root),
    )
    check_secrets(converse(server, theirs), theirs)
    assert server.peer_certificates == chain

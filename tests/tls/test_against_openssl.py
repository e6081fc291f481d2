"""Our client's handshake against OpenSSL's server, which speaks TLS over TCP: it knows ML-KEM, which aioquic does not.

The record layer (RFC 8446 §5) that QUIC does without is here; what QUIC adds to EncryptedExtensions is not asked for.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from quicstack.tls.client import ClientHandshake
from quicstack.tls.epoch import Epoch
from quicstack.tls.extensions import ExtensionType
from quicstack.tls.groups import SECP384R1, X25519, available_groups, group_name
from quicstack.tls.handshake import HandshakeComplete, NewKeys, Output, Run
from quicstack.tls.key_schedule import CIPHER_SUITES, hkdf_expand_label
from quicstack.tls.messages import EncryptedExtensions, Extensions, HandshakeType
from quicstack.tls.server_answer import selected_alpn
from quicstack.tls.settings import TlsSettings
from quicstack.tls.trust import Trust

SSL = pytest.importorskip("OpenSSL.SSL", reason="install pyOpenSSL")

DAY = 86400.0
CHANGE_CIPHER_SPEC, HANDSHAKE, APPLICATION_DATA = 20, 22, 23


class TcpClient(ClientHandshake):
    """Takes an EncryptedExtensions without transport parameters."""

    def _wait_encrypted_extensions(self, offered: Extensions) -> Run:
        message = yield (HandshakeType.ENCRYPTED_EXTENSIONS,)
        self._transcript.add(message.data)
        extensions = EncryptedExtensions.read(message.body).extensions
        assert ExtensionType.QUIC_TRANSPORT_PARAMETERS not in extensions
        self.alpn_protocol = selected_alpn(extensions, self.settings.alpn_protocols)


class Protection:
    """AEAD of TLS records (RFC 8446 §5.2, §5.3)."""

    def __init__(self, keys: NewKeys) -> None:
        suite = keys.suite
        key = hkdf_expand_label(suite.hash(), keys.secret, b"key", b"", suite.key_length)
        self.iv = int.from_bytes(hkdf_expand_label(suite.hash(), keys.secret, b"iv", b"", 12), "big")
        self.aead: Any = ChaCha20Poly1305(key) if suite.value == 0x1303 else AESGCM(key)
        self.sequence = 0

    def nonce(self) -> bytes:
        self.sequence += 1
        return (self.iv ^ (self.sequence - 1)).to_bytes(12, "big")

    def seal(self, content_type: int, data: bytes) -> bytes:
        header = bytes([APPLICATION_DATA, 3, 3]) + (len(data) + 17).to_bytes(2, "big")
        return header + bytes(self.aead.encrypt(self.nonce(), data + bytes([content_type]), header))

    def open(self, record: bytes) -> tuple[int, bytes]:
        inner = self.aead.decrypt(self.nonce(), record[5:], record[:5]).rstrip(b"\x00")
        return inner[-1], inner[:-1]


class Tcp:
    """Carries our client's messages in records to an OpenSSL server held in memory."""

    def __init__(self, client: ClientHandshake, server: Any) -> None:
        self.client, self.server = client, server
        self.read: Protection | None = None
        self.write: Protection | None = None
        self.epoch = Epoch.INITIAL
        self.complete = False
        self.pending = b""
        self.hellos = 0

    def run(self) -> None:
        self.client.start()
        for _ in range(4):
            self.perform()
            with contextlib.suppress(SSL.WantReadError):
                self.server.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                self.pending += self.server.bio_read(1 << 16)
            while self.pending and not self.complete:
                size = 5 + int.from_bytes(self.pending[3:5], "big")
                record, self.pending = self.pending[:size], self.pending[size:]
                if record[0] == CHANGE_CIPHER_SPEC:  # Sent for middleboxes, means nothing (RFC 8446 §5).
                    continue
                content_type, data = self.read.open(record) if self.read else (record[0], record[5:])
                assert content_type == HANDSHAKE
                self.client.receive(self.epoch, data)
                self.perform()

    def perform(self) -> None:
        """Do what the client's events say."""
        for event in self.client.take_events():
            match event:
                case NewKeys(is_write=True):
                    self.write = Protection(event)
                case NewKeys():
                    self.read, self.epoch = Protection(event), event.epoch
                case Output(data=data):
                    self.hellos += data[0] == HandshakeType.CLIENT_HELLO
                    header = bytes([HANDSHAKE, 3, 3]) + len(data).to_bytes(2, "big")
                    self.server.bio_write(self.write.seal(HANDSHAKE, data) if self.write else header + data)
                case HandshakeComplete():
                    self.complete = True


def openssl_server(authority: Any) -> tuple[Any, Any]:
    """An OpenSSL context with a certificate of our authority, and the root."""
    pair, root = authority.server()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(pair.certificates[0])
    context.use_privatekey(pair.private_key)
    context.set_alpn_select_callback(lambda _, offered: offered[0])
    return context, root


def connect(context: Any, now: float, **settings: Any) -> tuple[TcpClient, Tcp, Any]:
    server = SSL.Connection(context, None)
    server.set_accept_state()
    client = TcpClient(
        TlsSettings(("h3",), server_name="localhost", **settings),
        random=random.Random(1).randbytes,
        wall_time=lambda: now,
        transport_parameters=lambda _: b"ours",
    )
    tcp = Tcp(client, server)
    tcp.run()
    assert tcp.complete
    assert tcp.write is not None
    server.bio_write(tcp.write.seal(APPLICATION_DATA, b"under the 1-RTT keys"))
    assert server.recv(100) == b"under the 1-RTT keys"
    return client, tcp, server


@pytest.mark.parametrize("group", available_groups(), ids=group_name)
@pytest.mark.parametrize("suite", sorted(CIPHER_SUITES))
def test_our_client_with_openssl(authority: Any, now: float, suite: int, group: int) -> None:
    context, root = openssl_server(authority)
    client, _, server = connect(context, now, cipher_suites=(suite,), groups=(group,), trust=Trust.roots(root))
    assert server.get_cipher_name() == CIPHER_SUITES[suite].name
    assert server.get_alpn_proto_negotiated() == b"h3"
    assert client.group == group


@pytest.mark.parametrize("suite", sorted(CIPHER_SUITES))
def test_exported_keying_material(authority: Any, now: float, suite: int) -> None:
    context, root = openssl_server(authority)
    client, _, server = connect(context, now, cipher_suites=(suite,), trust=Trust.roots(root))
    for label, about, length in (
        ("EXPORTER-Channel-Binding", b"", 32),
        ("x", b"\x00" * 300, 1),
        ("y" * 249, b"a", 999),
    ):
        assert client.export(label, about, length) == server.export_keying_material(label.encode(), length, about)
    assert client.export("EXPORTER-x", b"", 32) == server.export_keying_material(b"EXPORTER-x", 32)


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_our_client_certificate(authority: Any, now: float, kind: str) -> None:
    """OpenSSL checks the chain, the usage and the signature of CertificateVerify."""
    shown, _ = authority.client(kind, not_before=-3650 * DAY, not_after=36500 * DAY)
    context, root = openssl_server(authority)
    context.get_cert_store().add_cert(SSL.X509.from_cryptography(root))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    _, _, server = connect(context, now, trust=Trust.roots(root), client_certificate=shown)
    assert server.get_peer_certificate().to_cryptography() == shown.certificates[0]


def test_openssl_may_ask_in_vain(authority: Any, now: float) -> None:
    context, root = openssl_server(authority)
    context.set_verify(SSL.VERIFY_PEER)
    _, _, server = connect(context, now, trust=Trust.roots(root))
    assert server.get_peer_certificate() is None


def test_hello_retry_request_of_openssl(authority: Any, now: float) -> None:
    context, root = openssl_server(authority)
    context.set_tmp_ecdh(ec.SECP384R1())
    client, tcp, _ = connect(context, now, groups=(X25519, SECP384R1), trust=Trust.roots(root))
    assert client.group_name == "secp384r1"
    assert tcp.hellos == 2

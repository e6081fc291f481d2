"""What both sides of the handshake share: cutting bytes into messages, feeding them to a generator, and events.

A side of the handshake is a generator (``_run``) that yields the message types it can take next and is sent the
message when it has arrived completely. So ``client.py`` and ``server.py`` read from top to bottom like the state
machines of RFC 8446 Appendix A, and a message that is out of order fails here, by its type alone.
"""

from __future__ import annotations

import abc
import hmac
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeAlias

from cryptography import x509

from quicstack.errors import ConfigurationError, TransportError, TransportErrorCode
from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.epoch import Epoch
from quicstack.tls.groups import group_name
from quicstack.tls.key_schedule import CipherSuite, KeySchedule, Transcript, export
from quicstack.tls.messages import message_name
from quicstack.tls.psk import early_secrets
from quicstack.tls.session import Session
from quicstack.tls.settings import TlsSettings

__all__ = [
    "EarlyDataSettled",
    "Handshake",
    "HandshakeComplete",
    "Message",
    "NewKeys",
    "NewSession",
    "Output",
    "PeerTransportParameters",
    "Run",
    "TlsEvent",
]

MAX_MESSAGE = 65536
"""Largest handshake message taken, header included. TLS allows 16 MiB; a long certificate chain has 10 KiB."""

MAX_EXPORTER_LABEL = 249
"""HkdfLabel holds 255 bytes (RFC 8446 §7.1), six of which are its prefix."""
MAX_EXPORT = 255
"""Times the length of the hash: what HKDF-Expand can give (RFC 5869 §2.3)."""


class Output(NamedTuple):
    """Bytes for CRYPTO frames of one level."""

    epoch: Epoch
    data: bytes


class NewKeys(NamedTuple):
    """A traffic secret is ready; packet protection keys are derived from it (RFC 9001 §5.1)."""

    epoch: Epoch
    is_write: bool
    suite: CipherSuite
    secret: bytes


class PeerTransportParameters(NamedTuple):
    """The body of the peer's quic_transport_parameters (RFC 9001 §8.2). Not authenticated before completion."""

    data: bytes


class HandshakeComplete(NamedTuple):
    """RFC 9001 §4.1.1: our Finished is on its way and the peer's was right."""


class EarlyDataSettled(NamedTuple):
    """0-RTT was offered, and the server has taken it or not (RFC 9001 §4.6.2)."""

    is_accepted: bool


class NewSession(NamedTuple):
    """A client may resume this connection later; ``context`` of the session is still empty."""

    session: Session


TlsEvent: TypeAlias = Output | NewKeys | PeerTransportParameters | HandshakeComplete | EarlyDataSettled | NewSession


class Message(NamedTuple):
    """A complete handshake message: its type, its body, and all its bytes for the transcript."""

    type: int
    body: bytes
    data: bytes


Run: TypeAlias = Generator[tuple[int, ...], Message, None]
"""Yields the types it can take next, is sent a message of one of them."""


class Handshake(abc.ABC):
    """Common engine; see :class:`~quicstack.tls.client.ClientHandshake` and its server twin for use.

    :meth:`start`, then :meth:`receive` with the CRYPTO bytes of each level in order, then :meth:`take_events` after
    each of them. :meth:`receive` raises :class:`TransportError`, after which the handshake is dead.
    """

    __slots__ = (
        "_buffer", "_events", "_expected", "_exporter_secret", "_failure", "_generator", "_random", "_read_epoch",
        "_transcript", "_transport_parameters", "_wall_time", "alpn_protocol", "cipher_suite", "client_random",
        "early_data_accepted", "group", "is_complete", "peer_certificates", "server_name", "session_resumed",
        "settings",
    )  # fmt: skip

    is_client: bool
    later: tuple[int, ...] = ()
    """Messages that may come after the handshake."""

    def __init__(
        self,
        settings: TlsSettings,
        *,
        random: Callable[[int], bytes],
        wall_time: Callable[[], float],
        transport_parameters: Callable[[bytes | None], bytes],
    ) -> None:
        self.settings = settings
        self.alpn_protocol: str | None = None
        self.cipher_suite: CipherSuite | None = None
        self.group: int | None = None
        self.server_name: str | None = None
        self.peer_certificates: tuple[x509.Certificate, ...] = ()
        self.client_random = b""
        self.is_complete = False
        self.session_resumed = False
        """A session of an earlier connection was taken up; no certificate was shown in this one."""
        self.early_data_accepted: bool | None = None
        """None: not offered, or not answered yet."""
        self._random = random
        self._wall_time = wall_time
        self._transport_parameters = transport_parameters
        self._transcript = Transcript()
        self._read_epoch = Epoch.INITIAL
        self._buffer = bytearray()
        self._events: list[TlsEvent] = []
        self._failure: TransportError | None = None
        self._expected: tuple[int, ...] = ()
        self._exporter_secret = b""
        self._generator: Run | None = self._run()

    @property
    def group_name(self) -> str | None:
        return None if self.group is None else group_name(self.group)

    def start(self) -> None:
        """Run up to the first message of the peer; a client's ClientHello is an event afterwards."""
        assert self._generator is not None
        self._expected = next(self._generator)

    def take_events(self) -> list[TlsEvent]:
        """What to do since the last call, in order: keys come before the output that they protect."""
        events, self._events = self._events, []
        return events

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """Keying material of this connection for another protocol (RFC 8446 §7.5, RFC 5705 §4).

        Both sides get the same bytes for the same arguments. Raises :class:`ConfigurationError` before the handshake
        is complete: until then nobody has proven who the other side is.
        """
        if not self.is_complete or self.cipher_suite is None:
            raise ConfigurationError("keying material can be exported only when the handshake is complete")
        hash = self.cipher_suite.hash()
        if not label.isascii() or not 1 <= len(label) <= MAX_EXPORTER_LABEL:
            raise ConfigurationError(f"the exporter label {label!r} must be 1 to {MAX_EXPORTER_LABEL} ASCII characters")
        if not 1 <= length <= MAX_EXPORT * hash.digest_size:
            raise ConfigurationError(f"cannot export {length} bytes, only 1 to {MAX_EXPORT * hash.digest_size}")
        return export(hash, self._exporter_secret, label.encode(), context, length)

    def receive(self, epoch: Epoch, data: bytes) -> None:
        """In-order CRYPTO bytes of one level, cut anywhere; no bytes do nothing. Raises :class:`TransportError`."""
        if self._failure is not None:
            raise self._failure
        try:
            self._receive(epoch, data)
        except TransportError as error:
            self._failure = error
            raise

    def _receive(self, epoch: Epoch, data: bytes) -> None:
        if not data:
            return
        if epoch != self._read_epoch:
            # RFC 9001 §4.1.3: once keys have changed, nothing may be added to the levels before.
            raise TransportError(
                TransportErrorCode.PROTOCOL_VIOLATION,
                f"CRYPTO data at level {epoch.name}, expected at {self._read_epoch.name}",
            )
        self._buffer += data
        while len(self._buffer) >= 4:
            message_type, size = self._buffer[0], 4 + int.from_bytes(self._buffer[1:4], "big")
            self._check_header(message_type, size)
            if len(self._buffer) < size:
                break
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            read_epoch = self._read_epoch
            self._take(Message(message_type, data[4:], data))
            if self._read_epoch != read_epoch and self._buffer:
                # RFC 8446 §5.1: no message may span a change of keys, or follow it unprotected.
                raise tls_error(
                    Alert.UNEXPECTED_MESSAGE,
                    f"{len(self._buffer)} bytes follow {message_name(message_type)} at level {read_epoch.name}, "
                    f"expected them at {self._read_epoch.name}",
                )

    def _take(self, message: Message) -> None:
        if self._generator is None:
            self._take_later(message)
            return
        try:
            self._expected = self._generator.send(message)
        except StopIteration:
            self._expected = self.later
            self._let_go()

    def _take_later(self, message: Message) -> None:
        raise AssertionError(f"{message_name(message.type)} is not among those that may come later")

    def _let_go(self) -> None:
        """The handshake is done: keep what it has settled and nothing of the way there (6 KiB)."""
        self._generator = None
        del self._transcript, self._transport_parameters

    def let_go(self) -> None:
        """The connection is over, whatever became of its handshake."""
        if self._generator is not None:
            self._generator.close()
            self._expected = ()
            self._let_go()

    def _check_header(self, message_type: int, size: int) -> None:
        if message_type not in self._expected:
            expected = " or ".join(map(message_name, self._expected)) or "no further message"
            raise tls_error(Alert.UNEXPECTED_MESSAGE, f"{message_name(message_type)} was sent, expected was {expected}")
        if size > MAX_MESSAGE:
            raise TransportError(
                TransportErrorCode.CRYPTO_BUFFER_EXCEEDED,
                f"{message_name(message_type)} is {size} bytes long, at most {MAX_MESSAGE} are taken",
            )

    @abc.abstractmethod
    def _run(self) -> Run:
        """The handshake from its first message to the last."""

    def _send(self, epoch: Epoch, message: bytes) -> None:
        self._transcript.add(message)
        self._events.append(Output(epoch, message))

    def _enter_handshake(self, schedule: KeySchedule, shared_secret: bytes) -> tuple[bytes, bytes]:
        """After ServerHello: install the handshake keys and return their secrets, (client's, server's)."""
        schedule.enter_handshake(shared_secret)
        transcript_hash = self._transcript.digest()
        client = schedule.derive(b"c hs traffic", transcript_hash)
        server = schedule.derive(b"s hs traffic", transcript_hash)
        self._log_key("CLIENT_HANDSHAKE_TRAFFIC_SECRET", client)
        self._log_key("SERVER_HANDSHAKE_TRAFFIC_SECRET", server)
        local, peer = (client, server) if self.is_client else (server, client)
        self._install_keys(Epoch.HANDSHAKE, schedule, local, is_write=True)
        self._install_keys(Epoch.HANDSHAKE, schedule, peer, is_write=False)
        return client, server

    def _enter_application(self, schedule: KeySchedule) -> tuple[bytes, bytes]:
        """After the server's Finished: the 1-RTT secrets, (ours, the peer's). Each side installs them in its time."""
        schedule.enter_application()
        transcript_hash = self._transcript.digest()
        client = schedule.derive(b"c ap traffic", transcript_hash)
        server = schedule.derive(b"s ap traffic", transcript_hash)
        self._log_key("CLIENT_TRAFFIC_SECRET_0", client)
        self._log_key("SERVER_TRAFFIC_SECRET_0", server)
        self._exporter_secret = schedule.derive(b"exp master", transcript_hash)
        self._log_key("EXPORTER_SECRET", self._exporter_secret)
        return (client, server) if self.is_client else (server, client)

    def _check_finished(self, schedule: KeySchedule, peer_secret: bytes, body: bytes) -> None:
        """RFC 8446 §4.4.4: the peer's Finished, over everything before it."""
        expected = schedule.finished(peer_secret, self._transcript.digest())
        if len(body) != len(expected):
            raise tls_error(Alert.DECODE_ERROR, f"Finished is {len(body)} bytes long, expected {len(expected)}")
        if not hmac.compare_digest(body, expected):
            raise tls_error(Alert.DECRYPT_ERROR, "Finished does not match the handshake: a message was altered")

    def _install_keys(self, epoch: Epoch, schedule: KeySchedule, secret: bytes, *, is_write: bool) -> None:
        self._events.append(NewKeys(epoch, is_write, schedule.suite, secret))
        if not is_write:
            self._read_epoch = epoch

    def _install_early_keys(self, schedule: KeySchedule, *, is_write: bool) -> None:
        """RFC 8446 §7.1: from the ClientHello alone, which is all that the transcript holds now."""
        secret, exporter_secret = early_secrets(schedule, self._transcript)
        self._log_key("CLIENT_EARLY_TRAFFIC_SECRET", secret)
        self._log_key("EARLY_EXPORTER_SECRET", exporter_secret)
        self._events.append(NewKeys(Epoch.EARLY_DATA, is_write, schedule.suite, secret))

    def _log_key(self, label: str, secret: bytes) -> None:
        """RFC 9850 §2: the label, the client random, the secret."""
        if self.settings.keylog is not None:
            self.settings.keylog(f"{label} {self.client_random.hex()} {secret.hex()}")

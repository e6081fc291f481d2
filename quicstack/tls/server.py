"""The server's side of the handshake: RFC 8446 §A.2, top to bottom.

::

    START           Recv ClientHello (a second one after HelloRetryRequest, when no share of it can be used)
    NEGOTIATED      Send ServerHello                                            handshake keys
                    Send EncryptedExtensions, [CertificateRequest,]
                    Certificate, CertificateVerify, Finished                    1-RTT write keys
    WAIT_CERT       Recv Certificate            only if it was asked for, as the next
    WAIT_CV         Recv CertificateVerify      only if there is a certificate
    WAIT_FINISHED   Recv Finished                                               1-RTT read keys
    CONNECTED       nothing more: QUIC has its own key update

The server keeps its state over a HelloRetryRequest, so it sends no cookie. Offered PSKs and 0-RTT are declined.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from quicstack.errors import CertificateError, ConfigurationError, TransportError, TransportErrorCode
from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.authentication import (
    certificate_types,
    check_certificate_verify,
    read_certificate,
    write_certificate,
    write_certificate_request,
    write_certificate_verify,
)
from quicstack.tls.certificate import CertificateKey
from quicstack.tls.epoch import Epoch
from quicstack.tls.extensions import (
    TLS_1_3,
    ExtensionType,
    check_extensions,
    read_alpn,
    read_code_points,
    read_compression_algorithms,
    read_key_share_entries,
    read_pre_shared_key,
    read_server_name,
    read_supported_versions,
    required,
    write_alpn,
    write_key_share_entry,
)
from quicstack.tls.groups import group_name, respond
from quicstack.tls.handshake import Handshake, HandshakeComplete, Message, Run
from quicstack.tls.key_schedule import CIPHER_SUITES, CipherSuite, KeySchedule
from quicstack.tls.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    ClientHello,
    EncryptedExtensions,
    Extensions,
    Finished,
    HandshakeType,
    ServerHello,
)
from quicstack.tls.presentation import number
from quicstack.tls.settings import TlsSettings
from quicstack.tls.signatures import CLIENT_CONTEXT, SERVER_CONTEXT, signed_content
from quicstack.tls.trust import Trust

__all__ = ["ServerHandshake"]


@dataclass(slots=True)
class Offer:
    """A ClientHello that is well formed, with the extensions that decide the handshake taken apart."""

    hello: ClientHello
    groups: tuple[int, ...]
    shares: dict[int, bytes]
    signature_schemes: tuple[int, ...]
    certificate_compression: tuple[int, ...]
    alpn_protocols: tuple[bytes, ...]
    server_name: str | None
    transport_parameters: bytes


class ServerHandshake(Handshake):
    """See the diagram above, and :class:`~quicstack.tls.handshake.Handshake` for how to drive it.

    ``transport_parameters`` is called once, with the body of the client's extension, when ALPN is settled; what it
    returns is sent, and a TransportError that it raises ends the handshake.
    """

    is_client = False

    def __init__(
        self,
        settings: TlsSettings,
        *,
        random: Callable[[int], bytes],
        wall_time: Callable[[], float],
        transport_parameters: Callable[[bytes | None], bytes],
    ) -> None:
        if settings.certificates is None:
            raise ConfigurationError("a server needs a certificate and its key: set certificates")
        self._certificates = settings.certificates
        super().__init__(settings, random=random, wall_time=wall_time, transport_parameters=transport_parameters)

    def _run(self) -> Run:
        offer, suite, group = yield from self._wait_client_hello()
        certificate_key, scheme = self._certificates.select(offer.server_name, offer.signature_schemes)
        schedule, client_secret, server_secret = self._send_server_hello(offer, suite, group)
        self._send_encrypted_extensions(offer)
        if self.settings.client_trust is not None:
            self._send_certificate_request()
        self._send_certificate(offer, certificate_key, scheme)
        peer_secret = self._send_finished(schedule, server_secret)
        if self.settings.client_trust is not None:
            yield from self._wait_certificate(self.settings.client_trust)
        yield from self._wait_finished(schedule, client_secret, peer_secret)
        yield ()

    # START

    def _wait_client_hello(self) -> Generator[tuple[int, ...], Message, tuple[Offer, CipherSuite, int]]:
        message = yield (HandshakeType.CLIENT_HELLO,)
        offer = _read_offer(message.body)
        self.client_random = offer.hello.random
        self.server_name = offer.server_name
        self.cipher_suite = suite = self._choose_cipher_suite(offer.hello)
        self.alpn_protocol = self._choose_alpn(offer)
        self.group = group = self._choose_group(offer)
        self._transcript.choose_hash(suite.hash())
        self._transcript.add(message.data)
        if group not in offer.shares:
            self._send_hello_retry_request(suite, group)
            message = yield (HandshakeType.CLIENT_HELLO,)
            first, offer = offer, _read_offer(message.body)
            _check_second_offer(first, offer, group)
            self._transcript.add(message.data)
        return offer, suite, group

    def _choose_cipher_suite(self, hello: ClientHello) -> CipherSuite:
        for suite in self.settings.cipher_suites:
            if suite in hello.cipher_suites:
                return CIPHER_SUITES[suite]
        raise tls_error(
            Alert.HANDSHAKE_FAILURE,
            f"ClientHello offers no cipher suite of ours: expected one of "
            f"{', '.join(CIPHER_SUITES[suite].name for suite in self.settings.cipher_suites)}",
        )

    def _choose_alpn(self, offer: Offer) -> str:
        """RFC 7301 §3.2, RFC 9001 §8.1: the server's preference, and no connection without one."""
        for protocol in self.settings.alpn_protocols:
            if protocol.encode() in offer.alpn_protocols:
                return protocol
        raise tls_error(
            Alert.NO_APPLICATION_PROTOCOL,
            f"ClientHello offers the ALPN protocols {list(offer.alpn_protocols)!r}, expected one of "
            f"{self.settings.alpn_protocols}",
        )

    def _choose_group(self, offer: Offer) -> int:
        """The best group that came with a share, to save a round trip; else the best that the client knows."""
        for candidates in (offer.shares, offer.groups):
            for group in self.settings.groups:
                if group in candidates:
                    return group
        raise tls_error(
            Alert.HANDSHAKE_FAILURE,
            f"ClientHello offers no key exchange group of ours: expected one of "
            f"{', '.join(map(group_name, self.settings.groups))}",
        )

    def _send_hello_retry_request(self, suite: CipherSuite, group: int) -> None:
        """RFC 8446 §4.1.4: ask for a share of ``group``."""
        extensions: Extensions = {
            ExtensionType.SUPPORTED_VERSIONS: number(TLS_1_3, 2),
            ExtensionType.KEY_SHARE: number(group, 2),
        }
        self._transcript.replace_by_message_hash()
        self._send(Epoch.INITIAL, ServerHello(HELLO_RETRY_REQUEST_RANDOM, suite.value, extensions).write())

    # NEGOTIATED

    def _send_server_hello(self, offer: Offer, suite: CipherSuite, group: int) -> tuple[KeySchedule, bytes, bytes]:
        share, shared_secret = respond(group, offer.shares[group], self._random)
        extensions: Extensions = {
            ExtensionType.SUPPORTED_VERSIONS: number(TLS_1_3, 2),
            ExtensionType.KEY_SHARE: write_key_share_entry(group, share),
        }
        self._send(Epoch.INITIAL, ServerHello(self._random(32), suite.value, extensions).write())
        schedule = KeySchedule(suite)
        return schedule, *self._enter_handshake(schedule, shared_secret)

    def _send_encrypted_extensions(self, offer: Offer) -> None:
        assert self.alpn_protocol is not None
        extensions: Extensions = {
            ExtensionType.ALPN: write_alpn((self.alpn_protocol.encode(),)),
            ExtensionType.QUIC_TRANSPORT_PARAMETERS: self._transport_parameters(offer.transport_parameters),
        }
        self._send(Epoch.HANDSHAKE, EncryptedExtensions(extensions).write())

    def _send_certificate_request(self) -> None:
        settings = self.settings
        request = write_certificate_request(settings.signature_schemes, settings.certificate_compression)
        self._send(Epoch.HANDSHAKE, request)

    def _send_certificate(self, offer: Offer, certificate_key: CertificateKey, scheme: int) -> None:
        ours, peers = self.settings.certificate_compression, offer.certificate_compression
        self._send(Epoch.HANDSHAKE, write_certificate(certificate_key.chain, ours, peers))
        proof = write_certificate_verify(certificate_key, scheme, SERVER_CONTEXT, self._transcript.digest())
        self._send(Epoch.HANDSHAKE, proof)

    def _send_finished(self, schedule: KeySchedule, server_secret: bytes) -> bytes:
        """Returns the secret that protects the client's 1-RTT packets, to be installed after its Finished."""
        verify_data = schedule.finished(server_secret, self._transcript.digest())
        self._send(Epoch.HANDSHAKE, Finished(verify_data).write())
        local_secret, peer_secret = self._enter_application(schedule)
        self._install_keys(Epoch.ONE_RTT, schedule, local_secret, is_write=True)
        return peer_secret

    # WAIT_CERT, WAIT_CV

    def _wait_certificate(self, trust: Trust) -> Run:
        """RFC 8446 §4.4.2.4. ``peer_certificates`` is set when the client has proven that it holds the key."""
        compression = self.settings.certificate_compression
        message = yield certificate_types(compression)
        self._transcript.add(message.data)
        chain = read_certificate(message, "client's", compression=compression, offered=())
        if not chain:
            if self.settings.client_authentication == "required":
                raise tls_error(Alert.CERTIFICATE_REQUIRED, "the client showed no certificate, expected one")
            return
        try:
            trust.verify_client(chain, self._wall_time())
        except CertificateError as error:
            raise tls_error(error.alert, str(error), cause=error) from error
        message = yield (HandshakeType.CERTIFICATE_VERIFY,)
        check_certificate_verify(
            message.body,
            "client's",
            leaf=chain[0],
            schemes=self.settings.signature_schemes,
            content=signed_content(CLIENT_CONTEXT, self._transcript.digest()),
        )
        self._transcript.add(message.data)
        self.peer_certificates = chain

    # WAIT_FINISHED

    def _wait_finished(self, schedule: KeySchedule, client_secret: bytes, peer_secret: bytes) -> Run:
        message = yield (HandshakeType.FINISHED,)
        self._check_finished(schedule, client_secret, message.body)
        self._transcript.add(message.data)
        # RFC 9001 §5.7: nothing that came in 1-RTT packets is processed before this moment.
        self._install_keys(Epoch.ONE_RTT, schedule, peer_secret, is_write=False)
        self.is_complete = True
        self._events.append(HandshakeComplete())


def _read_offer(body: bytes) -> Offer:
    """Check a ClientHello by itself: RFC 8446 §4.1.2, §4.2, §9.2, RFC 9001 §8."""
    hello = ClientHello.read(body)
    extensions = hello.extensions
    versions = read_supported_versions(extensions.get(ExtensionType.SUPPORTED_VERSIONS, b"\x02\x03\x03"))
    if TLS_1_3 not in versions:
        spelled = ", ".join(f"{version:#06x}" for version in versions)
        raise tls_error(Alert.PROTOCOL_VERSION, f"ClientHello offers the TLS versions {spelled}, expected 0x0304")
    if hello.legacy_session_id:
        raise TransportError(
            TransportErrorCode.PROTOCOL_VIOLATION,
            "ClientHello has a legacy_session_id, expected an empty one: QUIC has no middlebox compatibility mode "
            "(RFC 9001 §8.4)",
        )
    if hello.legacy_compression_methods != b"\x00":
        methods = hello.legacy_compression_methods.hex()
        raise tls_error(Alert.ILLEGAL_PARAMETER, f"ClientHello has compression methods {methods}, expected only 00")
    check_extensions("CH", extensions)
    _check_pre_shared_key(extensions)
    signature_schemes = required("CH", extensions, ExtensionType.SIGNATURE_ALGORITHMS)
    groups = read_code_points(
        required("CH", extensions, ExtensionType.SUPPORTED_GROUPS), ExtensionType.SUPPORTED_GROUPS
    )
    shares = read_key_share_entries(required("CH", extensions, ExtensionType.KEY_SHARE))
    for group in shares:
        if group not in groups:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                f"key_share has a share of {group_name(group)}, expected only groups of supported_groups",
            )
    transport_parameters = required("CH", extensions, ExtensionType.QUIC_TRANSPORT_PARAMETERS)
    compression = extensions.get(ExtensionType.COMPRESS_CERTIFICATE)
    alpn, server_name = extensions.get(ExtensionType.ALPN), extensions.get(ExtensionType.SERVER_NAME)
    return Offer(
        hello=hello,
        groups=groups,
        shares=shares,
        signature_schemes=read_code_points(signature_schemes, ExtensionType.SIGNATURE_ALGORITHMS),
        certificate_compression=() if compression is None else read_compression_algorithms(compression),
        alpn_protocols=() if alpn is None else read_alpn(alpn),
        server_name=None if server_name is None else read_server_name(server_name),
        transport_parameters=transport_parameters,
    )


def _check_pre_shared_key(extensions: Extensions) -> None:
    """RFC 8446 §4.2.9, §4.2.11. No PSK is taken yet, but a broken offer is refused."""
    if ExtensionType.PRE_SHARED_KEY in extensions:
        if list(extensions)[-1] != ExtensionType.PRE_SHARED_KEY:
            raise tls_error(Alert.ILLEGAL_PARAMETER, "pre_shared_key is not the last extension of ClientHello")
        read_pre_shared_key(extensions[ExtensionType.PRE_SHARED_KEY])
        required("CH", extensions, ExtensionType.PSK_KEY_EXCHANGE_MODES)


def _check_second_offer(first: Offer, second: Offer, group: int) -> None:
    """RFC 8446 §4.1.2: after a HelloRetryRequest the ClientHello is the same, with the share that was asked for."""
    if list(second.shares) != [group]:
        sent = ", ".join(map(group_name, second.shares)) or "none"
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"the second ClientHello has key shares of {sent}, expected exactly {group_name(group)}",
        )
    for what, before, after in (
        ("random", first.hello.random, second.hello.random),
        ("cipher_suites", first.hello.cipher_suites, second.hello.cipher_suites),
        ("supported_groups", first.groups, second.groups),
        ("signature_algorithms", first.signature_schemes, second.signature_schemes),
        ("compress_certificate", first.certificate_compression, second.certificate_compression),
        ("ALPN", first.alpn_protocols, second.alpn_protocols),
        ("server_name", first.server_name, second.server_name),
    ):
        if before != after:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER, f"the second ClientHello has another {what} than the first, expected the same"
            )

"""The server's side of the handshake: RFC 8446 §A.2, top to bottom.

::

    START           Recv ClientHello (a second one after HelloRetryRequest, when no share of it can be used)
    NEGOTIATED      Send ServerHello                                            handshake keys
                    Send EncryptedExtensions, [CertificateRequest,]
                    Certificate, CertificateVerify, Finished                    1-RTT write keys
    WAIT_CERT       Recv Certificate            only if it was asked for, as the next
    WAIT_CV         Recv CertificateVerify      only if there is a certificate
    WAIT_FINISHED   Recv Finished                                               1-RTT read keys
    CONNECTED       Send NewSessionTicket; nothing more comes: QUIC has its own key update

A resumed handshake has no certificates (RFC 8446 §2.2). Of 0-RTT only the keys are made here: in QUIC it ends without
EndOfEarlyData (RFC 9001 §8.3). The server keeps its state over a HelloRetryRequest, so it sends no cookie.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from quicstack.errors import CertificateError, ConfigurationError
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
from quicstack.tls.extensions import TLS_1_3, ExtensionType, write_alpn, write_key_share_entry
from quicstack.tls.groups import group_name, respond
from quicstack.tls.handshake import EarlyDataSettled, Handshake, HandshakeComplete, Message, Output, Run
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
from quicstack.tls.offer import Offer, check_second_offer, read_offer
from quicstack.tls.presentation import number
from quicstack.tls.psk import check_binder
from quicstack.tls.resumption import Resumed, Resumption, TransportPolicy
from quicstack.tls.settings import TlsSettings
from quicstack.tls.signatures import CLIENT_CONTEXT, SERVER_CONTEXT, signed_content
from quicstack.tls.tickets import TicketKeys
from quicstack.tls.trust import Trust

__all__ = ["ServerHandshake"]


class ServerHandshake(Handshake):
    """See the diagram above, and :class:`~quicstack.tls.handshake.Handshake` for how to drive it.

    ``transport_parameters`` is called once, with the body of the client's extension, when ALPN is settled; what it
    returns is sent, and a TransportError that it raises ends the handshake.
    """

    __slots__ = ("_certificates", "_resumption")

    is_client = False

    def __init__(
        self,
        settings: TlsSettings,
        *,
        random: Callable[[int], bytes],
        wall_time: Callable[[], float],
        transport_parameters: Callable[[bytes | None], bytes],
        ticket_keys: TicketKeys | None = None,
        policy: TransportPolicy | None = None,
    ) -> None:
        if settings.certificates is None:
            raise ConfigurationError("a server needs a certificate and its key: set certificates")
        self._certificates = settings.certificates
        self._resumption = Resumption(settings, ticket_keys, policy, random, wall_time)
        super().__init__(settings, random=random, wall_time=wall_time, transport_parameters=transport_parameters)

    def _run(self) -> Run:
        offer, suite, group, resumed = yield from self._wait_client_hello()
        chosen = None if resumed else self._certificates.select(offer.server_name, offer.signature_schemes)
        schedule, client_secret, server_secret = self._send_server_hello(offer, suite, group, resumed)
        self._send_encrypted_extensions(offer)
        trust = self.settings.client_trust if resumed is None else None
        if trust is not None:
            self._send_certificate_request()
        if chosen is not None:
            self._send_certificate(offer, *chosen)
        elif resumed is not None:
            self.peer_certificates = resumed.ticket.certificates()
        peer_secret = self._send_finished(schedule, server_secret)
        if trust is not None:
            yield from self._wait_certificate(trust)
        yield from self._wait_finished(schedule, client_secret, peer_secret)
        self._send_tickets(offer, suite, schedule)

    def _let_go(self) -> None:
        super()._let_go()
        del self._certificates, self._resumption

    # START

    def _wait_client_hello(self) -> Generator[tuple[int, ...], Message, tuple[Offer, CipherSuite, int, Resumed | None]]:
        message = yield (HandshakeType.CLIENT_HELLO,)
        offer = read_offer(message)
        self.client_random = offer.hello.random
        self.server_name = offer.server_name
        suite = self._choose_cipher_suite(offer.hello)
        self.alpn_protocol = alpn_protocol = self._choose_alpn(offer)
        resumed = self._resumption.find(offer, alpn_protocol)
        self.cipher_suite = suite = suite if resumed is None else resumed.suite
        self.group = group = self._choose_group(offer)
        self._transcript.choose_hash(suite.hash())
        offers_early_data = offer.early_data
        is_retried = group not in offer.shares
        if is_retried:
            self._transcript.add(message.data)
            self._send_hello_retry_request(suite, group)
            message = yield (HandshakeType.CLIENT_HELLO,)
            first, offer = offer, read_offer(message)
            check_second_offer(first, offer, group)
            resumed = self._resumption.find(offer, alpn_protocol, suite)
        if resumed is not None and offer.psks is not None:
            check_binder(resumed.schedule, self._transcript, message.data, offer.psks, resumed.index)
            self.session_resumed = True
        self._transcript.add(message.data)
        if offers_early_data:
            # A HelloRetryRequest has rejected it (RFC 8446 §4.2.10).
            self._settle_early_data(not is_retried and self._resumption.takes_early_data(offer, resumed), resumed)
        return offer, suite, group, resumed

    def _settle_early_data(self, is_accepted: bool, resumed: Resumed | None) -> None:
        self.early_data_accepted = is_accepted
        self._events.append(EarlyDataSettled(is_accepted))
        if is_accepted and resumed is not None:
            self._install_early_keys(resumed.schedule, is_write=False)

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

    def _send_server_hello(
        self, offer: Offer, suite: CipherSuite, group: int, resumed: Resumed | None
    ) -> tuple[KeySchedule, bytes, bytes]:
        share, shared_secret = respond(group, offer.shares[group], self._random)
        extensions: Extensions = {
            ExtensionType.SUPPORTED_VERSIONS: number(TLS_1_3, 2),
            ExtensionType.KEY_SHARE: write_key_share_entry(group, share),
        }
        if resumed is not None:
            extensions[ExtensionType.PRE_SHARED_KEY] = number(resumed.index, 2)
        self._send(Epoch.INITIAL, ServerHello(self._random(32), suite.value, extensions).write())
        schedule = KeySchedule(suite) if resumed is None else resumed.schedule
        return schedule, *self._enter_handshake(schedule, shared_secret)

    def _send_encrypted_extensions(self, offer: Offer) -> None:
        assert self.alpn_protocol is not None
        extensions: Extensions = {
            ExtensionType.ALPN: write_alpn((self.alpn_protocol.encode(),)),
            ExtensionType.QUIC_TRANSPORT_PARAMETERS: self._transport_parameters(offer.transport_parameters),
        }
        if self.early_data_accepted:
            extensions[ExtensionType.EARLY_DATA] = b""
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

    # CONNECTED

    def _send_tickets(self, offer: Offer, suite: CipherSuite, schedule: KeySchedule) -> None:
        """RFC 8446 §4.6.1. They are no part of the transcript."""
        assert self.alpn_protocol is not None
        secret = schedule.derive(b"res master", self._transcript.digest())
        for message in self._resumption.new_tickets(offer, suite, secret, self.alpn_protocol, self.peer_certificates):
            self._events.append(Output(Epoch.ONE_RTT, message))

"""The client's side of the handshake: RFC 8446 §A.1, top to bottom.

::

    START           Send ClientHello, with shares for the groups we like best
    WAIT_SH         Recv ServerHello (after at most one HelloRetryRequest)      handshake keys
    WAIT_EE         Recv EncryptedExtensions: ALPN, transport parameters
    WAIT_CERT_CR    Recv CertificateRequest (answered after Finished), Certificate
    WAIT_CV         Recv CertificateVerify
    WAIT_FINISHED   Recv Finished; Send [Certificate, CertificateVerify,] Finished      1-RTT keys
    CONNECTED       Recv NewSessionTicket

Encrypted ClientHello is in :mod:`quicstack.tls.ech`, the offer of a PSK in :mod:`quicstack.tls.psk`. A server that
takes the PSK shows no certificate (WAIT_CERT_CR to WAIT_CV are skipped): it has proven itself when the ticket was made.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from quicstack.errors import CertificateError, TransportError, TransportErrorCode
from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.authentication import (
    Demand,
    certificate_types,
    check_certificate_verify,
    read_certificate,
    read_certificate_request,
    write_certificate,
    write_certificate_verify,
)
from quicstack.tls.ech import (
    EchOffer,
    choose_ech_config,
    grease_ech,
    in_order_for_ech,
    read_confirmation,
    read_retry_configs,
)
from quicstack.tls.epoch import Epoch
from quicstack.tls.extensions import (
    TLS_1_3,
    ExtensionType,
    check_extensions,
    read_code_points,
    read_cookie,
    read_key_share_entry,
    read_number,
    required,
    write_alpn,
    write_code_points,
    write_compression_algorithms,
    write_key_share_entries,
    write_server_name,
    write_supported_versions,
)
from quicstack.tls.groups import X25519MLKEM768, KeyExchange, generate, group_name
from quicstack.tls.handshake import (
    EarlyDataSettled,
    Handshake,
    HandshakeComplete,
    Message,
    NewSession,
    Output,
    PeerTransportParameters,
    Run,
)
from quicstack.tls.key_schedule import CIPHER_SUITES, CipherSuite, KeySchedule
from quicstack.tls.messages import (
    ClientHello,
    EncryptedExtensions,
    Extensions,
    Finished,
    HandshakeType,
    NewSessionTicket,
    ServerHello,
)
from quicstack.tls.psk import (
    PSK_DHE_KE,
    PskOffer,
    check_early_data,
    chosen_psk,
    read_ticket,
    resumption_psk,
    write_psk_modes,
)
from quicstack.tls.server_answer import check_server_hello, selected_alpn
from quicstack.tls.server_name import ascii_name, parse_ip
from quicstack.tls.session import Session, chain_of, client_identity
from quicstack.tls.settings import TlsSettings
from quicstack.tls.signatures import CLIENT_CONTEXT, SERVER_CONTEXT, signed_content

__all__ = ["ClientHandshake"]

MAX_TICKETS = 1024
"""NewSessionTickets read over the life of a connection; a store keeps the newest few."""


class ClientHandshake(Handshake):
    """See the diagram above, and :class:`~quicstack.tls.handshake.Handshake` for how to drive it.

    ``transport_parameters`` is called once, with None, for the body of our own extension.
    """

    __slots__ = ("_ech", "_psk", "_resumption_secret", "_retry_configs", "_tickets")

    is_client = True
    later = (HandshakeType.NEW_SESSION_TICKET,)

    def __init__(
        self,
        settings: TlsSettings,
        *,
        random: Callable[[int], bytes],
        wall_time: Callable[[], float],
        transport_parameters: Callable[[bytes | None], bytes],
        session: Session | None = None,
    ) -> None:
        """``session`` is offered for resumption; ``usable_session`` has said that it may be."""
        self._ech: EchOffer | None = None
        self._retry_configs: bytes | None = None
        self._resumption_secret = b""
        self._tickets = 0
        self._psk: PskOffer | None = None
        if session is not None:
            early_data = settings.early_data and session.early_data
            self._psk = PskOffer(session, CIPHER_SUITES[session.cipher_suite], early_data=early_data)
        super().__init__(settings, random=random, wall_time=wall_time, transport_parameters=transport_parameters)

    @property
    def offers_early_data(self) -> bool:
        """0-RTT may be sent: a session permits it, and the server has not rejected it."""
        return self._psk is not None and self._psk.early_data

    def _run(self) -> Run:
        hello, exchanges = self._send_client_hello()
        schedule, client_secret, server_secret = yield from self._wait_server_hello(hello, exchanges)
        yield from self._wait_encrypted_extensions(hello.extensions)
        demand = None
        if self._psk is None:
            demand = yield from self._wait_certificate(hello.extensions)
            yield from self._wait_certificate_verify()
        yield from self._wait_finished(schedule, server_secret)
        if self._ech is not None and not self._ech.accepted:
            raise self._ech.rejection(self._retry_configs)
        self._send_finished(schedule, client_secret, demand)
        self._resumption_secret = schedule.derive(b"res master", self._transcript.digest())

    def _let_go(self) -> None:
        super()._let_go()
        self._psk = self._ech = self._retry_configs = None

    # START

    def _send_client_hello(self) -> tuple[ClientHello, dict[int, KeyExchange]]:
        settings = self.settings
        self.client_random = self._random(32)
        self.server_name = settings.server_name
        exchanges = {group: generate(group, self._random) for group in self._groups_to_share()}
        extensions: Extensions = {}
        # RFC 6066 §3: a literal address is not a host name, and is not sent.
        if settings.server_name is not None and parse_ip(settings.server_name) is None:
            extensions[ExtensionType.SERVER_NAME] = write_server_name(ascii_name(settings.server_name))
        extensions |= {
            ExtensionType.SUPPORTED_VERSIONS: write_supported_versions((TLS_1_3,)),
            ExtensionType.SUPPORTED_GROUPS: write_code_points(settings.groups),
            ExtensionType.SIGNATURE_ALGORITHMS: write_code_points(settings.signature_schemes),
            ExtensionType.ALPN: write_alpn(protocol.encode() for protocol in settings.alpn_protocols),
            ExtensionType.QUIC_TRANSPORT_PARAMETERS: self._transport_parameters(None),
            ExtensionType.KEY_SHARE: _key_shares(exchanges),
            ExtensionType.PSK_KEY_EXCHANGE_MODES: write_psk_modes((PSK_DHE_KE,)),
        }
        if settings.certificate_compression:
            algorithms = write_compression_algorithms(settings.certificate_compression)
            extensions[ExtensionType.COMPRESS_CERTIFICATE] = algorithms
        if self._psk is not None and self._psk.early_data:
            extensions[ExtensionType.EARLY_DATA] = b""
        hello = ClientHello(self.client_random, settings.cipher_suites, extensions)
        config = choose_ech_config(settings.ech_config_list)
        if config is not None:
            self._ech = EchOffer(config, self._random)
            hello.extensions = in_order_for_ech(hello.extensions)
        elif settings.ech_grease:
            hello.extensions[ExtensionType.ENCRYPTED_CLIENT_HELLO] = grease_ech(hello, self._random)
        self._send_hello(hello)
        if self._psk is not None and self._psk.early_data:
            self._install_early_keys(self._psk.schedule, is_write=True)
        return hello, exchanges

    def _send_hello(self, hello: ClientHello) -> None:
        """As it is, or inside another: then it counts in our transcript, and the other in that of the offer."""
        if self._psk is not None:
            self._psk.seal(hello, self._transcript, self._wall_time())
        data = hello.write()
        self._transcript.add(data)
        if self._ech is not None and self._ech.accepted is not False:
            data = self._ech.seal(hello)
        self._events.append(Output(Epoch.INITIAL, data))

    def _judge_ech(self, server_hello: ServerHello, message: Message, hello: ClientHello) -> None:
        """RFC 9849 §6.1.4. From a refusal on, it is the outer ClientHello that we sent, to the public name."""
        extensions = server_hello.extensions
        if self._ech is None:
            if ExtensionType.ENCRYPTED_CLIENT_HELLO in extensions:
                read_confirmation(extensions[ExtensionType.ENCRYPTED_CLIENT_HELLO])
            return
        if self._ech.accepted is False:
            return
        suite = CIPHER_SUITES[server_hello.cipher_suite]
        if not self._ech.judge(server_hello, message.data, self._transcript, suite):
            self._transcript = self._ech.outer_transcript
            self.server_name = self._ech.config.public_name
            self.client_random = self._ech.outer.random
            hello.random, hello.extensions = self._ech.outer.random, self._ech.outer.extensions
            self._give_up_psk()  # what the outer ClientHello has in its place is random

    def _give_up_psk(self) -> None:
        """The server does not take the session, nor what was sent under it."""
        self._reject_early_data()
        self._psk = None

    def _reject_early_data(self) -> None:
        if self._psk is not None and self._psk.early_data:
            self._psk.early_data = False
            self.early_data_accepted = False
            self._events.append(EarlyDataSettled(False))

    def _groups_to_share(self) -> tuple[int, ...]:
        """The best group; and if that is the hybrid, also the best classic one, for servers that do not know it."""
        groups = self.settings.groups
        return groups[:2] if groups[0] == X25519MLKEM768 else groups[:1]

    # WAIT_SH

    def _wait_server_hello(
        self, hello: ClientHello, exchanges: dict[int, KeyExchange]
    ) -> Generator[tuple[int, ...], Message, tuple[KeySchedule, bytes, bytes]]:
        message = yield (HandshakeType.SERVER_HELLO,)
        server_hello = ServerHello.read(message.body)
        check_server_hello(server_hello, hello)
        self._judge_ech(server_hello, message, hello)
        if server_hello.is_hello_retry_request:
            retry_suite = server_hello.cipher_suite
            exchanges = self._answer_hello_retry_request(server_hello, message, hello, exchanges)
            message = yield (HandshakeType.SERVER_HELLO,)
            server_hello = ServerHello.read(message.body)
            check_server_hello(server_hello, hello)
            if server_hello.is_hello_retry_request:
                raise tls_error(Alert.UNEXPECTED_MESSAGE, "a second HelloRetryRequest was sent, expected ServerHello")
            if server_hello.cipher_suite != retry_suite:
                raise tls_error(
                    Alert.ILLEGAL_PARAMETER,
                    f"ServerHello chose cipher suite {server_hello.cipher_suite:#06x} after a HelloRetryRequest "
                    f"with {retry_suite:#06x}, expected the same",
                )
            self._judge_ech(server_hello, message, hello)
        body = required("SH", server_hello.extensions, ExtensionType.KEY_SHARE)
        self.group, share = read_key_share_entry(body)
        if self.group not in exchanges:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                f"ServerHello has a key share of {group_name(self.group)}, expected one of "
                f"{', '.join(map(group_name, exchanges))}, for which we sent ours",
            )
        self.cipher_suite = CIPHER_SUITES[server_hello.cipher_suite]
        schedule = self._begin_schedule(server_hello, self.cipher_suite)
        self._transcript.choose_hash(schedule.hash)
        self._transcript.add(message.data)
        shared_secret = exchanges[self.group].finish(share)
        return schedule, *self._enter_handshake(schedule, shared_secret)

    def _begin_schedule(self, server_hello: ServerHello, suite: CipherSuite) -> KeySchedule:
        """RFC 8446 §4.2.11: with the PSK if the server chose it, which has to be the one that we offered."""
        if ExtensionType.PRE_SHARED_KEY not in server_hello.extensions:
            self._give_up_psk()
            return KeySchedule(suite)
        self._psk = chosen_psk(self._psk, server_hello.extensions[ExtensionType.PRE_SHARED_KEY], suite)
        self.session_resumed = True
        self.peer_certificates = self._psk.session.certificates()
        return self._psk.schedule

    def _answer_hello_retry_request(
        self, retry: ServerHello, message: Message, hello: ClientHello, exchanges: dict[int, KeyExchange]
    ) -> dict[int, KeyExchange]:
        """RFC 8446 §4.1.4: the same ClientHello again, but for the key share and the cookie that were asked for."""
        extensions = retry.extensions
        if ExtensionType.KEY_SHARE in extensions:
            group = read_number(extensions[ExtensionType.KEY_SHARE], 2, ExtensionType.KEY_SHARE)
            if group not in self.settings.groups or group in exchanges:
                problem = "for which we sent a share" if group in exchanges else "which we did not offer"
                raise tls_error(
                    Alert.ILLEGAL_PARAMETER, f"HelloRetryRequest asks for group {group_name(group)}, {problem}"
                )
            exchanges = {group: generate(group, self._random)}
            hello.extensions[ExtensionType.KEY_SHARE] = _key_shares(exchanges)
        elif ExtensionType.COOKIE not in extensions:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER, "HelloRetryRequest asks for no change: a key_share or a cookie was expected"
            )
        if ExtensionType.COOKIE in extensions:
            read_cookie(extensions[ExtensionType.COOKIE])
            hello.extensions[ExtensionType.COOKIE] = extensions[ExtensionType.COOKIE]
        # §4.1.4: no early_data in the second one, and no PSK that does not fit the cipher suite.
        hello.extensions.pop(ExtensionType.EARLY_DATA, None)
        self._reject_early_data()
        suite = CIPHER_SUITES[retry.cipher_suite]
        if self._psk is not None and suite.hash_length != self._psk.suite.hash_length:
            self._psk = None
        if self._psk is None:
            hello.extensions.pop(ExtensionType.PRE_SHARED_KEY, None)
        self._transcript.choose_hash(suite.hash())
        self._transcript.replace_by_message_hash()
        self._transcript.add(message.data)
        self._send_hello(hello)
        return exchanges

    # WAIT_EE

    def _wait_encrypted_extensions(self, offered: Extensions) -> Run:
        message = yield (HandshakeType.ENCRYPTED_EXTENSIONS,)
        self._transcript.add(message.data)
        extensions = EncryptedExtensions.read(message.body).extensions
        check_extensions("EE", extensions, offered)
        if extensions.get(ExtensionType.SERVER_NAME):
            raise tls_error(Alert.DECODE_ERROR, "EncryptedExtensions has a server_name with content, expected none")
        if ExtensionType.SUPPORTED_GROUPS in extensions:
            read_code_points(extensions[ExtensionType.SUPPORTED_GROUPS], ExtensionType.SUPPORTED_GROUPS)
        self._retry_configs = read_retry_configs(extensions, self._ech)
        parameters = required("EE", extensions, ExtensionType.QUIC_TRANSPORT_PARAMETERS)
        self.alpn_protocol = selected_alpn(extensions, self.settings.alpn_protocols)
        self._settle_early_data(ExtensionType.EARLY_DATA in extensions)
        self._events.append(PeerTransportParameters(parameters))

    def _settle_early_data(self, is_accepted: bool) -> None:
        """RFC 8446 §4.2.10: accepted 0-RTT was protected, and spoken, as this connection is."""
        if not is_accepted:
            self._reject_early_data()
            return
        check_early_data(self._psk, self.cipher_suite, self.alpn_protocol)
        self.early_data_accepted = True
        self._events.append(EarlyDataSettled(True))

    # WAIT_CERT_CR

    def _wait_certificate(self, offered: Extensions) -> Generator[tuple[int, ...], Message, Demand | None]:
        demand = None
        compression = self.settings.certificate_compression
        message = yield (HandshakeType.CERTIFICATE_REQUEST, *certificate_types(compression))
        self._transcript.add(message.data)
        if message.type == HandshakeType.CERTIFICATE_REQUEST:
            demand = read_certificate_request(message.body)
            message = yield certificate_types(compression)
            self._transcript.add(message.data)
        self.peer_certificates = read_certificate(message, "server's", compression=compression, offered=offered)
        if not self.peer_certificates:
            raise tls_error(Alert.DECODE_ERROR, "the server's Certificate is empty, expected at least one entry")
        try:
            self.settings.trust.verify(self.peer_certificates, self.server_name, self._wall_time())
        except CertificateError as error:
            raise tls_error(error.alert, str(error), cause=error) from error
        return demand

    # WAIT_CV

    def _wait_certificate_verify(self) -> Run:
        message = yield (HandshakeType.CERTIFICATE_VERIFY,)
        check_certificate_verify(
            message.body,
            "server's",
            leaf=self.peer_certificates[0],
            schemes=self.settings.signature_schemes,
            content=signed_content(SERVER_CONTEXT, self._transcript.digest()),
        )
        self._transcript.add(message.data)

    # WAIT_FINISHED

    def _wait_finished(self, schedule: KeySchedule, server_secret: bytes) -> Run:
        message = yield (HandshakeType.FINISHED,)
        self._check_finished(schedule, server_secret, message.body)
        self._transcript.add(message.data)

    def _send_finished(self, schedule: KeySchedule, client_secret: bytes, demand: Demand | None) -> None:
        local_secret, peer_secret = self._enter_application(schedule)
        if demand is not None:
            self._send_certificate(demand)
        verify_data = schedule.finished(client_secret, self._transcript.digest())
        self._send(Epoch.HANDSHAKE, Finished(verify_data).write())
        self._install_keys(Epoch.ONE_RTT, schedule, local_secret, is_write=True)
        self._install_keys(Epoch.ONE_RTT, schedule, peer_secret, is_write=False)
        self.is_complete = True
        self._events.append(HandshakeComplete())

    def _send_certificate(self, demand: Demand) -> None:
        """RFC 8446 §4.4.2: a client without a certificate that fits says so with an empty message."""
        shown = self.settings.client_certificate
        schemes = [scheme for scheme in shown.schemes if scheme in demand.signature_schemes] if shown else []
        chain = shown.chain if shown and schemes else ()
        ours, peers = self.settings.certificate_compression, demand.certificate_compression
        self._send(Epoch.HANDSHAKE, write_certificate(chain, ours, peers))
        if shown and schemes:
            proof = write_certificate_verify(shown, schemes[0], CLIENT_CONTEXT, self._transcript.digest())
            self._send(Epoch.HANDSHAKE, proof)

    # CONNECTED

    def _take_later(self, message: Message) -> None:
        self._events.append(NewSession(self._session(read_ticket(message.body))))
        self._tickets += 1
        if self._tickets == MAX_TICKETS:
            self._expected = ()

    def _session(self, ticket: NewSessionTicket) -> Session:
        assert self.cipher_suite is not None and self.alpn_protocol is not None
        return Session(
            cipher_suite=self.cipher_suite.value,
            psk=resumption_psk(self.cipher_suite, self._resumption_secret, ticket.nonce),
            ticket=ticket.ticket,
            age_add=ticket.age_add,
            lifetime=ticket.lifetime,
            received_at=self._wall_time(),
            early_data=ExtensionType.EARLY_DATA in ticket.extensions,
            alpn_protocol=self.alpn_protocol,
            server_name=self.settings.server_name or "",
            client_identity=client_identity(self.settings.client_certificate),
            chain=chain_of(self.peer_certificates),
        )

    def _check_header(self, message_type: int, size: int) -> None:
        if self.is_complete and message_type == HandshakeType.CERTIFICATE_REQUEST:  # RFC 9001 §4.4
            raise TransportError(
                TransportErrorCode.PROTOCOL_VIOLATION, "CertificateRequest was sent after the handshake"
            )
        super()._check_header(message_type, size)


def _key_shares(exchanges: dict[int, KeyExchange]) -> bytes:
    return write_key_share_entries({group: exchange.share for group, exchange in exchanges.items()})

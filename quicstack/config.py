"""Settings of an endpoint or a connection: one frozen dataclass, each knob named after its RFC parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from quicstack.errors import ConfigurationError, EchRejected
from quicstack.observe.trace import Trace
from quicstack.recovery.congestion.controller import CongestionController
from quicstack.recovery.congestion.cubic import Cubic
from quicstack.replay_guard import ReplayGuard
from quicstack.session_store import MemorySessionStore, SessionStore
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.compression import available_compression
from quicstack.tls.groups import available_groups
from quicstack.tls.key_schedule import CIPHER_SUITES
from quicstack.tls.session import MAX_LIFETIME
from quicstack.tls.settings import ClientAuthentication, TlsSettings
from quicstack.tls.trust import Trust
from quicstack.token_store import MemoryTokenStore, TokenStore
from quicstack.transport.scheduler import StreamScheduler, UrgencyScheduler
from quicstack.wire.packet import MAX_CID_LENGTH, MIN_INITIAL_DATAGRAM
from quicstack.wire.version import QUIC_V1, VERSIONS

__all__ = ["AckFrequency", "Configuration"]

MAX_SEND_PAYLOAD = 65527
MAX_DATAGRAM_SIZE = 16383
"""What the Length of our long headers can say (RFC 9000 §17.2)."""


_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("max_udp_payload_size", 1200, MAX_SEND_PAYLOAD),
    ("max_datagram_size", 1200, MAX_DATAGRAM_SIZE),
    ("connection_id_length", 0, MAX_CID_LENGTH),
    ("ack_delay_exponent", 0, 20),
    ("active_connection_id_limit", 2, 1 << 30),
    ("max_ack_delay", 0, 16.383),
    ("initial_max_streams_bidi", 0, 1 << 60),
    ("initial_max_streams_uni", 0, 1 << 60),
    ("initial_max_data", 0, 1 << 40),
    ("initial_max_stream_data_bidi_local", 0, 1 << 40),
    ("initial_max_stream_data_bidi_remote", 0, 1 << 40),
    ("initial_max_stream_data_uni", 0, 1 << 40),
    ("max_datagram_frame_size", 0, 65535),
    ("max_idle_timeout", 0, 1 << 32),
    ("datagram_share", 0, 1),
    ("send_buffer", 1, 1 << 40),
    ("max_connections", 1, 1 << 40),
    ("max_handshakes", 1, 1 << 40),
    ("retry_threshold", 1, 1 << 40),
    ("session_tickets", 0, 16),
    ("ticket_lifetime", 1, MAX_LIFETIME),
)


def random_connection_id(random: Callable[[int], bytes], length: int) -> bytes:
    """The default way to make connection IDs: nothing in them but randomness (RFC 9000 §5.1)."""
    return random(length)


@dataclass(frozen=True, slots=True)
class AckFrequency:
    """What a peer is asked to do about acknowledgements (draft-ietf-quic-ack-frequency §4)."""

    threshold: int = 9
    """Ack-eliciting packets that may wait without an acknowledgement; 1 is what RFC 9000 recommends."""
    max_ack_delay: float = 0.025
    """Seconds after which one that waits is acknowledged; never less than the peer can do."""
    reordering_threshold: int = 3
    """§9: packets after which one that is missing is reported: as many as it takes to declare it lost."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1 << 30 or not 0 <= self.reordering_threshold < 1 << 30:
            raise ConfigurationError("the thresholds of ack_frequency are 0 or more, and less than 2^30")
        if not 0 <= self.max_ack_delay <= 16.383:
            raise ConfigurationError(f"max_ack_delay of ack_frequency is {self.max_ack_delay}, expected 0 to 16.383")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Times are seconds, sizes bytes. Sizes of windows are what they start at; they grow while a reader keeps up."""

    alpn_protocols: tuple[str, ...]
    """Application protocols, best first (RFC 7301). QUIC has no connection without one."""
    versions: tuple[int, ...] = (QUIC_V1,)
    """Versions spoken, best first; a client starts with the first, or with ``original_version``."""
    original_version: int | None = None
    """Client: the version of its first packets where that is not the best (RFC 9368 §2): a server that knows no better
    one answers at once, the others change to what both prefer."""

    # TLS (RFC 8446, RFC 9001)
    server_name: str | None = None
    """Client: the name sent as SNI and checked in the certificate; an IP address is checked but not sent."""
    trust: Trust = field(default_factory=Trust.system)
    """Client: whom to believe that the server is who it says."""
    certificates: CertificateStore | None = None
    """Server: what it shows; replaceable while it serves."""
    client_certificate: CertificateKey | None = None
    """Client: what it shows to a server that asks (RFC 8446 §4.3.2)."""
    client_authentication: ClientAuthentication = "none"
    """Server: whether clients are asked for a certificate, and whether a connection without one is refused."""
    client_trust: Trust | None = None
    """Server: whose certificates of clients to believe."""
    certificate_compression: tuple[int, ...] = available_compression()
    """Algorithms of RFC 8879 in which certificates may be sent and received, best first; none is fine."""
    cipher_suites: tuple[int, ...] = tuple(CIPHER_SUITES)
    groups: tuple[int, ...] = available_groups()
    ech_config_list: bytes | None = None
    """Client: the server's ECHConfigList, as the ``ech`` of its HTTPS record has it. With one that can be used the
    ClientHello is encrypted (RFC 9849), and a server that refuses that fails the connection with ``EchRejected``."""
    ech_grease: bool = True
    """Client: without such a list, send random bytes where it would be (RFC 9849 §6.2)."""
    keylog: Callable[[str], None] | None = None
    """Called with each line of the key log (RFC 9850). Whoever has them can read the traffic."""

    # resumption and 0-RTT (RFC 8446 §2.2, §2.3; RFC 9001 §4.5, §4.6)
    session_store: SessionStore | None = field(default_factory=MemorySessionStore)
    """Client: keeps sessions for the next connection, each used once. None: every handshake is a full one."""
    session_tickets: int = 2
    """Server: tickets given to each client; 0 for none."""
    ticket_key: bytes | None = None
    """Server: secret of session tickets; random for each process unless given, 32 bytes or more."""
    ticket_lifetime: float = 86_400.0
    """Server: seconds in which a ticket can be used, a week at most (RFC 8446 §4.6.1)."""
    early_data: bool = False
    """Client: what is written goes out at once where a session permits it, before the server has proven anything, and
    ``connect`` returns at once. Server: take it. An attacker can send it a second time, to another server if there are
    several; so it is for requests that may happen twice (RFC 8446 §8, RFC 9001 §9.2)."""
    replay_guard: ReplayGuard | None = None
    """Server: the register of tickets that were used for 0-RTT. None: in memory, for each process."""

    # transport parameters (RFC 9000 §18.2)
    max_idle_timeout: float = 30.0
    max_udp_payload_size: int = MAX_SEND_PAYLOAD
    initial_max_data: int = 1 << 20
    initial_max_stream_data_bidi_local: int = 1 << 18
    initial_max_stream_data_bidi_remote: int = 1 << 18
    initial_max_stream_data_uni: int = 1 << 18
    initial_max_streams_bidi: int = 128
    initial_max_streams_uni: int = 128
    ack_delay_exponent: int = 3
    max_ack_delay: float = 0.025
    active_connection_id_limit: int = 4
    max_datagram_frame_size: int = 65535
    """RFC 9221: 0 refuses DATAGRAM frames."""
    min_ack_delay: float | None = 0.001
    """Let the peer say how often it wants acknowledgements, down to this delay (draft-ietf-quic-ack-frequency §3).
    None: it may not. Never more than ``max_ack_delay``."""
    reset_stream_at: bool = True
    """Take resets that keep the beginning of a stream (draft-ietf-quic-reliable-stream-reset §3)."""

    # flow control beyond the parameters
    max_stream_window: int = 6 << 20
    max_connection_window: int = 15 << 20
    memory_budget: int = 256 << 20
    """Growth of all receive windows of the endpoint together."""
    send_buffer: int = 1 << 21
    """Bytes that a stream holds until they are acknowledged; ``write`` takes no more."""
    datagram_buffer: int = 1 << 20
    """Bytes of datagrams waiting to be sent, and waiting to be read, each."""

    # sending
    max_datagram_size: int = MIN_INITIAL_DATAGRAM
    """UDP payload of our packets (RFC 9000 §14.1: every QUIC path carries 1200)."""
    path_mtu_discovery: bool = True
    """Find out by probes how large datagrams may be on a path, from ``max_datagram_size`` on (RFC 8899)."""
    max_probed_datagram_size: int | None = None
    """The largest to try; None is what an Ethernet frame carries, 1472 bytes on IPv4 and 1452 on IPv6."""
    congestion_controller: Callable[[int], CongestionController] = Cubic
    scheduler: Callable[[], StreamScheduler] = UrgencyScheduler
    """Makes what decides, in each connection, which stream sends next."""
    datagram_share: float = 0.5
    """How much of what is sent datagrams may take while streams have data too. Up to it they go first, beyond it after
    the streams. 1: always first, and then streams may starve. 0: only what streams leave."""
    pacing: bool = True
    initial_rtt: float = 0.333
    ecn: bool = True
    ack_frequency: AckFrequency | None = None
    """Ask peers that let us to acknowledge this often (draft-ietf-quic-ack-frequency). None: as they like."""
    grease: bool = True
    """Send reserved transport parameters and versions, so that peers keep ignoring what they do not know (RFC 9000
    §15, §18.1), and take and send packets without the fixed bit where the peer agrees (RFC 9287)."""
    spin_bit: bool = True
    """Let those on the path see how long a round trip takes, on most connections (RFC 9000 §17.4)."""

    # paths (RFC 9000 §9)
    disable_active_migration: bool = False
    """Server: ask clients to stay at their address. One that moves all the same is served after it was proven."""
    preferred_ipv4: tuple[str, int] | None = None
    preferred_ipv6: tuple[str, int] | None = None
    """Server: where clients shall go once the handshake is done (§9.6). ``serve`` listens there too."""
    use_preferred_address: bool = True
    """Client: go where the server asks, if packets get there."""

    # connection IDs and life
    connection_id_length: int = 8
    generate_connection_id: Callable[[Callable[[int], bytes], int], bytes] = random_connection_id
    stateless_reset_key: bytes | None = None
    """Server: key of stateless reset tokens (§10.3.2); random for each process unless given."""
    keep_alive: float | None = None
    """After this many seconds in which nothing came, have the peer acknowledge something, so that neither side nor
    a NAT takes silence for the end (RFC 9000 §10.1.2). None: let a silent connection time out."""
    handshake_timeout: float = 10.0
    max_connections: int = 10_000
    max_handshakes: int = 1_000
    """Server: connections whose handshake is not complete; whoever comes while there are more is not answered."""
    retry: Literal["never", "always", "auto"] = "auto"
    """Server: whether clients have to prove their address by a Retry (§8.1.2); "auto": while it is under load."""
    retry_threshold: int = 100
    """Server: handshakes that are not complete, above which "auto" answers with Retry and keeps no state."""
    token_key: bytes | None = None
    """Server: secret of address validation tokens (§8.1); random for each process unless given, 32 bytes or more."""
    token_store: TokenStore = field(default_factory=MemoryTokenStore)
    """Client: keeps the tokens that servers sent for the next connection; each is used once (§8.1.3)."""
    trace_factory: Callable[[bytes, bool], Trace] | None = None
    """Makes a trace from the original destination connection ID and whether this side is the client."""

    _tls: TlsSettings = field(init=False, repr=False, compare=False)
    _for_server: Configuration | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        unknown = [version for version in self.versions if version not in VERSIONS]
        if unknown or not self.versions:
            raise ConfigurationError(f"versions: {[hex(v) for v in self.versions]} are not all spoken here")
        if self.original_version is not None and self.original_version not in self.versions:
            raise ConfigurationError(f"original_version {self.original_version:#x} is not among the versions")
        for name, low, high in _BOUNDS:
            self._between(name, low, high)
        if self.max_probed_datagram_size is not None:
            self._between("max_probed_datagram_size", self.max_datagram_size, MAX_DATAGRAM_SIZE)
        if self.min_ack_delay is not None:
            self._between("min_ack_delay", 0, 16.383)
        if self.keep_alive is not None and self.keep_alive <= 0:
            raise ConfigurationError(f"keep_alive is {self.keep_alive}, expected more than 0, or None")
        if self.retry not in ("never", "always", "auto"):
            raise ConfigurationError(f'retry is {self.retry!r}, expected "never", "always" or "auto"')
        if self.token_key is not None and len(self.token_key) < 32:
            raise ConfigurationError(f"token_key has {len(self.token_key)} bytes, expected 32 or more")
        if self.ticket_key is not None and len(self.ticket_key) < 32:
            raise ConfigurationError(f"ticket_key has {len(self.ticket_key)} bytes, expected 32 or more")
        if self.handshake_timeout <= 0:
            raise ConfigurationError(f"handshake_timeout is {self.handshake_timeout}, expected more than 0")
        object.__setattr__(self, "_tls", self._tls_settings())

    @property
    def first_version(self) -> int:
        """What a client's first packets have."""
        return self.versions[0] if self.original_version is None else self.original_version

    def _between(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise ConfigurationError(f"{name} is {value}, expected {low} to {high}")

    def tls_settings(self) -> TlsSettings:
        """The part of it that the handshake needs. Made and checked once (12 us), not in every connection."""
        return self._tls

    def _tls_settings(self) -> TlsSettings:
        return TlsSettings(
            alpn_protocols=self.alpn_protocols,
            server_name=self.server_name,
            cipher_suites=self.cipher_suites,
            groups=self.groups,
            trust=self.trust,
            certificates=self.certificates,
            client_certificate=self.client_certificate,
            client_authentication=self.client_authentication,
            client_trust=self.client_trust,
            certificate_compression=self.certificate_compression,
            keylog=self.keylog,
            early_data=self.early_data,
            session_tickets=self.session_tickets,
            ech_config_list=self.ech_config_list,
            ech_grease=self.ech_grease,
        )

    def for_server(self, name: str) -> Configuration:
        """The same for a server of this name, if none is set yet. Who connects to it again gets the same again: that
        spares each connection 0.8 KiB and 40 us. What was checked is not checked again."""
        if self.server_name is not None:
            return self
        if self._for_server is not None and self._for_server.server_name == name:
            return self._for_server
        other = object.__new__(Configuration)
        for slot in Configuration.__slots__:
            object.__setattr__(other, slot, getattr(self, slot))
        object.__setattr__(other, "server_name", name)
        object.__setattr__(other, "_tls", replace(self._tls, server_name=name))
        object.__setattr__(other, "_for_server", None)
        object.__setattr__(self, "_for_server", other)
        return other

    def after_ech_rejection(self, error: EchRejected) -> Configuration:
        """What to connect with once more after the server refused Encrypted ClientHello (RFC 9849 §6.1.6).

        With the server's new list, or without one where the server has turned ECH off. Do it once: give up when the
        second attempt is refused with a list again. ``error`` is what the first attempt raised.
        """
        return replace(self, ech_config_list=error.retry_configs)

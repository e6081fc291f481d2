"""The state of a connection: its parts, and the few plain fields that belong to none of them. No behaviour.

A part changes through its own methods. Each plain field is written by the one module named beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from quicstack.config import Configuration
from quicstack.environment import Environment
from quicstack.errors import QuicstackError
from quicstack.observe.stats import Counters
from quicstack.observe.trace import Trace
from quicstack.recovery.loss import Recovery
from quicstack.replay_guard import ReplayGuard
from quicstack.tls.client import ClientHandshake
from quicstack.tls.server import ServerHandshake
from quicstack.tls.tickets import TicketKeys
from quicstack.train import Address, Path
from quicstack.transport.ack_requests import AckRequests
from quicstack.transport.connection_ids import LocalConnectionIds, PeerConnectionIds
from quicstack.transport.datagram_queue import DatagramQueue
from quicstack.transport.outbox import Outbox, SentValue
from quicstack.transport.packet_protection import PacketKeys
from quicstack.transport.packet_space import PacketSpace, WaitingPacket
from quicstack.transport.path import PathState
from quicstack.transport.stream_table import StreamTable
from quicstack.wire.transport_parameters import TransportParameters
from quicstack.wire.version import Version

__all__ = [
    "APPLICATION", "EARLY", "HANDSHAKE", "INITIAL", "SPACE_NAMES", "CloseFrame", "ConnectionState", "EarlyData",
    "KeyPhase", "Phase",
]  # fmt: skip

INITIAL, HANDSHAKE, APPLICATION = 0, 1, 2
EARLY = 3
"""0-RTT: a level of its own in the space of APPLICATION."""
SPACE_NAMES = ("initial", "handshake", "1RTT", "0RTT")
"""Packet number spaces as a trace names their packets, and 0-RTT."""


class Phase(Enum):
    """The life of a connection (RFC 9000 §10)."""

    HANDSHAKE = "handshake"
    ESTABLISHED = "established"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"

    def __init__(self, name: str) -> None:
        self.is_over = name in ("closing", "draining", "closed")
        """Nothing but CONNECTION_CLOSE is sent any more."""


@dataclass(slots=True)
class CloseFrame:
    """What our CONNECTION_CLOSE says. ``fault`` is the frame type to blame, None in the application's form."""

    code: int
    reason: bytes
    fault: int | None


@dataclass(slots=True)
class KeyPhase:
    """Key update (RFC 9001 §6): the Key Phase bit of what we send and of what we receive, and the keys around it."""

    send_bit: int = 0
    receive_bit: int = 0
    generation: int = 0
    next_open: PacketKeys | None = None
    previous_open: PacketKeys | None = None
    previous_until: float = 0.0
    first_received: int = 0
    """Lowest packet number opened with the current keys; a lower one in the other phase is an old packet."""
    first_sent: int = 0
    """First packet number sealed with the current keys; the next update waits for its ACK (§6.1)."""
    ack_sent: bool = True
    """We have acknowledged something since the peer's last update; only then may it update again (§6.2)."""
    failures: int = 0
    """Packets of any level that did not open (§6.6)."""


@dataclass(slots=True)
class EarlyData:
    """0-RTT (RFC 9001 §4.6): its keys, and what is remembered of the connection before. By early_data."""

    seal_keys: PacketKeys | None = None
    open_keys: PacketKeys | None = None
    discarded: bool = False
    """No 0-RTT packet is processed any more: it was not taken, or the keys are gone. Always so on a client."""
    discard_at: float | None = None
    waiting: list[WaitingPacket] = field(default_factory=list)
    """Packets that came before the ClientHello was complete."""
    waiting_bytes: int = 0
    remembered: TransportParameters | None = None
    """Client: the server's parameters under which 0-RTT is sent."""
    alpn_protocol: str = ""
    """Client: the protocol that 0-RTT is in."""
    is_rejected: bool = False
    """Client: the server has not taken it, and streams wait for its parameters to begin again."""
    remote: Address | None = None
    """Client: the address that the connection began with; sessions are kept under its port."""
    sessions: int = 0
    """Client: tickets that came."""


@dataclass(slots=True)
class ConnectionState:
    """Everything one connection consists of."""

    configuration: Configuration
    environment: Environment
    is_client: bool
    version: Version
    trace: Trace
    outbox: Outbox
    spaces: tuple[PacketSpace, PacketSpace, PacketSpace]
    recovery: Recovery
    streams: StreamTable
    local_cids: LocalConnectionIds
    peer_cids: PeerConnectionIds
    datagrams_in: DatagramQueue
    datagrams_out: DatagramQueue
    path: PathState
    original_dcid: bytes
    local_parameters: TransportParameters
    max_datagram_size: int
    """Of our packets: as configured, no more than the peer takes (§18.2) or the path carries (§14). By paths."""
    tls: ClientHandshake | ServerHandshake | None = None  # handshake
    counters: Counters = field(default_factory=Counters)
    key_phase: KeyPhase = field(default_factory=KeyPhase)
    early: EarlyData = field(default_factory=EarlyData)
    ticket_keys: TicketKeys | None = None
    replay_guard: ReplayGuard | None = None
    ack_requests: AckRequests = field(default_factory=AckRequests)

    # handshake
    token: bytes = b""
    may_clear_quic_bit: bool = False
    """The peer takes packets whose fixed bit is not set, or took them when it made our token (RFC 9287 §3.1)."""
    retry_scid: bytes | None = None
    version_settled: bool = False
    """Client: the server has sent CRYPTO data, so the version does not change any more (RFC 9369 §4.1)."""
    original_open: tuple[Version, PacketKeys] | None = None
    """Server: what opens Initials of the client's first version after another was negotiated (RFC 9369 §4.1)."""
    refused_version: Version | None = None
    """Client: the version it gave up because of a Version Negotiation packet (RFC 9368 §2.1)."""
    new_token: Callable[[Path, int], bytes] | None = None
    """Server: makes a token for the client's next connection (RFC 9000 §8.1.3)."""
    peer_scid: bytes | None = None
    """The Source Connection ID of the peer's first packet; other values are discarded (RFC 9000 §7.2)."""
    peer_parameters: TransportParameters | None = None
    handshake_complete: bool = False
    handshake_confirmed: bool = False
    started_at: float = 0.0
    completed_at: float | None = None

    # receive
    rx_now: float = 0.0
    rx_space: PacketSpace | None = None
    rx_path: PathState | None = None
    rx_level: int = 0
    """EARLY while a 0-RTT packet is processed."""
    rx_dcid: bytes = b""
    internal_error: BaseException | None = None
    """A defect of ours that closed the connection, for the driver's log."""

    # paths
    other_paths: list[PathState] = field(default_factory=list)
    """Paths besides the one in use, a few."""
    fallback: PathState | None = None
    """After a change of the peer's address: the path before, probed so that a spoofed change is undone (§9.3.2)."""
    is_at_preferred_address: bool = False

    # first_byte
    coins: int = 0
    """Random bits not used yet, below a bit that is set."""

    # packing
    datagram_debt: float = 0.0
    """Bytes that datagrams took beyond their share while streams waited; below 0, what they may still take."""

    # send
    ack_only_since_ping: int = 0

    # timers
    idle_deadline: float | None = None
    eliciting_sent: bool = False
    """An ack-eliciting packet was sent since the last packet received (RFC 9000 §10.1)."""
    probe_space: int = 0
    probes: int = 0
    """Packets still to be sent because a PTO expired (RFC 9002 §6.2.4)."""

    # lifecycle
    keep_alive_deadline: float | None = None
    phase: Phase = Phase.HANDSHAKE
    closed: QuicstackError | None = None
    close_frame: CloseFrame | None = None
    close_due: bool = False
    close_deadline: float = 0.0
    close_received: int = 0
    close_started: bool = False
    """CONNECTION_CLOSE was sent, or would have been if the path had room for it."""

    # values that are sent until acknowledged
    ack_frequency: SentValue | None = None
    ping: SentValue | None = None
    data_blocked: SentValue | None = None

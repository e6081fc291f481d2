"""What a connection is made of when it begins: its parts, put together from the configuration and its identity."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from quicstack.config import Configuration
from quicstack.connection.state import ConnectionState, EarlyData
from quicstack.environment import Environment
from quicstack.observe.trace import Trace
from quicstack.recovery.loss import Recovery
from quicstack.replay_guard import MemoryReplayGuard, ReplayGuard
from quicstack.tls.epoch import Epoch
from quicstack.tls.tickets import TicketKeys
from quicstack.train import Path
from quicstack.transport.connection_ids import LocalConnectionIds, PeerConnectionIds, stateless_reset_token
from quicstack.transport.datagram_queue import DatagramQueue
from quicstack.transport.flow_control import MemoryBudget, ReceiveWindow
from quicstack.transport.outbox import Bell, Outbox, SentValue
from quicstack.transport.packet_space import PacketSpace
from quicstack.transport.path import PathState
from quicstack.transport.path_mtu import PathMtu, largest_datagram
from quicstack.transport.stream_table import StreamLimits, StreamTable
from quicstack.wire import frame
from quicstack.wire.transport_parameters import PreferredAddress, TransportParameters
from quicstack.wire.version import QUIC_V1, VERSIONS, reserved_version

__all__ = ["Identity", "keep_token", "new_state", "server_tickets", "take_token"]

QUIC_BIT = " quic bit"
QUIC_BIT_LIFE = 604_800
"""RFC 9287 §3.1: seconds after which a server may have been configured anew."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The connection IDs a connection starts with, and what its endpoint shares with it."""

    original_dcid: bytes
    peer_cid: bytes
    local_cid: bytes
    reset_key: bytes
    version: int = QUIC_V1
    retry_scid: bytes | None = None
    """Server: the client has come back from a Retry with this Source Connection ID."""
    address_validated: bool = False
    """Server: the client's token was good (RFC 9000 §8.1)."""
    new_token: Callable[[Path, int], bytes] | None = None
    """Server: makes a token for the client's next connection."""
    new_cid: Callable[[], bytes] | None = None
    """Makes further connection IDs, different from all others of the endpoint."""
    tickets: tuple[TicketKeys | None, ReplayGuard | None] = None, None
    """Server: what makes and opens session tickets, and remembers which were used for 0-RTT."""
    budget: MemoryBudget = field(default_factory=lambda: MemoryBudget(1 << 30))


def server_tickets(
    configuration: Configuration, environment: Environment
) -> tuple[TicketKeys | None, ReplayGuard | None]:
    """What the connections of one server share, so that they can be resumed; nothing if it gives no tickets."""
    if configuration.certificates is None or not configuration.session_tickets:
        return None, None
    secret = configuration.ticket_key or environment.random(32)
    keys = TicketKeys(secret, environment.random, environment.wall_time, configuration.ticket_lifetime)
    return keys, configuration.replay_guard or MemoryReplayGuard(environment.wall_time())


def new_state(
    configuration: Configuration,
    environment: Environment,
    path: Path,
    identity: Identity,
    is_client: bool,
    bell: Bell | None,
    ring_for: object,
) -> ConnectionState:
    """The parts of a connection, configured and joined."""
    outbox = Outbox(is_client=is_client, bell=bell, ring_for=ring_for, scheduler=configuration.scheduler())
    parameters = _local_parameters(configuration, environment, identity, is_client)
    window = ReceiveWindow(configuration.initial_max_data, configuration.max_connection_window, identity.budget)
    factory = configuration.trace_factory
    spaces = (PacketSpace(0, Epoch.INITIAL), PacketSpace(1, Epoch.HANDSHAKE), PacketSpace(2, Epoch.ONE_RTT))
    spaces[2].acks.max_ack_delay = configuration.max_ack_delay
    token, may_clear = take_token(configuration, environment, path, identity.version) if is_client else (b"", False)
    state = ConnectionState(
        configuration=configuration,
        environment=environment,
        is_client=is_client,
        version=VERSIONS[identity.version],
        trace=Trace() if factory is None else factory(identity.original_dcid, is_client),
        outbox=outbox,
        spaces=spaces,
        recovery=Recovery(
            congestion_controller_factory=configuration.congestion_controller,
            max_datagram_size=configuration.max_datagram_size,
            is_client=is_client,
            pacing=configuration.pacing,
            initial_rtt=configuration.initial_rtt,
            exact_timers=environment.simulation,
            ecn=configuration.ecn,
        ),
        streams=StreamTable(
            is_client=is_client,
            local_limits=StreamLimits(
                configuration.initial_max_stream_data_bidi_local,
                configuration.initial_max_stream_data_bidi_remote,
                configuration.initial_max_stream_data_uni,
                configuration.initial_max_streams_bidi,
                configuration.initial_max_streams_uni,
            ),
            receive_window=window,
            max_stream_window=configuration.max_stream_window,
            send_buffer=configuration.send_buffer,
            outbox=outbox,
            budget=identity.budget,
        ),
        local_cids=LocalConnectionIds(
            identity.local_cid,
            identity.new_cid
            or partial(configuration.generate_connection_id, environment.random, configuration.connection_id_length),
            partial(stateless_reset_token, identity.reset_key),
            outbox,
        ),
        peer_cids=PeerConnectionIds(identity.peer_cid, configuration.active_connection_id_limit, outbox),
        datagrams_in=DatagramQueue(configuration.datagram_buffer),
        datagrams_out=DatagramQueue(configuration.datagram_buffer),
        path=PathState(
            path,
            PathMtu(
                configuration.max_datagram_size,
                configuration.max_probed_datagram_size or largest_datagram(path.remote[0]),
                enabled=configuration.path_mtu_discovery,
            ),
            validated=is_client or identity.address_validated,
        ),
        original_dcid=identity.original_dcid,
        retry_scid=identity.retry_scid,
        new_token=identity.new_token,
        token=token,
        may_clear_quic_bit=may_clear,
        local_parameters=parameters,
        max_datagram_size=configuration.max_datagram_size,
        peer_scid=None if is_client else identity.peer_cid,
        early=EarlyData(discarded=is_client),
        ticket_keys=identity.tickets[0],
        replay_guard=identity.tickets[1],
    )
    _offer_preferred_address(state, identity)
    state.ping = SentValue(_write_ping)
    outbox.max_data = SentValue(partial(_write_max_data, window, outbox))
    return state


def _offer_preferred_address(state: ConnectionState, identity: Identity) -> None:
    """RFC 9000 §18.2: its connection ID has the sequence number 1."""
    settings = state.configuration
    if state.is_client or not (settings.preferred_ipv4 or settings.preferred_ipv6):
        return
    ipv4, ipv6 = settings.preferred_ipv4 or ("0.0.0.0", 0), settings.preferred_ipv6 or ("::", 0)
    cid = state.local_cids.reserve()
    state.local_parameters.preferred_address = PreferredAddress(
        ipaddress.IPv4Address(ipv4[0]).packed,
        ipv4[1],
        ipaddress.IPv6Address(ipv6[0]).packed,
        ipv6[1],
        cid,
        stateless_reset_token(identity.reset_key, cid),
    )


def _local_parameters(
    configuration: Configuration, environment: Environment, identity: Identity, is_client: bool
) -> TransportParameters:
    parameters = TransportParameters(
        max_idle_timeout=configuration.max_idle_timeout,
        max_udp_payload_size=configuration.max_udp_payload_size,
        initial_max_data=configuration.initial_max_data,
        initial_max_stream_data_bidi_local=configuration.initial_max_stream_data_bidi_local,
        initial_max_stream_data_bidi_remote=configuration.initial_max_stream_data_bidi_remote,
        initial_max_stream_data_uni=configuration.initial_max_stream_data_uni,
        initial_max_streams_bidi=configuration.initial_max_streams_bidi,
        initial_max_streams_uni=configuration.initial_max_streams_uni,
        ack_delay_exponent=configuration.ack_delay_exponent,
        max_ack_delay=configuration.max_ack_delay,
        active_connection_id_limit=configuration.active_connection_id_limit,
        initial_source_connection_id=identity.local_cid,
        max_datagram_frame_size=configuration.max_datagram_frame_size,
        min_ack_delay=(
            None
            if configuration.min_ack_delay is None
            else min(configuration.min_ack_delay, configuration.max_ack_delay)
        ),
        disable_active_migration=configuration.disable_active_migration,
        reset_stream_at=configuration.reset_stream_at,
        grease_quic_bit=configuration.grease,
    )
    if not is_client:
        parameters.original_destination_connection_id = identity.original_dcid
        parameters.retry_source_connection_id = identity.retry_scid
        parameters.stateless_reset_token = stateless_reset_token(identity.reset_key, identity.local_cid)
    parameters.version_information = (identity.version, *configuration.versions)
    if configuration.grease:
        value = environment.random(5)
        # RFC 9000 §18.1: identifiers of the form 31 * N + 27 are reserved for this
        parameters.reserved[31 * int.from_bytes(value[:3], "big") + 27] = value[3:]
        parameters.version_information += (reserved_version(environment.random(4)),)
    return parameters


def token_key(configuration: Configuration, path: Path, version: int) -> str:
    """Under which name a client keeps tokens: for one server, and one version (RFC 9369 §5)."""
    host, port = path.remote[:2]
    return f"{configuration.server_name or ''} {host} {port} {version:#010x}"


def keep_token(state: ConnectionState, token: bytes) -> None:
    """NEW_TOKEN (RFC 9000 §8.1.3). A second entry says since when the server takes packets without the fixed bit."""
    settings = state.configuration
    key = token_key(settings, state.path.address, state.version.value)
    settings.token_store.put(key, token)
    if state.peer_parameters is not None and state.peer_parameters.grease_quic_bit:
        received = int(state.environment.wall_time()).to_bytes(8, "big")
        settings.token_store.put(key + QUIC_BIT, received + token)


def take_token(configuration: Configuration, environment: Environment, path: Path, version: int) -> tuple[bytes, bool]:
    """A token for a first Initial, and whether it allows to clear the QUIC bit (RFC 9287 §3.1): that of a server that
    took such packets, for seven days."""
    key = token_key(configuration, path, version)
    token = configuration.token_store.take(key)
    if token is None:
        return b"", False
    entry = configuration.token_store.take(key + QUIC_BIT)
    if entry is None or entry[8:] != token or not configuration.grease:
        return token, False
    age = environment.wall_time() - int.from_bytes(entry[:8], "big")
    return token, 0 <= age < QUIC_BIT_LIFE


def _write_ping() -> bytes:
    return b"\x01"


def _write_max_data(window: ReceiveWindow, outbox: Outbox) -> bytes:
    return frame.write_limit(frame.MAX_DATA, window.raise_limit(outbox.now, outbox.smoothed_rtt))

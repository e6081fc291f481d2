"""The TLS handshake in a connection (RFC 9001 §4), and the checks that tie it to the transport (RFC 9000 §7.3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from quicstack.connection import ack_frequency, early_data, key_update, lifecycle, paths, versions
from quicstack.connection.state import APPLICATION, HANDSHAKE, INITIAL, ConnectionState, Phase
from quicstack.errors import TransportError, TransportErrorCode
from quicstack.tls.client import ClientHandshake
from quicstack.tls.epoch import Epoch
from quicstack.tls.handshake import (
    EarlyDataSettled,
    HandshakeComplete,
    NewKeys,
    NewSession,
    Output,
    PeerTransportParameters,
)
from quicstack.tls.server import ServerHandshake
from quicstack.transport.crypto_stream import CryptoStream
from quicstack.transport.outbox import SentValue
from quicstack.transport.packet_protection import PacketKeys
from quicstack.transport.packet_space import PacketSpace
from quicstack.wire.frame import HANDSHAKE_DONE, write_new_token
from quicstack.wire.transport_parameters import (
    PreferredAddress,
    TransportParameters,
    read_transport_parameters,
    write_transport_parameters,
)
from quicstack.wire.version import Version

__all__ = ["confirm", "discard_keys", "receive_crypto", "restart_after_retry", "restart_with_version", "start"]

SPACE_OF_EPOCH = {Epoch.INITIAL: INITIAL, Epoch.HANDSHAKE: HANDSHAKE, Epoch.ONE_RTT: APPLICATION}
EPOCH_NAMES = {INITIAL: "initial", HANDSHAKE: "handshake", APPLICATION: "1RTT"}
MAX_POST_HANDSHAKE = 1 << 20
"""CRYPTO bytes taken after the handshake: room for tickets, not for a stream of them."""


def start(state: ConnectionState, now: float) -> None:
    """Make the TLS engine; a client queues its ClientHello."""
    state.started_at = now
    settings = state.configuration.tls_settings()
    random, wall_time = state.environment.random, state.environment.wall_time
    parameters = _parameters_callback(state, now)
    session = None
    if state.is_client:
        session = None if state.early.is_rejected else early_data.take_session(state)
        state.tls = ClientHandshake(
            settings, random=random, wall_time=wall_time, transport_parameters=parameters, session=session
        )
    else:
        state.tls = ServerHandshake(
            settings,
            random=random,
            wall_time=wall_time,
            transport_parameters=parameters,
            ticket_keys=state.ticket_keys,
            policy=early_data.TicketPolicy(state),
        )
    versions.install_initial_keys(state, state.retry_scid or state.original_dcid)
    state.tls.start()
    early_data.begin(state, session, now)
    advance(state, now)


def _parameters_callback(state: ConnectionState, now: float) -> Callable[[bytes | None], bytes]:
    def transport_parameters(peer: bytes | None) -> bytes:
        if peer is not None:
            apply_peer_parameters(state, peer, state.rx_now)
        state.trace.parameters_set(now, True, state.local_parameters)
        return write_transport_parameters(state.local_parameters)

    return transport_parameters


def restart_with_version(state: ConnectionState, version: Version, now: float) -> None:
    """RFC 9368 §2.1: a new attempt with another version in the same connection; the first left nothing anywhere."""
    versions.give_up_version(state, version)
    started_at = state.started_at
    if state.early.remembered is not None:
        early_data.settle(state, False)
    state.recovery.on_retry(now)
    state.spaces[INITIAL].crypto = CryptoStream()
    start(state, now)
    state.started_at = started_at
    state.outbox.ring()


def restart_after_retry(state: ConnectionState, scid: bytes, token: bytes, now: float) -> None:
    """RFC 9000 §17.2.5: the server chose another connection ID and wants its token back. Packet numbers go on."""
    state.token = token
    state.may_clear_quic_bit = False  # RFC 9287 §3.1: it is no token of a NEW_TOKEN frame
    state.retry_scid = scid
    state.peer_cids.replace_first(scid)
    versions.install_initial_keys(state, scid)
    early_data.travels_again(state)
    outgoing = state.spaces[INITIAL].crypto.outgoing
    outgoing.on_lost(0, outgoing.next)
    state.recovery.on_retry(now)
    state.outbox.ring()


def receive_crypto(state: ConnectionState, space: PacketSpace, offset: int, data: bytes, now: float) -> None:
    """A CRYPTO frame: put it in order, let TLS read it, act on what TLS says."""
    if space.index == APPLICATION and offset + len(data) > MAX_POST_HANDSHAKE:
        reason = f"more than {MAX_POST_HANDSHAKE} bytes of CRYPTO data after the handshake"
        raise TransportError(TransportErrorCode.CRYPTO_BUFFER_EXCEEDED, reason, 0x06)
    if space.index == INITIAL:
        state.version_settled = True
    ordered = space.crypto.receive(offset, data)
    if ordered and state.tls is not None:
        state.tls.receive(space.epoch, ordered)
        advance(state, now)


def advance(state: ConnectionState, now: float) -> None:
    """Carry out what the TLS engine decided, in its order."""
    assert state.tls is not None
    for event in state.tls.take_events():
        match event:
            case Output(epoch, data):
                state.spaces[SPACE_OF_EPOCH[epoch]].crypto.outgoing.write(data)
                state.outbox.ring()
            case NewKeys():
                _install(state, event, now)
            case PeerTransportParameters(data):
                apply_peer_parameters(state, data, now)
            case EarlyDataSettled(is_accepted):
                early_data.settle(state, is_accepted)
            case HandshakeComplete():
                _complete(state, now)
            case NewSession(session):
                early_data.keep_session(state, session)


def _install(state: ConnectionState, event: NewKeys, now: float) -> None:
    if event.epoch is Epoch.EARLY_DATA:
        early_data.install(state, event)
        state.trace.key_updated(now, "0RTT", 0)
        return
    index = SPACE_OF_EPOCH[event.epoch]
    space = state.spaces[index]
    keys = PacketKeys(event.suite, event.secret, state.version)
    if event.is_write:
        space.seal_keys = keys
        if index == APPLICATION:
            early_data.stop_sending(state)
    else:
        space.open_keys = keys
    if index == HANDSHAKE:
        state.recovery.has_handshake_keys = True
        early_data.on_handshake_keys(state)
    state.trace.key_updated(now, EPOCH_NAMES[index], 0)


def apply_peer_parameters(state: ConnectionState, data: bytes, now: float) -> None:
    """RFC 9000 §7.3, §7.4: check what the peer declares about the handshake, then live by its limits."""
    parameters = read_transport_parameters(data, from_server=state.is_client)
    state.trace.parameters_set(now, False, parameters)
    _authenticate_cids(state, parameters)
    versions.negotiate(state, parameters)
    state.peer_parameters = parameters
    state.recovery.max_ack_delay = state.ack_requests.max_ack_delay = parameters.max_ack_delay
    state.outbox.reset_stream_at = parameters.reset_stream_at
    state.may_clear_quic_bit = parameters.grease_quic_bit and state.configuration.grease
    state.path.mtu.limit(parameters.max_udp_payload_size)
    paths.apply_size(state)
    early_data.check_parameters(state, parameters)
    if state.early.is_rejected:
        early_data.start_over(state, parameters)
    else:
        state.streams.set_peer_limits(early_data.limits_of(parameters), parameters.initial_max_data)
    if parameters.stateless_reset_token is not None:
        state.peer_cids.current.reset_token = parameters.stateless_reset_token
        state.peer_cids.tokens_changed = True
    if parameters.preferred_address is not None:
        _take_preferred_cid(state, parameters.preferred_address)
    lifecycle.restart_idle_timer(state, now)


def _take_preferred_cid(state: ConnectionState, preferred: PreferredAddress) -> None:
    """RFC 9000 §18.2, §5.1.1: its connection ID has number 1, and a server without IDs has none to give."""
    if not state.peer_cids.current.cid:
        raise TransportError(
            TransportErrorCode.TRANSPORT_PARAMETER_ERROR, "preferred_address of a server with zero-length IDs"
        )
    state.peer_cids.add(1, 0, preferred.connection_id, preferred.stateless_reset_token)


def _authenticate_cids(state: ConnectionState, parameters: TransportParameters) -> None:
    expected = {"initial_source_connection_id": state.peer_scid}
    if state.is_client:
        expected["original_destination_connection_id"] = state.original_dcid
        expected["retry_source_connection_id"] = state.retry_scid
    for name, value in expected.items():
        sent = getattr(parameters, name)
        if sent != value:
            raise TransportError(
                TransportErrorCode.TRANSPORT_PARAMETER_ERROR,
                f"{name} is {_hex(sent)}, the packets said {_hex(value)}",
            )


def _hex(value: bytes | None) -> str:
    return "absent" if value is None else value.hex() or "empty"


def _complete(state: ConnectionState, now: float) -> None:
    """RFC 9001 §4.1.1: TLS is done on this side. For the server that confirms the handshake as well (§4.1.2)."""
    assert state.tls is not None
    if state.peer_parameters is None:
        raise TransportError(0x16D, "the peer sent no transport parameters")
    state.handshake_complete = True
    state.completed_at = now
    state.trace.alpn_selected(now, state.tls.alpn_protocol or "")
    lifecycle.enter(state, Phase.ESTABLISHED, now)
    state.local_cids.issue(state.peer_parameters.active_connection_id_limit)
    if state.configuration.ack_frequency is not None:
        ack_frequency.ask(state, state.configuration.ack_frequency)
    if not state.is_client:
        state.outbox.push(SentValue(_write_handshake_done, partial(_release, state.spaces[:APPLICATION])))
        if state.new_token is not None:
            written = write_new_token(state.new_token(state.path.address, state.version.value))
            state.outbox.push(SentValue(partial(bytes, written)))
        early_data.discard_at(state, now)
        confirm(state, now)
    lifecycle.restart_idle_timer(state, now)


def _write_handshake_done() -> bytes:
    return bytes((HANDSHAKE_DONE,))


def _release(spaces: tuple[PacketSpace, ...]) -> None:
    for space in spaces:
        space.release()


def confirm(state: ConnectionState, now: float) -> None:
    """RFC 9001 §4.1.2, §4.9.2: nobody needs Handshake keys any more."""
    if state.handshake_confirmed:
        return
    state.handshake_confirmed = True
    state.recovery.handshake_confirmed = True
    state.recovery.peer_completed_address_validation = True
    state.outbox.state_changed = True
    discard_keys(state, HANDSHAKE, now)
    key_update.prepare(state)
    state.local_parameters.reserved = {}  # it was said, and nothing follows from it
    paths.prefer(state, now)


def discard_keys(state: ConnectionState, index: int, now: float) -> None:
    """RFC 9001 §4.9: forget a level with everything that is still in flight on it (RFC 9002 §6.4)."""
    space = state.spaces[index]
    if space.discarded:
        return
    space.discarded = True
    space.open_keys = space.seal_keys = None
    space.waiting.clear()
    space.crypto.outgoing.clear()
    space.crypto.incoming.clear()
    space.acks.on_ack_sent()
    if space is not state.rx_space:  # else it is released once the peer has acknowledged HANDSHAKE_DONE
        space.release()
    state.recovery.discard_space(index)
    state.recovery.set_loss_detection_timer(now)
    if state.probe_space == index:
        state.probes = 0
    state.trace.key_discarded(now, EPOCH_NAMES[index])

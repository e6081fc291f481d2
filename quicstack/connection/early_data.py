"""0-RTT (RFC 9001 §4.6, RFC 9000 §7.4.1): what a client may send before it has an answer, and what becomes of it.

Client: a session remembers the server's limits, and data written within them goes out in 0-RTT packets. If the server
does not take them, nothing of them has happened there: every stream begins again, with the limits of now, and its data
is sent in 1-RTT packets, unless another application protocol was chosen. Server: a ticket remembers our own limits.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from quicstack.connection import lifecycle
from quicstack.connection.retransmission import VALUE, send_again
from quicstack.connection.state import APPLICATION, ConnectionState
from quicstack.errors import TransportError, TransportErrorCode
from quicstack.tls.client import ClientHandshake
from quicstack.tls.handshake import NewKeys
from quicstack.tls.session import Session, usable_session
from quicstack.tls.tickets import Ticket
from quicstack.transport.packet_protection import PacketKeys
from quicstack.transport.stream_table import StreamLimits
from quicstack.wire.transport_parameters import (
    TransportParameters,
    read_transport_parameters,
    write_transport_parameters,
)

__all__ = [
    "TicketPolicy", "begin", "check_parameters", "discard_at", "discard_if_due", "install", "keep_session",
    "limits_of", "on_handshake_keys", "settle", "start_over", "stop_sending", "take_session", "travels_again",
]  # fmt: skip

MAX_KEPT = 16
"""Sessions of one connection that are put into the store; a server may send tickets as long as it likes."""
REMEMBERED = (
    "max_idle_timeout",
    "max_udp_payload_size",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "disable_active_migration",
    "active_connection_id_limit",
    "max_datagram_frame_size",
)
"""RFC 9000 §7.4.1, RFC 9221 §3: what still holds for 0-RTT. Everything else is asked anew."""
_remembered_of = attrgetter(*REMEMBERED)

NOT_REDUCED = (
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "active_connection_id_limit",
    "max_datagram_frame_size",
)
"""§7.4.1: a server that takes 0-RTT keeps to these."""


def _context(version: int, parameters: TransportParameters) -> bytes:
    """What sessions and tickets carry for the transport: the version (RFC 9369 §5) and the server's parameters."""
    return _written(version, _remembered_of(parameters))


@lru_cache(maxsize=64)
def _written(version: int, values: tuple[Any, ...]) -> bytes:
    """One configuration says the same in all its connections (12 us)."""
    kept = TransportParameters(**dict(zip(REMEMBERED, values, strict=True)))
    return version.to_bytes(4, "big") + write_transport_parameters(kept)


@lru_cache(maxsize=64)
def _remembered(context: bytes, version: int) -> TransportParameters | None:
    """Only to be read: all connections of one server share it. Sessions and tickets mostly say the same (20 us)."""
    if context[:4] != version.to_bytes(4, "big"):
        return None
    try:
        return read_transport_parameters(context[4:], from_server=True)
    except TransportError:
        return None


def _reduced(now: TransportParameters, then: TransportParameters) -> list[str]:
    return [name for name in NOT_REDUCED if getattr(now, name) < getattr(then, name)]


def limits_of(parameters: TransportParameters) -> StreamLimits:
    """The peer's stream limits as the stream table wants them."""
    return StreamLimits(
        parameters.initial_max_stream_data_bidi_local,
        parameters.initial_max_stream_data_bidi_remote,
        parameters.initial_max_stream_data_uni,
        parameters.initial_max_streams_bidi,
        parameters.initial_max_streams_uni,
    )


# -- client: sessions --------------------------------------------------------------------------------------------------


def _session_key(state: ConnectionState) -> str:
    """One server, by its name if it has one, and one version (RFC 9369 §5), in which the connection ends up."""
    host, port = (state.early.remote or state.path.address.remote)[:2]
    name = state.configuration.server_name or host
    return f"session {name} {port} {state.version.value:#010x}"


def take_session(state: ConnectionState) -> Session | None:
    """A session for this server that may be offered now; what may not is gone for good."""
    store = state.configuration.session_store
    state.early.remote = state.early.remote or state.path.address.remote
    data = store.take(_session_key(state)) if store is not None else None
    if data is None:
        return None
    session = usable_session(data, state.configuration.tls_settings(), state.environment.wall_time())
    if session is None or _remembered(session.context, state.version.value) is None:
        return None
    return session


def keep_session(state: ConnectionState, session: Session) -> None:
    """The server sent a ticket (RFC 8446 §4.6.1)."""
    store, parameters = state.configuration.session_store, state.peer_parameters
    state.early.sessions += 1
    if store is None or parameters is None or state.early.sessions > MAX_KEPT:
        return
    store.put(_session_key(state), replace(session, context=_context(state.version.value, parameters)).write())


# -- client: sending ---------------------------------------------------------------------------------------------------


def begin(state: ConnectionState, session: Session | None, now: float) -> None:
    """The ClientHello was made. If it offers 0-RTT, the limits of the session hold until there are others."""
    state.early.remembered = None
    if session is None or not isinstance(state.tls, ClientHandshake) or not state.tls.offers_early_data:
        return
    parameters = _remembered(session.context, state.version.value)
    if parameters is None:
        return
    state.early.remembered = parameters
    state.early.alpn_protocol = session.alpn_protocol
    state.streams.set_peer_limits(limits_of(parameters), parameters.initial_max_data)


def stop_sending(state: ConnectionState) -> None:
    """RFC 9001 §4.9.3, RFC 9369 §4.1: no 0-RTT packet from here on, whatever becomes of those sent."""
    state.early.seal_keys = None


def travels_again(state: ConnectionState) -> None:
    """RFC 9000 §17.2.5.3: after a Retry the data goes once more, in 0-RTT packets to the new connection ID."""
    space = state.spaces[APPLICATION]
    for packet in state.recovery.outstanding(APPLICATION):
        send_again(state, space, packet)


def settle(state: ConnectionState, is_accepted: bool) -> None:
    """The server has said whether it takes 0-RTT (RFC 9001 §4.6.2)."""
    early = state.early
    if is_accepted:
        return
    if not state.is_client:
        _refuse(state)
        return
    stop_sending(state)
    early.is_rejected = True
    space = state.spaces[APPLICATION]
    for packet in state.recovery.outstanding(APPLICATION):
        for record in packet.frames:
            if record[0] == VALUE:
                state.outbox.push(record[1])
    state.recovery.discard_space(APPLICATION)
    space.rejected_below = space.next_packet_number


def check_parameters(state: ConnectionState, parameters: TransportParameters) -> None:
    """§7.4.1: what the server may not take back, as it has taken 0-RTT."""
    remembered = state.early.remembered
    if state.tls is None or not state.tls.early_data_accepted or remembered is None:
        return
    reduced = _reduced(parameters, remembered)
    if reduced:
        reason = f"the server took 0-RTT and reduced {', '.join(reduced)}, expected the remembered values or more"
        raise TransportError(TransportErrorCode.PROTOCOL_VIOLATION, reason)


def start_over(state: ConnectionState, parameters: TransportParameters) -> None:
    """After a rejection: streams begin again under the limits of now, in the protocol that they were written for."""
    is_same = state.tls is not None and state.tls.alpn_protocol == state.early.alpn_protocol
    state.streams.start_over(limits_of(parameters), parameters.initial_max_data, keep=is_same)
    state.early.is_rejected = False
    state.early.remembered = None


# -- both: keys --------------------------------------------------------------------------------------------------------


def install(state: ConnectionState, event: NewKeys) -> None:
    """RFC 9369 §4.1: 0-RTT is of the version that the client began with, even if the server has chosen another."""
    version = state.version if state.original_open is None else state.original_open[0]
    keys = PacketKeys(event.suite, event.secret, version)
    if event.is_write:
        state.early.seal_keys = keys
    else:
        state.early.open_keys = keys


def on_handshake_keys(state: ConnectionState) -> None:
    """The server has answered the ClientHello; without 0-RTT keys by now there will be none."""
    if state.early.open_keys is None:
        _refuse(state)


def _refuse(state: ConnectionState) -> None:
    early = state.early
    early.discarded = True
    early.open_keys = early.discard_at = None
    early.waiting.clear()
    early.waiting_bytes = 0


def discard_at(state: ConnectionState, now: float) -> None:
    """RFC 9001 §4.9.3: the client has 1-RTT keys; packets that it sent before may be late by three PTOs."""
    if state.early.open_keys is not None:
        state.early.discard_at = now + 3 * state.recovery.pto_duration(APPLICATION)


def discard_if_due(state: ConnectionState, now: float) -> None:
    if state.early.discard_at is not None and now >= state.early.discard_at and not lifecycle.is_over(state):
        _refuse(state)
        state.trace.key_discarded(now, "0RTT")


# -- server: tickets ---------------------------------------------------------------------------------------------------


class TicketPolicy:
    """What a connection has to say about tickets; see :class:`quicstack.tls.resumption.TransportPolicy`."""

    def __init__(self, state: ConnectionState) -> None:
        self._state = state

    def may_resume(self, context: bytes) -> bool:
        return _remembered(context, self._state.version.value) is not None

    def may_take_early_data(self, ticket: Ticket) -> bool:
        state = self._state
        then = _remembered(ticket.context, state.version.value)
        if then is None or _reduced(state.local_parameters, then) or state.replay_guard is None:
            return False
        return state.replay_guard.is_first_use(ticket.id, ticket.issued_at, state.environment.wall_time())

    def new_context(self) -> bytes:
        return _context(self._state.version.value, self._state.local_parameters)

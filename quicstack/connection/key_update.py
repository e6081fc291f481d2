"""Key update (RFC 9001 §6): new keys in the middle of a connection, at either side's wish."""

from __future__ import annotations

from quicstack.connection.state import APPLICATION, ConnectionState
from quicstack.errors import TransportError, TransportErrorCode
from quicstack.transport.packet_protection import InvalidTag

__all__ = ["can_update", "open_other_phase", "update_send_keys"]

UPDATE_AFTER = 1 << 22
"""Packets sealed before we update by ourselves: half of what RFC 9001 §6.6 allows AES-GCM."""


def can_update(state: ConnectionState) -> bool:
    """§6.1: not before the handshake is confirmed, nor before the current keys have been acknowledged."""
    phase = state.key_phase
    if not state.handshake_confirmed or phase.send_bit != phase.receive_bit:
        return False
    return not phase.generation or state.spaces[APPLICATION].largest_acked >= phase.first_sent


def update_send_keys(state: ConnectionState, now: float) -> None:
    """Seal with the next keys from here on; the peer answers with its own next keys (§6.2)."""
    phase = state.key_phase
    space = state.spaces[APPLICATION]
    assert space.seal_keys is not None
    space.seal_keys = space.seal_keys.next_phase()
    phase.send_bit ^= 1
    phase.generation += 1
    phase.first_sent = space.next_packet_number
    state.counters.key_updates += 1
    state.trace.key_updated(now, "1RTT", phase.generation)


def open_other_phase(state: ConnectionState, header: bytes, number: int, body: bytes, now: float) -> bytes:
    """A packet whose Key Phase bit is not the current one: of the previous keys, or the first of the next (§6.3, §6.5).

    Raises ``InvalidTag`` when neither opens it: whoever flips the bit of a packet has changed nothing (§6.4).
    """
    phase = state.key_phase
    space = state.spaces[APPLICATION]
    if number < phase.first_received:
        if phase.previous_open is None or now > phase.previous_until:
            raise InvalidTag
        return phase.previous_open.open(header, number, body)
    if phase.next_open is None:
        raise InvalidTag
    payload = phase.next_open.open(header, number, body)
    if phase.send_bit == phase.receive_bit and not phase.ack_sent:
        reason = "the peer updated its keys twice before the first update was acknowledged"
        raise TransportError(TransportErrorCode.KEY_UPDATE_ERROR, reason)
    phase.previous_open = space.open_keys
    phase.previous_until = now + 3 * state.recovery.pto_duration(APPLICATION)
    space.open_keys = phase.next_open
    phase.next_open = space.open_keys.next_phase()
    phase.receive_bit ^= 1
    phase.first_received = number
    phase.ack_sent = False
    if phase.send_bit != phase.receive_bit:
        update_send_keys(state, now)
    return payload

"""Key update (RFC 9001 §6): new keys in the middle of a connection, at either side's wish."""

from __future__ import annotations

from quicstack.connection import lifecycle
from quicstack.connection.state import APPLICATION, ConnectionState
from quicstack.errors import TransportError, TransportErrorCode
from quicstack.tls.key_schedule import TLS_CHACHA20_POLY1305_SHA256
from quicstack.transport.packet_protection import InvalidTag

__all__ = ["can_update", "count_failure", "open_other_phase", "prepare", "stay_within_limits", "update_send_keys"]

UPDATE_AFTER = 1 << 22
"""Packets sealed before we update by ourselves: half of what RFC 9001 §6.6 allows AES-GCM."""


CONFIDENTIALITY_LIMIT = 1 << 23
"""Packets that AES-GCM may seal with one key (§6.6); ChaCha20 has no limit that a connection could reach."""
INTEGRITY_LIMITS = {TLS_CHACHA20_POLY1305_SHA256: 1 << 36}
INTEGRITY_LIMIT = 1 << 52
"""Packets that may fail to open before a forgery becomes likely (§6.6): ChaCha20's, and AES-GCM's."""


def stay_within_limits(state: ConnectionState, now: float) -> bool:
    """§6.6: update in time, or stop using the connection. False when it is closed for that."""
    keys = state.spaces[APPLICATION].seal_keys
    assert keys is not None
    if can_update(state):
        update_send_keys(state, now)
    elif keys.packets >= CONFIDENTIALITY_LIMIT - 64 and keys.suite.value != TLS_CHACHA20_POLY1305_SHA256:
        lifecycle.close(state, now, TransportErrorCode.AEAD_LIMIT_REACHED, "the peer lets us have no new keys", fault=0)
        return False
    return True


def count_failure(state: ConnectionState) -> None:
    """A packet did not open (§6.6). Raises AEAD_LIMIT_REACHED when there were too many."""
    state.key_phase.failures += 1
    if state.key_phase.failures >= INTEGRITY_LIMIT >> 16:
        keys = state.spaces[APPLICATION].open_keys
        limit = INTEGRITY_LIMITS.get(keys.suite.value if keys is not None else 0, INTEGRITY_LIMIT)
        if state.key_phase.failures >= limit:
            raise TransportError(TransportErrorCode.AEAD_LIMIT_REACHED, f"{limit} packets could not be opened")


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


def prepare(state: ConnectionState) -> None:
    """§6.3, §9.5: the keys of the next phase exist before somebody asks for them, so that no packet takes longer for
    the state of its Key Phase bit. Before the handshake is confirmed no peer may update (§6.1)."""
    keys = state.spaces[APPLICATION].open_keys
    if state.key_phase.next_open is None and keys is not None:
        state.key_phase.next_open = keys.next_phase()


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
    prepare(state)  # a server has confirmed the handshake earlier, and its HANDSHAKE_DONE may be late
    if phase.next_open is None:
        raise InvalidTag
    try:
        payload = phase.next_open.open(header, number, body)
    except InvalidTag:
        if phase.previous_open is not None and now <= phase.previous_until:
            phase.previous_open.open(header, number, body)
            reason = "the peer went back to old keys"  # §6.4: lower packet numbers came under newer ones
            raise TransportError(TransportErrorCode.KEY_UPDATE_ERROR, reason) from None
        raise
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

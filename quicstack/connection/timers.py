"""When a connection wants to be called, and what it does then (RFC 9000 §8.2.4, §10.1, §13.2.1; RFC 9002 §6.2)."""

from __future__ import annotations

from quicstack.connection import early_data, lifecycle, paths, retransmission
from quicstack.connection.state import APPLICATION, SPACE_NAMES, ConnectionState, Phase
from quicstack.errors import ConnectionTimeout

__all__ = ["handle_timeout", "next_timeout"]

BLACK_HOLE_TIMEOUTS = 2
"""Probe timeouts in a row, after which nothing larger than the base is sent (RFC 8899 §4.3)."""


def next_timeout(state: ConnectionState) -> float | None:
    """The earliest deadline, None when the connection is over and forgotten."""
    if state.phase.is_over:
        return None if state.phase is Phase.CLOSED else state.close_deadline
    deadlines = [
        state.recovery.loss_detection_timer,
        state.keep_alive_deadline,
        state.path.challenge_deadline,
        state.spaces[APPLICATION].acks.ack_deadline,
        state.early.discard_at,
    ]
    if _is_waiting(state):
        deadlines.append(state.recovery.next_send_time(state.outbox.now))
    if not state.handshake_confirmed:
        deadlines += [space.acks.ack_deadline for space in state.spaces]
        if not state.handshake_complete:
            deadlines.append(state.started_at + state.configuration.handshake_timeout)
    for path in state.other_paths:
        deadlines.append(path.challenge_deadline)
    earliest = state.idle_deadline
    for deadline in deadlines:
        if deadline is not None and (earliest is None or deadline < earliest):
            earliest = deadline
    return earliest


def _is_waiting(state: ConnectionState) -> bool:
    """There is something to send, so the pacer may be what it waits for."""
    outbox = state.outbox
    if outbox.sending or outbox.control or state.datagrams_out.size:
        return True
    initial, handshake, application = state.spaces
    if state.handshake_confirmed:
        return application.crypto.outgoing.has_data
    return (
        (application.crypto.outgoing.has_data and application.seal_keys is not None)
        or (handshake.crypto.outgoing.has_data and handshake.seal_keys is not None)
        or (initial.crypto.outgoing.has_data and initial.seal_keys is not None)
    )


def handle_timeout(state: ConnectionState, now: float) -> None:
    """Act on every deadline that has passed."""
    if lifecycle.is_over(state):
        if state.phase is Phase.CLOSING and not state.close_started:
            lifecycle.begin_closing(state, now)
        elif state.phase is not Phase.CLOSED and now >= state.close_deadline:
            lifecycle.discard(state, now)
        return
    if state.idle_deadline is not None and now >= state.idle_deadline:
        lifecycle.discard(state, now, ConnectionTimeout("the peer fell silent (idle timeout)"))
        return
    if not state.handshake_complete and now >= state.started_at + state.configuration.handshake_timeout:
        seconds = state.configuration.handshake_timeout
        lifecycle.discard(state, now, ConnectionTimeout(f"the handshake did not complete in {seconds:g} s"))
        return
    lifecycle.keep_alive(state, now)
    early_data.discard_if_due(state, now)
    for space in state.spaces:
        space.acks.on_timeout(now)
    timer = state.recovery.loss_detection_timer
    if timer is not None and now >= timer:
        _on_loss_detection_timeout(state, now)
    if not paths.check_timeouts(state, now):
        # §9.3.2: nowhere is left that is known to be the peer's
        lifecycle.discard(state, now, ConnectionTimeout("the peer's new address was never proven"))
        return
    state.outbox.ring()


def _on_loss_detection_timeout(state: ConnectionState, now: float) -> None:
    """RFC 9002 §6.2.4: what was lost goes out again; a PTO sends something that the peer must acknowledge."""
    lost, probes, _, index = state.recovery.on_loss_detection_timeout(now)
    if lost:
        state.trace.packets_lost(now, SPACE_NAMES[index], lost, "time_threshold")
        retransmission.on_lost(state, state.spaces[index], lost)
    if probes is None:
        return
    state.probe_space, state.probes = probes
    if state.recovery.pto_count == BLACK_HOLE_TIMEOUTS:
        paths.lower_size(state)
    retransmission.queue_probe(state)
    state.trace.metrics_updated(now, state.recovery)

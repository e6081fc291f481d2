"""How a connection ends (RFC 9000 §10): idle timeout, stateless reset, or CONNECTION_CLOSE by either side."""

from __future__ import annotations

from quicstack.connection.state import CloseFrame, ConnectionState, Phase
from quicstack.errors import ConnectionClosed, QuicstackError, TransportError, TransportErrorCode
from quicstack.observe.trace import Trace

__all__ = [
    "begin_closing", "close", "close_on_error", "discard", "drain", "enter", "internal_error", "is_over", "keep_alive",
    "note_eliciting_sent",
    "on_packet_while_closing", "restart_idle_timer",
]  # fmt: skip

MAX_REASON = 256


def is_over(state: ConnectionState) -> bool:
    """Nothing but CONNECTION_CLOSE is sent any more."""
    return state.phase.is_over


def enter(state: ConnectionState, phase: Phase, now: float) -> None:
    state.trace.state_changed(now, state.phase.value, phase.value)
    state.phase = phase
    state.outbox.state_changed = True


def close(
    state: ConnectionState,
    now: float,
    code: int,
    reason: str,
    *,
    fault: int | None = None,
    error: QuicstackError | None = None,
) -> None:
    """Close from this side (§10.2.1). ``fault`` None is the application's close, else the frame type at fault.

    ``error`` is what the local application sees, if not a plain ConnectionClosed.
    """
    if is_over(state):
        return
    text = reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
    state.close_frame = CloseFrame(code, text, fault)
    if error is None:
        error = ConnectionClosed(code, reason, transport=fault is not None, frame_type=fault or 0)
    _finish(state, Phase.CLOSING, now, error, by_peer=False)
    state.close_due = True


def close_on_error(state: ConnectionState, now: float, error: TransportError) -> None:
    """The one place where an error becomes CONNECTION_CLOSE (§11.1)."""
    cause = error.cause
    if cause is None:
        cause = ConnectionClosed(error.code, error.reason, transport=True, frame_type=error.frame_type)
    close(state, now, error.code, error.reason, fault=error.frame_type, error=cause)


def drain(state: ConnectionState, now: float, error: QuicstackError, by_peer: bool = True) -> None:
    """The peer closed, or reset us statelessly (§10.2.2, §10.3.1): say nothing more."""
    if state.phase in (Phase.DRAINING, Phase.CLOSED):
        return
    if state.phase is Phase.CLOSING:
        enter(state, Phase.DRAINING, now)
        state.close_due = False
        return
    _finish(state, Phase.DRAINING, now, error, by_peer)


def discard(state: ConnectionState, now: float, error: QuicstackError | None = None) -> None:
    """Over at once and in silence: idle or handshake timeout, or the end of closing and draining (§10.1, §10.2)."""
    if error is not None and state.closed is None:
        _finish(state, Phase.CLOSED, now, error, by_peer=False)
    else:
        enter(state, Phase.CLOSED, now)
    state.trace.close()
    state.outbox.let_go()
    state.local_cids.let_go()
    if state.tls is not None:
        state.tls.let_go()


def _finish(state: ConnectionState, phase: Phase, now: float, error: QuicstackError, by_peer: bool) -> None:
    state.closed = error
    state.trace.connection_closed(now, error, by_peer)
    enter(state, phase, now)
    # §10.2: closing and draining last three times the PTO, so that late packets find someone home.
    state.close_deadline = now + 3 * max(state.recovery.pto_duration(2), 0.001)
    outbox = state.outbox
    outbox.closed = error
    for stream in state.streams:
        outbox.push_ready(stream)  # whoever waits on a stream must learn that it is over
        if stream.receive is not None:
            stream.receive.window.release()
    state.streams.receive_window.release()
    outbox.clear()
    state.datagrams_out.clear()
    for space in state.spaces:
        space.waiting.clear()
        state.recovery.discard_space(space.index)
    outbox.ring()


def begin_closing(state: ConnectionState, now: float) -> None:
    """§10.2: the closing period runs from the first CONNECTION_CLOSE, whenever the application asked for it."""
    if not state.close_started:
        state.close_started = True
        state.close_deadline = max(state.close_deadline, now + 3 * max(state.recovery.pto_duration(2), 0.001))


def on_packet_while_closing(state: ConnectionState) -> None:
    """§10.2.1: answer what still arrives, less and less often: after 1, 2, 4, 8 ... packets."""
    if state.phase is Phase.CLOSING:
        state.close_received += 1
        if state.close_received & (state.close_received - 1) == 0:
            state.close_due = True
            state.outbox.ring()


def keep_alive(state: ConnectionState, now: float) -> None:
    """§10.1.2: a PING when it is due. The next one waits for an answer to it, so a peer that is gone stays silent."""
    if state.keep_alive_deadline is None or now < state.keep_alive_deadline:
        return
    state.keep_alive_deadline = None
    if state.ping is not None and not state.eliciting_sent:
        state.ping.acked = False
        state.outbox.push(state.ping)


def note_eliciting_sent(state: ConnectionState, now: float) -> None:
    """§10.1: the first ack-eliciting packet since something came restarts the idle timer, and no other one."""
    state.eliciting_sent = True
    restart_idle_timer(state, now)


def restart_idle_timer(state: ConnectionState, now: float) -> None:
    """§10.1: the smaller of both sides' max_idle_timeout, but never less than three PTOs."""
    if state.configuration.keep_alive is not None and state.handshake_complete:
        state.keep_alive_deadline = now + state.configuration.keep_alive
    timeout = state.local_parameters.max_idle_timeout
    if state.peer_parameters is not None:
        peer = state.peer_parameters.max_idle_timeout
        if peer and (not timeout or peer < timeout):
            timeout = peer
    if not timeout:
        state.idle_deadline = None
        return
    recovery = state.recovery
    least = 3 * (recovery.rtt.pto + recovery.max_ack_delay)
    state.idle_deadline = now + (timeout if timeout > least else least)


def internal_error(state: ConnectionState, now: float, error: BaseException) -> None:
    """A defect of ours costs this connection, not the endpoint."""
    state.internal_error = error
    if is_over(state):
        state.trace = Trace()
        discard(state, now)  # not even the end goes as it should
        return
    try:
        close(state, now, TransportErrorCode.INTERNAL_ERROR, "internal error", fault=0)
    except Exception:  # then it is the application's trace that fails
        state.trace = Trace()
        close(state, now, TransportErrorCode.INTERNAL_ERROR, "internal error", fault=0)

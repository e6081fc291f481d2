"""Asking the peer for fewer acknowledgements, or for more (draft-ietf-quic-ack-frequency §3, §4, §7).

What the peer asks of us is in ``frames``, and in ``transport/ack_tracker``.
"""

from __future__ import annotations

from dataclasses import replace

from quicstack.config import AckFrequency
from quicstack.connection.state import ConnectionState
from quicstack.transport.outbox import SentValue

__all__ = ["ask"]


def ask(state: ConnectionState, wanted: AckFrequency) -> bool:
    """Queue ACK_FREQUENCY. False to a peer that has not said that it takes the frame (§3), or not yet."""
    least = state.peer_parameters.min_ack_delay if state.peer_parameters is not None else None
    if least is None:
        return False
    requests = state.ack_requests
    requests.add(replace(wanted, max_ack_delay=max(wanted.max_ack_delay, least)))
    if state.ack_frequency is None:
        state.ack_frequency = SentValue(requests.write, lambda: _on_acked(state))
    state.recovery.max_ack_delay = requests.longest_delay
    state.outbox.push(state.ack_frequency)
    return True


def _on_acked(state: ConnectionState) -> None:
    state.ack_requests.on_acked()
    state.recovery.max_ack_delay = state.ack_requests.longest_delay

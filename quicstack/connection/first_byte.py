"""The bits of a first byte that tell the peer nothing: the QUIC bit (RFC 9287) and the spin bit (RFC 9000 §17.4).

Both are chosen for a train, not for a packet.
"""

from __future__ import annotations

from quicstack.connection.state import ConnectionState
from quicstack.transport.path import PathState
from quicstack.wire.packet import FIXED_BIT

__all__ = ["fixed_bit", "free_bits"]


def fixed_bit(state: ConnectionState) -> int:
    """RFC 9287 §3.1: set, or nobody knows, towards a peer that does not mind."""
    if not state.may_clear_quic_bit:
        return FIXED_BIT
    coins = state.coins
    if coins <= 1:
        coins = int.from_bytes(state.environment.random(8), "big") | 1 << 64
    state.coins = coins >> 1
    return FIXED_BIT if coins & 1 else 0


def free_bits(state: ConnectionState, path: PathState, dcid: bytes) -> int:
    """Both bits, for a train of 1-RTT packets to ``dcid`` on ``path``."""
    spin = path.spin
    if spin.cid != dcid:
        spin.begin(dcid, state.configuration.spin_bit, state.environment.random)
    return (fixed_bit(state) if state.may_clear_quic_bit else FIXED_BIT) | spin.value

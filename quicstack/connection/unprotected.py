"""Packets without protection: Version Negotiation (RFC 9000 §6.2) and Retry (§17.2.5.2), as a client takes them."""

from __future__ import annotations

import hmac

from quicstack.connection import handshake, lifecycle, versions
from quicstack.connection.state import ConnectionState
from quicstack.errors import ConnectionClosed, TransportErrorCode
from quicstack.transport.packet_protection import retry_integrity_tag
from quicstack.wire.packet import LongHeader, read_cids, read_version_negotiation
from quicstack.wire.version import VERSIONS

__all__ = ["on_retry", "on_version_negotiation"]

INTEGRITY_TAG = 16


def on_version_negotiation(state: ConnectionState, data: bytes, now: float) -> None:
    """RFC 9000 §6.2: a client that was refused its version gives up, unless the packet cannot be the server's."""
    if not state.is_client or state.peer_scid is not None or state.retry_scid is not None:
        return
    if state.refused_version is not None:  # RFC 9368 §4: one reaction
        return
    _, dcid, scid, pos = read_cids(data, 0)
    if dcid != state.local_cids.first or scid != state.original_dcid:
        return
    listed = read_version_negotiation(data, pos)
    if state.version.value in listed:
        return  # §6.2: it lists what we sent, so it was not meant
    chosen = versions.choose(state, listed)
    if chosen is not None:
        handshake.restart_with_version(state, VERSIONS[chosen], now)
        return
    offered = ", ".join(f"{version:#010x}" for version in listed[:8])
    error = ConnectionClosed(
        TransportErrorCode.VERSION_NEGOTIATION_ERROR,
        f"the server speaks none of our QUIC versions, only {offered}",
        by_peer=True,
    )
    lifecycle.discard(state, now, error)


def on_retry(state: ConnectionState, data: bytes, header: LongHeader, now: float) -> bool:
    """RFC 9000 §17.2.5.2: one Retry, before anything else, with a tag that proves that its sender saw our Initial.
    False: it is to be dropped."""
    retry, tag = data[header.start : -INTEGRITY_TAG], data[-INTEGRITY_TAG:]
    usable = state.is_client and state.peer_scid is None and state.retry_scid is None
    if (
        not usable
        or len(header.token) <= INTEGRITY_TAG
        or header.dcid != state.local_cids.first
        or header.scid == state.original_dcid
        or not hmac.compare_digest(tag, retry_integrity_tag(state.version, state.original_dcid, retry))
    ):
        return False
    handshake.restart_after_retry(state, header.scid, header.token[:-INTEGRITY_TAG], now)
    return True

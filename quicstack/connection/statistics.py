"""A look at a connection as it is: what :class:`ConnectionStats` shows, gathered from the parts."""

from __future__ import annotations

from dataclasses import replace

from quicstack.connection.state import ConnectionState
from quicstack.observe.stats import ConnectionStats

__all__ = ["snapshot"]


def snapshot(state: ConnectionState) -> ConnectionStats:
    """Costs nothing until somebody asks."""
    recovery, streams, tls = state.recovery, state.streams, state.tls
    metrics = recovery.metrics()
    suite = tls.cipher_suite if tls is not None else None
    done = state.completed_at
    return ConnectionStats(
        counters=replace(state.counters),
        smoothed_rtt=metrics.smoothed_rtt,
        latest_rtt=metrics.latest_rtt,
        min_rtt=metrics.min_rtt,
        rttvar=metrics.rttvar,
        congestion_window=metrics.congestion_window,
        ssthresh=metrics.ssthresh,
        bytes_in_flight=metrics.bytes_in_flight,
        pacing_rate=metrics.pacing_rate,
        pto_count=metrics.pto_count,
        max_datagram_size=state.max_datagram_size,
        paths=1 + len(state.other_paths),
        ecn=recovery.ecn.validation.value,
        ecn_ce_received=sum(space.acks.ecn[2] for space in state.spaces),
        streams_open=len(streams.streams),
        streams_opened=sum(part.opened for part in streams.local.values()),
        streams_accepted=sum(part.opened for part in streams.peer.values()),
        datagrams_dropped_in=state.datagrams_in.dropped,
        datagrams_dropped_out=state.datagrams_out.dropped,
        version=state.version.value,
        cipher_suite=suite.name if suite is not None else None,
        group=tls.group_name if tls is not None else None,
        alpn_protocol=tls.alpn_protocol if tls is not None else None,
        handshake_time=None if done is None else done - state.started_at,
    )

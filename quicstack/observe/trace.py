"""The trace that records nothing: what a connection tells whoever watches it.

A connection always has a trace. This one ignores everything, so tracing that is off costs one empty call instead of a
condition at every call site, and a watcher overrides only what it wants to see. A trace watches and never steers:
nothing it returns is used, and what it raises must not reach the connection.

``packet_type`` is ``initial``, ``handshake``, ``0RTT``, ``1RTT``, ``retry``, ``version_negotiation``,
``stateless_reset`` or ``unknown``. ``payload`` is the plaintext of a packet: its frames.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Trace"]


class Trace:
    """Every event of a connection, ignored. ``now`` is in seconds on the clock the driver uses."""

    __slots__ = ()

    def connection_started(
        self, now: float, is_client: bool, path: Any, odcid: bytes, scid: bytes, dcid: bytes, version: int
    ) -> None:
        """The first packet is about to be sent (client) or was accepted (server)."""

    def packet_sent(self, now: float, packet_type: str, packet_number: int, size: int, payload: bytes) -> None:
        """A packet of ``size`` bytes (header and AEAD tag included) goes out."""

    def packet_received(self, now: float, packet_type: str, packet_number: int, size: int, payload: bytes) -> None:
        """A packet was authenticated; its frames have not been acted upon yet."""

    def packet_dropped(self, now: float, packet_type: str, size: int, trigger: str) -> None:
        """A packet came and was not processed; ``trigger`` says why."""

    def packets_lost(self, now: float, packet_type: str, packets: list[Any], trigger: str) -> None:
        """Recovery gave up on these sent packets (RFC 9002 §6.1)."""

    def metrics_updated(self, now: float, recovery: Any) -> None:
        """RTT, window or bytes in flight may have changed; ``recovery.metrics()`` tells."""

    def parameters_set(self, now: float, local: bool, params: Any) -> None:
        """Transport parameters are known: ours (``local``) or the peer's."""

    def key_updated(self, now: float, epoch: str, generation: int) -> None:
        """Keys of one encryption level are installed, or a key update happened (RFC 9001 §6)."""

    def key_discarded(self, now: float, epoch: str) -> None:
        """Keys of one encryption level are gone (RFC 9001 §4.9)."""

    def alpn_selected(self, now: float, alpn: str) -> None:
        """TLS has agreed on the application protocol."""

    def state_changed(self, now: float, old: str, new: str) -> None:
        """The connection moved to another state."""

    def connection_closed(self, now: float, error: Any, by_peer: bool) -> None:
        """The connection is over; ``error`` is what the application sees."""

    def close(self) -> None:
        """Nothing more will come."""

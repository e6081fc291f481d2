"""What was found out about failures: whose they are, and why. The report quotes it."""

from __future__ import annotations

from typing import Final

__all__ = ["explanation"]

# client, server and case; "*" is any.
_KNOWN: Final[dict[tuple[str, str, str], str]] = {
    ("aioquic", "*", "ecn"): "aioquic leaves the ECN bits alone, and reports no counts.",
    ("*", "aioquic", "ecn"): "aioquic leaves the ECN bits alone, and reports no counts, so our side stops marking.",
    ("qh3", "*", "ecn"): "qh3 leaves the ECN bits alone, and reports no counts.",
    ("*", "qh3", "ecn"): "qh3 leaves the ECN bits alone, and reports no counts, so our side stops marking.",
    ("quiche", "*", "ecn"): "UDP sockets of Node.js have no access to the ECN bits.",
    ("*", "quiche", "ecn"): "UDP sockets of Node.js have no access to the ECN bits; our side stops marking.",
    ("*", "caddy", "ecn"): "quic-go of this age neither marks packets nor reports counts, so our side stops marking.",
    ("*", "ngtcp2", "ecn"): "ngtcp2 0.12 marks all packets but its probes of the path MTU.",
    ("ngtcp2", "*", "ecn"): "ngtcp2 0.12 marks all packets but its probes of the path MTU.",
    ("*", "caddy", "rebind-port"): "quic-go of this age goes on sending to the client's old address.",
    ("*", "caddy", "rebind-addr"): "quic-go of this age goes on sending to the client's old address.",
    ("*", "quiche", "handshake"): "The server of @matrixai/quic asks for a Retry whatever one does.",
}


def explanation(client: str, server: str, case: str) -> str | None:
    """Why this fails, if somebody has found out."""
    for key in ((client, server, case), (client, "*", case), ("*", server, case)):
        if key in _KNOWN:
            return _KNOWN[key]
    return None

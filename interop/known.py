"""What was found out about failures: whose they are, and why. The report quotes it."""

from __future__ import annotations

from typing import Final

__all__ = ["explanation"]

_NO_LONE_FIN: Final = (
    "The server never sends again a lost STREAM frame that carries nothing but FIN: a file that came whole has no end."
)
_SILENT: Final = (
    "The server stops sending soon after the client's address has changed, although it got its PATH_RESPONSE."
)
_AIOQUIC_TOO: Final = " aioquic's client times out with it too."

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
    (
        "qh3",
        "*",
        "retry",
    ): "qh3's client begins again with packet number 0 after a Retry (RFC 9000 §17.2.5.3).",
    ("qh3", "*", "zerortt"): (
        "qh3's client paces its 0-RTT packets over more than a round trip, so half of the requests leave after the "
        "handshake. Its own server sends an ACK ahead of its ServerHello, which frees it a moment earlier."
    ),
    ("qh3", "*", "connectionmigration"): "qh3's client does not go to a preferred address.",
    ("*", "qh3", "amplificationlimit"): (
        "qh3's server raises 'packet builder capacity exhausted' while it builds its answer to a ClientHello in one "
        "datagram, and sends nothing; with aioquic's client too. Its own client begins with two datagrams."
    ),
    ("quicstack", "quiche", "multiplexing"): _NO_LONE_FIN,
    ("quicstack", "quiche", "handshakeloss"): _NO_LONE_FIN + _AIOQUIC_TOO,
    ("quicstack", "quiche", "handshakecorruption"): _NO_LONE_FIN + _AIOQUIC_TOO,
    ("quicstack", "quiche", "rebind-port"): _SILENT + _AIOQUIC_TOO,
    ("quicstack", "quiche", "rebind-addr"): _SILENT + _AIOQUIC_TOO,
    ("quiche", "quiche", "multiplexing"): "tshark cannot decrypt this capture with the key log of quiche.",
    ("quiche", "quiche", "amplificationlimit"): "tshark cannot decrypt this capture with the key log of quiche.",
    ("quiche", "*", "connectionmigration"): "The client of @matrixai/quic does not go to a preferred address.",
    ("*", "ngtcp2", "rebind-port"): "ngtcp2 0.12 lets another packet go to the new address before its PATH_CHALLENGE.",
    ("*", "ngtcp2", "connectionmigration"): (
        "ngtcp2 0.12's server first answers the client's own PATH_CHALLENGE, and sends one when the client has moved."
    ),
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

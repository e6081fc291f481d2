"""WebTransport over HTTP/3: sessions of streams and datagrams between a client and a server.

A server registers handlers by path (:class:`ServerApp`), a client opens sessions (:class:`WebTransportClient`); both
get a :class:`WebTransportSession`. Below it, from the outside in::

    app, client, server        routes, connections, tasks
    session, stream, datagrams what applications hold; asyncio is in these, in link and in signal
    link                       one connection under asyncio
    session_table, session_state, session_stream, early_streams, flow_control
                               the protocol, without I/O and without waiting
    dialects, codes, capsules, subprotocols, structured_fields
                               the drafts: what goes over the wire
"""

from __future__ import annotations

from webtransport.app import ServerApp
from webtransport.certificates import certificate_hash, generate_self_signed_cert
from webtransport.client import WebTransportClient
from webtransport.config import ClientConfig, ServerConfig
from webtransport.datagrams import WebTransportDatagrams
from webtransport.errors import (
    CertificateError,
    CloseInfo,
    ConfigurationError,
    ConnectionClosed,
    ConnectTimeout,
    DatagramTooLarge,
    QuicstackError,
    SessionClosed,
    SessionRejected,
    StreamAborted,
    StreamReset,
    StreamStopped,
    WebTransportError,
    WebTransportUnsupported,
)
from webtransport.server import WebTransportServer
from webtransport.session import WebTransportSession
from webtransport.session_limits import SessionState, SessionStats
from webtransport.stream import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream

__all__ = [
    "CertificateError",
    "ClientConfig",
    "CloseInfo",
    "ConfigurationError",
    "ConnectTimeout",
    "ConnectionClosed",
    "DatagramTooLarge",
    "QuicstackError",
    "ServerApp",
    "ServerConfig",
    "SessionClosed",
    "SessionRejected",
    "SessionState",
    "SessionStats",
    "StreamAborted",
    "StreamReset",
    "StreamStopped",
    "WebTransportClient",
    "WebTransportDatagrams",
    "WebTransportError",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportServer",
    "WebTransportSession",
    "WebTransportStream",
    "WebTransportUnsupported",
    "certificate_hash",
    "generate_self_signed_cert",
]

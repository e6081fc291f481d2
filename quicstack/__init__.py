"""QUIC in pure Python: RFC 8999, 9000, 9001, 9002 and their extensions.

The names here are the engine, which does no I/O, and what configures it. What moves its datagrams is a
driver: :mod:`quicstack.drivers.aio` for asyncio, :mod:`quicstack.drivers.blocking` for plain scripts, and
:mod:`quicstack.simulator` for virtual time. From the outside in::

    endpoint                many connections on one socket
    connection/             one connection: what arrives, what goes out, timers, how it ends
    transport/              its parts: streams, flow control, packet protection, connection IDs, paths
    tls/, recovery/         the handshake; loss detection and congestion control
    wire/                   bytes to values and back
    observe/                traces and counters
    config, errors, train, environment

``docs/architecture.md`` tells how they work together.
"""

from __future__ import annotations

from quicstack.config import AckFrequency, Configuration
from quicstack.connection.connection import Connection, Ready
from quicstack.endpoint import Endpoint
from quicstack.environment import Environment
from quicstack.errors import (
    CertificateError,
    ConfigurationError,
    ConnectionClosed,
    ConnectionTimeout,
    EchRejected,
    MigrationFailed,
    MigrationRefused,
    QuicstackError,
    StreamError,
    StreamLimitReached,
    StreamReset,
    StreamStopped,
    TransportError,
    TransportErrorCode,
)
from quicstack.observe.stats import ConnectionStats
from quicstack.observe.trace import Trace
from quicstack.recovery.congestion.controller import AckEvent, CongestionController
from quicstack.recovery.congestion.cubic import Cubic
from quicstack.recovery.congestion.newreno import NewReno
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust
from quicstack.train import Path, SendError, Train
from quicstack.transport.scheduler import FirstComeFirstServed, RoundRobin, StreamScheduler, UrgencyScheduler
from quicstack.transport.stream import Stream

__version__ = "0.1.0"

__all__ = [
    "AckEvent",
    "AckFrequency",
    "CertificateError",
    "CertificateKey",
    "CertificateStore",
    "Configuration",
    "ConfigurationError",
    "CongestionController",
    "Connection",
    "ConnectionClosed",
    "ConnectionStats",
    "ConnectionTimeout",
    "Cubic",
    "EchRejected",
    "Endpoint",
    "Environment",
    "FirstComeFirstServed",
    "MigrationFailed",
    "MigrationRefused",
    "NewReno",
    "Path",
    "QuicstackError",
    "Ready",
    "RoundRobin",
    "SendError",
    "Stream",
    "StreamError",
    "StreamLimitReached",
    "StreamReset",
    "StreamScheduler",
    "StreamStopped",
    "Trace",
    "Train",
    "TransportError",
    "TransportErrorCode",
    "Trust",
    "UrgencyScheduler",
    "__version__",
]

"""What the engine asks of this machine: randomness, the date, and where to write the secrets of a connection."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import time
from collections.abc import Callable

from quicstack.config import Configuration
from quicstack.drivers.tracing import qlog_trace_factory
from quicstack.environment import Environment

__all__ = ["key_log", "observed", "real_environment"]

logger = logging.getLogger("quicstack")


@functools.cache
def real_environment() -> Environment:
    """Randomness of the operating system and the wall clock."""
    return Environment(random=os.urandom, wall_time=time.time)


@functools.cache
def key_log(path: str) -> Callable[[str], None] | None:
    """Append lines to a key log that only this user may read (RFC 9850); None if it cannot be opened.

    Opened once for the life of the process, and warned about once: whoever has the file can read the traffic.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        logger.warning("no key log: %s", error)
        return None
    logger.warning("secrets of all connections are written to %s", path)

    def write_line(line: str) -> None:
        os.write(file, line.encode("ascii") + b"\n")

    return write_line


def observed(configuration: Configuration) -> Configuration:
    """The configuration with the key log of SSLKEYLOGFILE and the qlog files of QLOGDIR, where it names none itself."""
    key_log_path = os.environ.get("SSLKEYLOGFILE")
    if key_log_path and configuration.keylog is None:
        configuration = dataclasses.replace(configuration, keylog=key_log(key_log_path))
    if configuration.trace_factory is None:
        trace_factory = qlog_trace_factory()
        if trace_factory is not None:
            configuration = dataclasses.replace(configuration, trace_factory=trace_factory)
    return configuration

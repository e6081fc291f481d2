"""Where traces go: a qlog file for each connection, in a directory (draft-ietf-quic-qlog-main-schema-14, QLOGDIR)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from quicstack.observe.qlog import QlogTrace
from quicstack.observe.trace import Trace

__all__ = ["qlog_trace_factory"]

logger = logging.getLogger("quicstack.qlog")


def qlog_trace_factory(directory: str | os.PathLike[str] | None = None) -> Callable[[bytes, bool], Trace] | None:
    """A value for ``Configuration.trace_factory`` that writes ``<odcid>_<client|server>.sqlog`` files.

    Without ``directory`` the environment variable QLOGDIR says where; if neither does, None: no tracing. A file that
    cannot be opened is reported to the log and costs only the trace.
    """
    chosen = directory or os.environ.get("QLOGDIR")
    if not chosen:
        return None
    folder = Path(chosen)

    def open_trace(odcid: bytes, is_client: bool) -> Trace:
        path = folder / f"{odcid.hex()}_{'client' if is_client else 'server'}.sqlog"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            output = path.open("w", encoding="utf-8")
        except OSError as error:
            logger.warning("no qlog for this connection: %s", error)
            return Trace()
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return QlogTrace(output, odcid=odcid, is_client=is_client, wall_clock_time=started)

    return open_trace

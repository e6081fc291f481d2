"""HTTP/0.9 over QUIC streams (ALPN ``hq-interop``), as the runner's cases want it: "GET /path", and the file comes.

One request a stream. There is no status: a file that is not there is a stream that is reset.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from quicstack import QuicstackError
from quicstack.drivers.aio import AsyncConnection, AsyncStream

__all__ = ["ALPN", "NOT_FOUND", "fetch", "serve_connection"]

ALPN: Final = "hq-interop"
NOT_FOUND: Final = 0x10C
"""The code of a stream without a file (H3_REQUEST_CANCELLED has this number; HTTP/0.9 has none)."""

_CHUNK: Final = 1 << 16
_LONGEST_REQUEST: Final = 4096


async def fetch(connection: AsyncConnection, path: str, to: Path) -> None:
    """One request; its answer goes into a file."""
    stream = await connection.open_stream()
    await stream.write_all(f"GET {path}\r\n".encode())
    with to.open("wb") as file:
        async for chunk in stream:
            file.write(chunk)


async def serve_connection(connection: AsyncConnection, find: Callable[[str], Path | None]) -> None:
    """Answer requests until the connection is closed."""
    try:
        async with asyncio.TaskGroup() as answers:
            while True:
                answers.create_task(_answer(await connection.accept_stream(), find))
    except* QuicstackError:
        pass  # closed, and with it what was being answered


async def _answer(stream: AsyncStream, find: Callable[[str], Path | None]) -> None:
    with contextlib.suppress(QuicstackError):
        request = await stream.read_all(_LONGEST_REQUEST)
        method, _, path = request.decode("utf-8", "replace").strip().partition(" ")
        path_found = find(path) if method == "GET" else None
        if path_found is None:
            stream.reset(NOT_FOUND)
            return
        with path_found.open("rb") as file:
            while chunk := file.read(_CHUNK):
                await stream.write(chunk)
        stream.finish()

"""Names to socket addresses, without a thread where the name is a number already."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from quicstack.train import Address

__all__ = ["resolve", "wildcards"]


async def resolve(host: str, port: int, loop: asyncio.AbstractEventLoop) -> list[Address]:
    """The addresses of a host in the system's order of preference (RFC 6724). ``socket.gaierror`` if it has none."""
    with contextlib.suppress(OSError):
        socket.inet_pton(socket.AF_INET, host)
        return [(host, port)]  # getaddrinfo says the same in 5 us
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = list(await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))
    return list(dict.fromkeys(address for *_, address in found))


def wildcards(hosts: str | Sequence[str] | None) -> list[str]:
    """Hosts to listen on: every address of this machine for None and ""."""
    if hosts is None or isinstance(hosts, str):
        hosts = [hosts or "::"]
    return [host or "::" for host in hosts]

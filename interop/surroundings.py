"""What an endpoint is told: environment variables and folders, as the QUIC interop runner defines them.

In the runner's containers the folders are /www, /downloads and /certs, and a server listens on port 443 of all
addresses. Run without containers, WWW, DOWNLOADS, CERTS, HOST and PORT name other places, and PROTOCOL=h3 has every
case run over HTTP/3, for peers that speak nothing else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from interop.cases import HTTP3_CASE

__all__ = ["UNSUPPORTED", "Surroundings", "Target"]

UNSUPPORTED: Final = 127
"""The exit status of an endpoint that does not know its test case."""


@dataclass(frozen=True, slots=True)
class Target:
    """One of the REQUESTS."""

    host: str
    port: int
    path: str
    authority: str

    @classmethod
    def of(cls, url: str) -> Target:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"{url!r} has no host")
        return cls(parts.hostname, parts.port or 443, parts.path or "/", parts.netloc)


@dataclass(frozen=True, slots=True)
class Surroundings:
    role: str
    case: str
    protocol: str
    targets: tuple[Target, ...]
    www: Path
    downloads: Path
    certificates: Path
    host: str
    port: int
    preferred: tuple[tuple[str, int], ...]

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Surroundings:
        port = int(environment.get("PORT", "443"))
        announced = environment.get("PREFERRED_ADDRESS", "").split()
        return cls(
            role=environment.get("ROLE", "server"),
            case=(name := environment.get("TESTCASE", "handshake")),
            protocol="h3" if name == HTTP3_CASE else environment.get("PROTOCOL", "hq-interop"),
            targets=tuple(Target.of(url) for url in environment.get("REQUESTS", "").split()),
            www=Path(environment.get("WWW", "/www")),
            downloads=Path(environment.get("DOWNLOADS", "/downloads")),
            certificates=Path(environment.get("CERTS", "/certs")),
            host=environment.get("HOST", ""),
            port=port,
            preferred=tuple(_address(text) for text in announced) or _own_addresses(port + 1),
        )

    @property
    def certificate(self) -> str:
        return str(self.certificates / "cert.pem")

    @property
    def key(self) -> str:
        return str(self.certificates / "priv.key")

    def file(self, path: str) -> Path | None:
        """What a request for ``path`` is answered with; None when there is no such file below the folder."""
        root = self.www.resolve()
        found = (root / path.lstrip("/")).resolve()
        return found if found.is_relative_to(root) and found.is_file() else None

    def download(self, path: str) -> Path:
        """Where the answer is kept."""
        return self.downloads / path.rpartition("/")[2]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _own_addresses(port: int) -> tuple[tuple[str, int], ...]:
    """The addresses this host speaks from, IPv4 and IPv6. No packet is sent to find out."""
    found = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append((probe.getsockname()[0], port))
        except OSError:
            continue
    return tuple(found)

"""Who can play: our endpoint and the peers that this machine has, each a program that is told what to do as ours is."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["IMPLEMENTATIONS", "OURS", "Implementation"]

_ROOT: Final = Path(__file__).parents[1]
QUICHE_FOLDER: Final = _ROOT / ".venv-peers" / "quiche"


@dataclass(frozen=True, slots=True)
class Implementation:
    """``needs`` are programs and Python packages; ``install`` says how to get them."""

    name: str
    title: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    install: str = ""
    is_h3_only: bool = False
    is_client: bool = True
    is_server: bool = True
    binds_preferred_address: bool = False
    """It has to listen itself at the address that it announces; others can be behind a NAT there."""

    @property
    def missing(self) -> str | None:
        """What to install; None when everything is here."""
        found = (
            Path(need).exists() if "/" in need else shutil.which(need) or importlib.util.find_spec(need)
            for need in self.needs
        )
        return None if all(found) else f"{self.name} is not installed: {self.install}"


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


OURS: Final = Implementation("quicstack", "quicstack", _python("interop.endpoint"))

IMPLEMENTATIONS: Final = {
    one.name: one
    for one in (
        OURS,
        Implementation(
            "aioquic", "aioquic", _python("interop.peers.aioquic_like", "aioquic"), ("aioquic",), "pip install aioquic"
        ),
        Implementation("qh3", "qh3", _python("interop.peers.aioquic_like", "qh3"), ("qh3",), "pip install qh3"),
        Implementation(
            "ngtcp2",
            "ngtcp2 on GnuTLS (gtlsclient, gtlsserver)",
            _python("interop.peers.ngtcp2"),
            ("gtlsclient", "gtlsserver"),
            "apt-get install ngtcp2-client ngtcp2-server",
            is_h3_only=True,
            binds_preferred_address=True,
        ),
        Implementation(
            "caddy",
            "caddy (quic-go)",
            _python("interop.peers.caddy"),
            ("caddy",),
            "apt-get install caddy",
            is_h3_only=True,
            is_client=False,
        ),
        Implementation(
            "quiche",
            "quiche (@matrixai/quic)",
            ("node", str(_ROOT / "interop" / "peers" / "quiche.mjs")),
            ("node", str(QUICHE_FOLDER / "installed")),
            "install nodejs and npm, then `make peers`",
        ),
    )
}

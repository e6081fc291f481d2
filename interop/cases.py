"""The cases: what is asked for, over what kind of network, and which rule of ``judge`` looks at the captures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from interop.link import Faults

__all__ = ["CASES", "ENDPOINT_CASES", "HTTP3_CASE", "SMOKE", "Case"]

KIB: Final = 1 << 10
MIB: Final = 1 << 20

ENDPOINT_CASES: Final = frozenset(
    [
        "handshake",
        "transfer",
        "chacha20",
        "retry",
        "resumption",
        "zerortt",
        "http3",
        "multiconnect",
        "keyupdate",
        "v2",
        "connectionmigration",
    ]
)
"""The names that endpoints are told; an endpoint exits with 127 for any other."""

HTTP3_CASE: Final = "http3"


@dataclass(frozen=True, slots=True)
class Case:
    """``client`` and ``server`` are the names that each side is told."""

    name: str
    letters: str
    client: str
    server: str
    files: tuple[int, ...]
    faults: Faults = field(default_factory=Faults)
    delay: float = 0.015
    name_length: int = 16
    is_ipv6: bool = False
    long_chain: bool = False
    has_preferred_address: bool = False
    handshakes: int = 1
    timeout: float = 60.0


def case(
    name: str, letters: str, told: str, files: tuple[int, ...], faults: Faults | None = None, **more: object
) -> Case:
    """``told`` is the name for both sides, or two: the client's and the server's."""
    client, _, server = told.partition("/")
    return Case(name, letters, client, server or client, files, faults or Faults(), **more)  # type: ignore[arg-type]


_LOSS, _BURST = 0.30, 3
_CASES: Final = (
    case("handshake", "H", "handshake", (KIB,)),
    case("transfer", "DC", "transfer", (2 * MIB, 3 * MIB, 5 * MIB)),
    case("longrtt", "LR", "handshake", (KIB,), delay=0.75),
    case("chacha20", "C20", "chacha20", (3 * MIB,)),
    case("multiplexing", "M", "transfer", (32,) * 1999),
    case("retry", "S", "retry", (10 * KIB,)),
    case("resumption", "R", "resumption", (5 * KIB, 10 * KIB), handshakes=2),
    case("zerortt", "Z", "zerortt", (32,) * 40, name_length=250, handshakes=2),
    case("http3", "3", "http3", (5 * KIB, 10 * KIB, 500 * KIB)),
    case("blackhole", "B", "transfer", (10 * MIB,), Faults(on=5.0, off=2.0)),
    case("keyupdate", "U", "keyupdate/transfer", (3 * MIB,)),
    case("ecn", "E", "handshake", (100 * KIB,)),
    case(
        "amplificationlimit",
        "A",
        "transfer",
        (5 * KIB,),
        Faults(drops_to_server=frozenset(range(2, 8))),
        long_chain=True,
    ),
    case(
        "handshakeloss",
        "L1",
        "multiconnect",
        (KIB,) * 50,
        Faults(drop=_LOSS, burst=_BURST),
        handshakes=50,
        timeout=300.0,
    ),
    case("transferloss", "L2", "transfer", (2 * MIB,), Faults(drop=0.02, burst=_BURST)),
    case(
        "handshakecorruption",
        "C1",
        "multiconnect",
        (KIB,) * 50,
        Faults(corrupt=_LOSS, burst=_BURST),
        handshakes=50,
        timeout=300.0,
    ),
    case("transfercorruption", "C2", "transfer", (2 * MIB,), Faults(corrupt=0.02, burst=_BURST)),
    case("ipv6", "6", "transfer", (5 * KIB, 10 * KIB), is_ipv6=True),
    case("v2", "V2", "v2", (KIB,)),
    case("rebind-port", "BP", "transfer", (10 * MIB,), Faults(first_rebind=1.0, rebind_every=5.0)),
    case(
        "rebind-addr", "BA", "transfer", (10 * MIB,), Faults(first_rebind=1.0, rebind_every=5.0, rebinds_address=True)
    ),
    case("connectionmigration", "CM", "transfer/connectionmigration", (2 * MIB,), has_preferred_address=True),
)

CASES: Final = {one.name: one for one in _CASES}

SMOKE: Final = ("handshake", "retry", "http3", "v2", "ecn", "keyupdate", "amplificationlimit", "connectionmigration")
"""A short run for every day."""

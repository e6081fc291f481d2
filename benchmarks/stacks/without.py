"""Tricks of our stack, switched off one at a time: what each of them gains is what goes missing (`ablation.py`).

Each function replaces a fast path by what would stand there without it. The results are the same, only later. A name
that is gone raises AttributeError, so a trick that moved is not measured as worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from quicstack.connection import receive, send
from quicstack.drivers import pump, udp
from quicstack.drivers.udp import UdpOptions
from quicstack.transport.packet_protection import _FULL_PN, SAMPLE_LENGTH, PacketKeys


def replace(where: Any, name: str, value: Any) -> None:
    getattr(where, name)
    setattr(where, name, value)


def default(name: str, value: object) -> None:
    """Another default for a socket option."""
    names = list(UdpOptions.__dataclass_fields__)
    defaults = list(UdpOptions.__init__.__defaults__ or ())
    defaults[names.index(name)] = value
    UdpOptions.__init__.__defaults__ = tuple(defaults)
    replace(udp, "_AS_IT_COMES", UdpOptions())


def seal_one_by_one(
    keys: PacketKeys, prefix: bytes, pn_length: int, packet_number: int, payloads: list[bytes]
) -> bytes:
    packets = []
    for number, payload in enumerate(payloads, packet_number):
        header = prefix + (number & (1 << 8 * pn_length) - 1).to_bytes(pn_length, "big")
        packets.append(keys.seal(header, pn_length, number, payload))
    return b"".join(packets)


def unmask_one_by_one(
    keys: PacketKeys, data: bytes, segment_size: int, cid_length: int
) -> list[tuple[bytes, int, int, int]]:
    found = []
    shortest = 1 + cid_length + _FULL_PN + SAMPLE_LENGTH
    for start in range(0, len(data) - shortest + 1, segment_size):
        header, pn_length = keys.unmask(data, start, start + 1 + cid_length)
        found.append((header, pn_length, start + len(header), min(start + segment_size, len(data))))
    return found


def masks() -> None:
    replace(PacketKeys, "seal_train", seal_one_by_one)
    replace(PacketKeys, "unmask_train", unmask_one_by_one)


class Trick(NamedTuple):
    title: str
    switch_off: Callable[[], None]
    works: tuple[str, ...] = ("bulk",)
    """Where it shows."""


TRICKS = {
    "gso": Trick("one sendmsg a train (GSO)", lambda: default("gso", False)),
    "gro": Trick("one recvmsg a train (GRO)", lambda: default("gro", False)),
    "length": Trick("64 packets a train, not 16", lambda: replace(send, "MAX_TRAIN_PACKETS", 16)),
    "masks": Trick("header protection of a train in one call, by columns", masks, ("bulk", "request")),
    "take": Trick("packets of one stream taken in as a run", lambda: replace(receive, "take_run", lambda *_: 0)),
    "fill": Trick("packets of one stream filled as a run", lambda: replace(send, "fill_run", lambda *_: [])),
    "trains": Trick("4 full trains at a time, not 1", lambda: replace(pump, "TURN_BYTES", 1)),
    "fewer": Trick("4 full trains at a time, not 8", lambda: replace(pump, "TURN_BYTES", 480_000)),
    "drained": Trick(
        "a train that has drained everything says so",
        lambda: replace(send, "is_drained", lambda state, space: False),
        ("bulk", "request"),
    ),
}

"""What tshark reads in a capture: one record for each datagram. Nothing of ours decodes or decrypts here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Datagram", "PacketType", "missing_tshark", "read_capture"]


class PacketType:
    """Names of the values of ``types``."""

    INITIAL: Final = "Initial"
    ZERO_RTT: Final = "0-RTT"
    HANDSHAKE: Final = "Handshake"
    RETRY: Final = "Retry"


_BY_NUMBER: Final = (PacketType.INITIAL, PacketType.ZERO_RTT, PacketType.HANDSHAKE, PacketType.RETRY)
_VERSION_2: Final = 0x6B3343CF

_FIELDS: Final = (
    "ip.version",
    "ip.src",
    "ipv6.src",
    "ip.dst",
    "ipv6.dst",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "ip.dsfield.ecn",
    "ipv6.tclass.ecn",
    "quic.connection.number",
    "quic.version",
    "quic.long.packet_type",
    "quic.long.packet_type_v2",
    "quic.scid",
    "quic.dcid",
    "quic.token",
    "quic.retry_token",
    "quic.packet_number",
    "quic.length",
    "quic.key_phase",
    "quic.frame_type",
    "quic.crypto.offset",
    "quic.crypto.length",
    "quic.path_challenge.data",
    "quic.path_response.data",
    "quic.ack.ect0_count",
    "quic.ack.ect1_count",
    "tls.handshake.type",
    "tls.handshake.ciphersuite",
    "tls.quic.parameter.initial_max_streams_bidi",
)

_GREASE_MASK: Final = 0x0F0F
_GREASE: Final = 0x0A0A


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram. A field has a value for each packet or frame that has it, in the order of the bytes."""

    fields: dict[str, tuple[str, ...]]

    def texts(self, name: str) -> tuple[str, ...]:
        return self.fields.get(name, ())

    def numbers(self, name: str) -> list[int]:
        return [int(text, 0) for text in self.texts(name)]

    @property
    def path(self) -> tuple[str, str, str, str]:
        """Source and destination, address and port each."""
        source, destination = (
            self.texts("ip.src") or self.texts("ipv6.src"),
            self.texts("ip.dst") or self.texts("ipv6.dst"),
        )
        return (source[0], self.texts("udp.srcport")[0], destination[0], self.texts("udp.dstport")[0])

    @property
    def size(self) -> int:
        """UDP payload."""
        return self.numbers("udp.length")[0] - 8

    @property
    def ecn(self) -> int:
        return (self.numbers("ip.dsfield.ecn") or self.numbers("ipv6.tclass.ecn"))[0]

    @property
    def versions(self) -> list[int]:
        return self.numbers("quic.version")

    @property
    def types(self) -> list[str]:
        """Types of the packets with long headers."""
        of_version_1 = [_BY_NUMBER[number] for number in self.numbers("quic.long.packet_type")]
        of_version_2 = [_BY_NUMBER[(number + 3) % 4] for number in self.numbers("quic.long.packet_type_v2")]
        return of_version_1 + of_version_2

    @property
    def long_packets(self) -> list[tuple[int, str]]:
        """Version and type of each. Where both versions share a datagram, those of version 1 come first."""
        return list(zip(sorted(self.versions, key=lambda version: version == _VERSION_2), self.types, strict=False))

    @property
    def frames(self) -> list[int]:
        return self.numbers("quic.frame_type")

    @property
    def messages(self) -> list[int]:
        """Types of the TLS messages that end here."""
        return self.numbers("tls.handshake.type")

    @property
    def cipher_suites(self) -> set[int]:
        """Without those of RFC 8701, which mean nothing."""
        suites = self.numbers("tls.handshake.ciphersuite")
        return {suite for suite in suites if suite & _GREASE_MASK != _GREASE}


def missing_tshark() -> str | None:
    """How to get tshark; None when it is here."""
    return None if shutil.which("tshark") else "tshark is not installed: apt-get install tshark"


def read_capture(capture: Path, key_log: Path, ports: Iterable[int] = ()) -> list[Datagram]:
    """All datagrams of QUIC, in order of time. ``ports`` are the server's: else a number may mean another protocol."""
    command = ["tshark", "-n", "-r", str(capture), "-o", f"tls.keylog_file:{key_log}", "-Y", "quic", "-T", "fields"]
    command += ["-E", "occurrence=a", "-E", "aggregator=,", "-E", "separator=/t"]
    for field in _FIELDS:
        command += ["-e", field]
    for port in ports:
        command += ["-d", f"udp.port=={port},quic"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"tshark cannot read {capture}: {done.stderr.strip()[-300:]}")
    return [_datagram(line) for line in done.stdout.splitlines()]


def _datagram(line: str) -> Datagram:
    columns = line.split("\t")
    return Datagram({name: tuple(column.split(",")) for name, column in zip(_FIELDS, columns, strict=True) if column})

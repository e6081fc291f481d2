"""ECHConfigList: what a server publishes about its Encrypted ClientHello (RFC 9849 §4), and which of it we can use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quicstack.tls.hpke import AEADS, HKDF_SHA256, KEMS
from quicstack.tls.presentation import Reader

__all__ = ["ECH_VERSION", "EchConfig", "read_ech_config_list"]

ECH_VERSION = 0xFE0D
MANDATORY = 0x8000
LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


@dataclass(frozen=True, slots=True)
class EchConfig:
    """One ECHConfig that we can use. ``data`` is all of it, as the key derivation wants it; ``aead`` our choice."""

    data: bytes
    config_id: int
    kem: int
    public_key: bytes
    aead: int
    maximum_name_length: int
    public_name: str


def read_ech_config_list(data: bytes) -> tuple[EchConfig, ...]:
    """The usable configurations, in the order of the server's preference.

    Raises :class:`~quicstack.errors.TransportError` with decode_error if the list is malformed. Other versions, other
    algorithms, mandatory extensions (we know none) and public names that are no host names are passed over, as
    RFC 9849 §4, §4.2 and §6.1.7 ask.
    """
    reader = Reader(data, "ECHConfigList")
    usable: list[EchConfig] = []
    for item in reader.items(2, 4):
        start = item.pos
        version = item.number(2)
        contents = item.vector(2)
        if version == ECH_VERSION:
            config = _read_contents(contents, item.data[start : item.pos])
            if config is not None:
                usable.append(config)
    reader.finish()
    return tuple(usable)


def _read_contents(contents: bytes, data: bytes) -> EchConfig | None:
    reader = Reader(contents, "ECHConfig")
    config_id, kem = reader.number(1), reader.number(2)
    public_key = reader.vector(2, 1)
    suites = [(item.number(2), item.number(2)) for item in reader.items(2, 4)]
    maximum_name_length = reader.number(1)
    name = reader.vector(1, 1)
    extensions = [(item.number(2), item.vector(2)) for item in reader.items(2)]
    reader.finish()
    types = [extension_type for extension_type, _ in extensions]
    if len(set(types)) != len(types):
        raise reader.error("has an extension twice, each type may come once")
    aead = next((aead for kdf, aead in suites if kdf == HKDF_SHA256 and aead in AEADS), None)
    if aead is None or kem not in KEMS or not _is_host_name(name) or any(kind & MANDATORY for kind in types):
        return None
    return EchConfig(data, config_id, kem, public_key, aead, maximum_name_length, name.decode("ascii"))


def _is_host_name(name: bytes) -> bool:
    """RFC 9849 §6.1.7: LDH labels, the last of which no reader can take for a part of an IPv4 address."""
    labels = name.decode("latin-1").split(".")
    return all(LABEL.fullmatch(label) for label in labels) and NUMBER.fullmatch(labels[-1]) is None

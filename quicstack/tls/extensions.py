"""Extensions (RFC 8446 §4.2): the table of where each may appear, and a reader and a writer for each body.

Types that are not in the table are ignored in what a client, or a NewSessionTicket, offers: RFC 8701 makes sure that
there are some. In an answer they are unsolicited, and fatal.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.messages import Extensions
from quicstack.tls.presentation import Reader, number, numbers, vector

__all__ = [
    "TLS_1_3",
    "ExtensionType",
    "OfferedPsks",
    "check_extensions",
    "extension_name",
    "read_alpn",
    "read_code_points",
    "read_compression_algorithms",
    "read_cookie",
    "read_key_share_entries",
    "read_key_share_entry",
    "read_number",
    "read_pre_shared_key",
    "read_server_name",
    "read_supported_versions",
    "required",
    "write_alpn",
    "write_code_points",
    "write_compression_algorithms",
    "write_key_share_entries",
    "write_key_share_entry",
    "write_server_name",
    "write_supported_versions",
]

TLS_1_3 = 0x0304


class ExtensionType(IntEnum):
    """The IANA registry, as far as RFC 8446 §4.2 and what browsers send to QUIC servers go."""

    SERVER_NAME = 0
    MAX_FRAGMENT_LENGTH = 1
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    USE_SRTP = 14
    HEARTBEAT = 15
    ALPN = 16
    SIGNED_CERTIFICATE_TIMESTAMP = 18
    CLIENT_CERTIFICATE_TYPE = 19
    SERVER_CERTIFICATE_TYPE = 20
    PADDING = 21
    COMPRESS_CERTIFICATE = 27
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    OID_FILTERS = 48
    POST_HANDSHAKE_AUTH = 49
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51
    QUIC_TRANSPORT_PARAMETERS = 57
    ALPS = 17613
    ENCRYPTED_CLIENT_HELLO = 0xFE0D


E = ExtensionType
WHERE: dict[int, frozenset[str]] = {
    E.SERVER_NAME: frozenset({"CH", "EE"}),
    E.MAX_FRAGMENT_LENGTH: frozenset({"CH", "EE"}),
    E.STATUS_REQUEST: frozenset({"CH", "CR", "CT"}),
    E.SUPPORTED_GROUPS: frozenset({"CH", "EE"}),
    E.SIGNATURE_ALGORITHMS: frozenset({"CH", "CR"}),
    E.USE_SRTP: frozenset({"CH", "EE"}),
    E.HEARTBEAT: frozenset({"CH", "EE"}),
    E.ALPN: frozenset({"CH", "EE"}),
    E.SIGNED_CERTIFICATE_TIMESTAMP: frozenset({"CH", "CR", "CT"}),
    E.CLIENT_CERTIFICATE_TYPE: frozenset({"CH", "EE"}),
    E.SERVER_CERTIFICATE_TYPE: frozenset({"CH", "EE"}),
    E.PADDING: frozenset({"CH"}),
    E.COMPRESS_CERTIFICATE: frozenset({"CH", "CR"}),
    E.PRE_SHARED_KEY: frozenset({"CH", "SH"}),
    E.EARLY_DATA: frozenset({"CH", "EE", "NST"}),
    E.SUPPORTED_VERSIONS: frozenset({"CH", "SH", "HRR"}),
    E.COOKIE: frozenset({"CH", "HRR"}),
    E.PSK_KEY_EXCHANGE_MODES: frozenset({"CH"}),
    E.CERTIFICATE_AUTHORITIES: frozenset({"CH", "CR"}),
    E.OID_FILTERS: frozenset({"CR"}),
    E.POST_HANDSHAKE_AUTH: frozenset({"CH"}),
    E.SIGNATURE_ALGORITHMS_CERT: frozenset({"CH", "CR"}),
    E.KEY_SHARE: frozenset({"CH", "SH", "HRR"}),
    E.QUIC_TRANSPORT_PARAMETERS: frozenset({"CH", "EE"}),
    E.ALPS: frozenset({"CH", "EE"}),
    E.ENCRYPTED_CLIENT_HELLO: frozenset({"CH", "EE", "HRR"}),
}
"""RFC 8446 §4.2, with RFC 8879 §3, RFC 9001 §8.2 and RFC 9849 §5 added. The messages are abbreviated as there."""

MESSAGES = {
    "CH": "ClientHello",
    "SH": "ServerHello",
    "HRR": "HelloRetryRequest",
    "EE": "EncryptedExtensions",
    "CT": "Certificate",
    "CR": "CertificateRequest",
    "NST": "NewSessionTicket",
}


def extension_name(extension_type: int) -> str:
    try:
        return ExtensionType(extension_type).name.lower()
    except ValueError:
        return f"extension {extension_type:#06x}"


def check_extensions(message: str, extensions: Iterable[int], offered: Container[int] | None = None) -> None:
    """RFC 8446 §4.2: each type in a message where it belongs, and none in an answer that was not ``offered``."""
    for extension_type in extensions:
        where = WHERE.get(extension_type)
        if where is not None and message not in where:
            belongs = " or ".join(name for key, name in MESSAGES.items() if key in where)
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                f"{MESSAGES[message]} carries {extension_name(extension_type)}, which belongs in {belongs}",
            )
        if offered is not None and extension_type not in offered and extension_type != ExtensionType.COOKIE:
            raise tls_error(
                Alert.UNSUPPORTED_EXTENSION,
                f"{MESSAGES[message]} carries {extension_name(extension_type)}, which we did not offer",
            )


def required(message: str, extensions: Extensions, extension_type: ExtensionType) -> bytes:
    """The body of an extension that must be there (RFC 8446 §9.2)."""
    if extension_type not in extensions:
        raise tls_error(
            Alert.MISSING_EXTENSION, f"{MESSAGES[message]} has no {extension_name(extension_type)}, which is required"
        )
    return extensions[extension_type]


def read_code_points(body: bytes, what: ExtensionType) -> tuple[int, ...]:
    """supported_groups (RFC 8446 §4.2.7) and signature_algorithms (§4.2.3)."""
    reader = Reader(body, extension_name(what))
    values = reader.numbers(2)
    reader.finish()
    return values


def write_code_points(values: Sequence[int]) -> bytes:
    return numbers(2, values)


def read_number(body: bytes, size: int, what: ExtensionType) -> int:
    """An extension of one number: selected_version, selected_group, selected_identity, max_early_data_size."""
    reader = Reader(body, extension_name(what))
    value = reader.number(size)
    reader.finish()
    return value


def read_supported_versions(body: bytes) -> tuple[int, ...]:
    """RFC 8446 §4.2.1, in a ClientHello."""
    reader = Reader(body, "supported_versions")
    versions = reader.numbers(1)
    reader.finish()
    return versions


def write_supported_versions(versions: Sequence[int]) -> bytes:
    return numbers(1, versions)


def read_compression_algorithms(body: bytes) -> tuple[int, ...]:
    """compress_certificate (RFC 8879 §3)."""
    reader = Reader(body, "compress_certificate")
    algorithms = reader.numbers(1)
    reader.finish()
    return algorithms


def write_compression_algorithms(algorithms: Sequence[int]) -> bytes:
    return numbers(1, algorithms)


def read_server_name(body: bytes) -> str | None:
    """RFC 6066 §3, in a ClientHello: the host_name, None if only names of other types are given."""
    reader = Reader(body, "server_name")
    names: dict[int, bytes] = {}
    for item in reader.items(2, 1):
        name_type = item.number(1)
        if name_type in names:
            raise tls_error(Alert.ILLEGAL_PARAMETER, f"server_name has two names of type {name_type}, one expected")
        names[name_type] = item.vector(2, 1)
    reader.finish()
    if 0 not in names:
        return None
    try:
        return names[0].decode("ascii")
    except UnicodeDecodeError:
        raise tls_error(Alert.ILLEGAL_PARAMETER, "server_name holds a host name that is not ASCII") from None


def write_server_name(host: str) -> bytes:
    return vector(2, b"\x00" + vector(2, host.encode("ascii")))


def read_alpn(body: bytes) -> tuple[bytes, ...]:
    """RFC 7301 §3.1: in EncryptedExtensions the list has exactly one entry, which the caller checks."""
    reader = Reader(body, "application_layer_protocol_negotiation")
    protocols = tuple(item.vector(1, 1) for item in reader.items(2, 2))
    reader.finish()
    return protocols


def write_alpn(protocols: Iterable[bytes]) -> bytes:
    return vector(2, b"".join(vector(1, protocol) for protocol in protocols))


def read_cookie(body: bytes) -> bytes:
    """RFC 8446 §4.2.2. The echo is the same body again, so nothing needs to write one."""
    reader = Reader(body, "cookie")
    cookie = reader.vector(2, 1)
    reader.finish()
    return cookie


def read_key_share_entries(body: bytes) -> dict[int, bytes]:
    """RFC 8446 §4.2.8, in a ClientHello: group to key_exchange, each group once, possibly none."""
    reader = Reader(body, "key_share")
    shares: dict[int, bytes] = {}
    for item in reader.items(2):
        group = item.number(2)
        if group in shares:
            raise tls_error(Alert.ILLEGAL_PARAMETER, f"key_share has two shares for group {group:#06x}, one expected")
        shares[group] = item.vector(2, 1)
    reader.finish()
    return shares


def write_key_share_entries(shares: dict[int, bytes]) -> bytes:
    return vector(2, b"".join(write_key_share_entry(group, share) for group, share in shares.items()))


def read_key_share_entry(body: bytes) -> tuple[int, bytes]:
    """RFC 8446 §4.2.8, in a ServerHello."""
    reader = Reader(body, "key_share")
    group, share = reader.number(2), reader.vector(2, 1)
    reader.finish()
    return group, share


def write_key_share_entry(group: int, share: bytes) -> bytes:
    return number(group, 2) + vector(2, share)


@dataclass(slots=True)
class OfferedPsks:
    """RFC 8446 §4.2.11: identities as (identity, obfuscated_ticket_age), and a binder for each."""

    identities: tuple[tuple[bytes, int], ...]
    binders: tuple[bytes, ...]


def read_pre_shared_key(body: bytes) -> OfferedPsks:
    reader = Reader(body, "pre_shared_key")
    identities = tuple((item.vector(2, 1), item.number(4)) for item in reader.items(2, 7))
    binders = tuple(item.vector(1, 32) for item in reader.items(2, 33))
    reader.finish()
    if len(identities) != len(binders):
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"pre_shared_key has {len(identities)} identities and {len(binders)} binders, one binder each expected",
        )
    return OfferedPsks(identities, binders)

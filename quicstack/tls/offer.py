"""What a server reads in a ClientHello (RFC 8446 §4.1.2, §4.2, §9.2; RFC 9001 §8), and what a second one may change."""

from __future__ import annotations

from dataclasses import dataclass

from quicstack.errors import TransportError, TransportErrorCode
from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.extensions import (
    TLS_1_3,
    ExtensionType,
    OfferedPsks,
    check_extensions,
    read_alpn,
    read_code_points,
    read_compression_algorithms,
    read_key_share_entries,
    read_pre_shared_key,
    read_server_name,
    read_supported_versions,
    required,
)
from quicstack.tls.groups import group_name
from quicstack.tls.handshake import Message
from quicstack.tls.messages import ClientHello, Extensions
from quicstack.tls.psk import read_psk_modes

__all__ = ["Offer", "check_second_offer", "read_offer"]


@dataclass(slots=True)
class Offer:
    """A ClientHello that is well formed, with the extensions that decide the handshake taken apart."""

    hello: ClientHello
    groups: tuple[int, ...]
    shares: dict[int, bytes]
    signature_schemes: tuple[int, ...]
    certificate_compression: tuple[int, ...]
    alpn_protocols: tuple[bytes, ...]
    server_name: str | None
    transport_parameters: bytes
    psks: OfferedPsks | None
    psk_modes: bytes
    early_data: bool
    data: bytes
    """The whole message."""


def read_offer(message: Message) -> Offer:
    """Check a ClientHello by itself: RFC 8446 §4.1.2, §4.2, §9.2, RFC 9001 §8."""
    hello = ClientHello.read(message.body)
    extensions = hello.extensions
    versions = read_supported_versions(extensions.get(ExtensionType.SUPPORTED_VERSIONS, b"\x02\x03\x03"))
    if TLS_1_3 not in versions:
        spelled = ", ".join(f"{version:#06x}" for version in versions)
        raise tls_error(Alert.PROTOCOL_VERSION, f"ClientHello offers the TLS versions {spelled}, expected 0x0304")
    if hello.legacy_session_id:
        raise TransportError(
            TransportErrorCode.PROTOCOL_VIOLATION,
            "ClientHello has a legacy_session_id, expected an empty one: QUIC has no middlebox compatibility mode "
            "(RFC 9001 §8.4)",
        )
    if hello.legacy_compression_methods != b"\x00":
        methods = hello.legacy_compression_methods.hex()
        raise tls_error(Alert.ILLEGAL_PARAMETER, f"ClientHello has compression methods {methods}, expected only 00")
    check_extensions("CH", extensions)
    psks = _read_psks(extensions)
    signature_schemes = required("CH", extensions, ExtensionType.SIGNATURE_ALGORITHMS)
    groups = read_code_points(
        required("CH", extensions, ExtensionType.SUPPORTED_GROUPS), ExtensionType.SUPPORTED_GROUPS
    )
    shares = read_key_share_entries(required("CH", extensions, ExtensionType.KEY_SHARE))
    for group in shares:
        if group not in groups:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER,
                f"key_share has a share of {group_name(group)}, expected only groups of supported_groups",
            )
    transport_parameters = required("CH", extensions, ExtensionType.QUIC_TRANSPORT_PARAMETERS)
    compression = extensions.get(ExtensionType.COMPRESS_CERTIFICATE)
    modes = extensions.get(ExtensionType.PSK_KEY_EXCHANGE_MODES)
    early = extensions.get(ExtensionType.EARLY_DATA)
    if early:
        raise tls_error(Alert.DECODE_ERROR, "early_data in ClientHello has content, expected none")
    alpn, server_name = extensions.get(ExtensionType.ALPN), extensions.get(ExtensionType.SERVER_NAME)
    return Offer(
        hello=hello,
        groups=groups,
        shares=shares,
        signature_schemes=read_code_points(signature_schemes, ExtensionType.SIGNATURE_ALGORITHMS),
        certificate_compression=() if compression is None else read_compression_algorithms(compression),
        alpn_protocols=() if alpn is None else read_alpn(alpn),
        server_name=None if server_name is None else read_server_name(server_name),
        transport_parameters=transport_parameters,
        psks=psks,
        psk_modes=b"" if modes is None else read_psk_modes(modes),
        early_data=early is not None,
        data=message.data,
    )


def _read_psks(extensions: Extensions) -> OfferedPsks | None:
    """RFC 8446 §4.2.9, §4.2.11: a broken offer is refused, whether we would take it or not."""
    if ExtensionType.PRE_SHARED_KEY not in extensions:
        return None
    if list(extensions)[-1] != ExtensionType.PRE_SHARED_KEY:
        raise tls_error(Alert.ILLEGAL_PARAMETER, "pre_shared_key is not the last extension of ClientHello")
    required("CH", extensions, ExtensionType.PSK_KEY_EXCHANGE_MODES)
    return read_pre_shared_key(extensions[ExtensionType.PRE_SHARED_KEY])


def check_second_offer(first: Offer, second: Offer, group: int) -> None:
    """RFC 8446 §4.1.2: after a HelloRetryRequest the ClientHello is the same, with the share that was asked for."""
    if list(second.shares) != [group]:
        sent = ", ".join(map(group_name, second.shares)) or "none"
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"the second ClientHello has key shares of {sent}, expected exactly {group_name(group)}",
        )
    for what, before, after in (
        ("random", first.hello.random, second.hello.random),
        ("cipher_suites", first.hello.cipher_suites, second.hello.cipher_suites),
        ("supported_groups", first.groups, second.groups),
        ("signature_algorithms", first.signature_schemes, second.signature_schemes),
        ("compress_certificate", first.certificate_compression, second.certificate_compression),
        ("ALPN", first.alpn_protocols, second.alpn_protocols),
        ("server_name", first.server_name, second.server_name),
    ):
        if before != after:
            raise tls_error(
                Alert.ILLEGAL_PARAMETER, f"the second ClientHello has another {what} than the first, expected the same"
            )

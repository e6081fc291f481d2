"""What a client checks in the server's first answers: ServerHello (RFC 8446 §4.1.3), and the ALPN protocol chosen."""

from __future__ import annotations

from quicstack.tls.alerts import Alert, tls_error
from quicstack.tls.extensions import TLS_1_3, ExtensionType, check_extensions, read_alpn, read_number
from quicstack.tls.messages import LEGACY_VERSION, ClientHello, Extensions, ServerHello

__all__ = ["check_server_hello", "selected_alpn"]


def check_server_hello(server_hello: ServerHello, hello: ClientHello) -> None:
    """RFC 8446 §4.1.3, §4.2.1: what holds for a ServerHello and for a HelloRetryRequest."""
    kind = "HRR" if server_hello.is_hello_retry_request else "SH"
    extensions = server_hello.extensions
    if ExtensionType.SUPPORTED_VERSIONS not in extensions:
        raise tls_error(Alert.PROTOCOL_VERSION, "the server chose TLS 1.2 or older, expected TLS 1.3 (RFC 9001 §4.2)")
    version = read_number(extensions[ExtensionType.SUPPORTED_VERSIONS], 2, ExtensionType.SUPPORTED_VERSIONS)
    check_extensions(kind, extensions, hello.extensions)
    for field, value, expected in (
        ("selected_version", version, TLS_1_3),
        ("legacy_version", server_hello.legacy_version, LEGACY_VERSION),
        ("legacy_session_id_echo", server_hello.legacy_session_id_echo, hello.legacy_session_id),
        ("legacy_compression_method", server_hello.legacy_compression_method, 0),
    ):
        if value != expected:
            raise tls_error(Alert.ILLEGAL_PARAMETER, f"ServerHello has {field} {value!r}, expected {expected!r}")
    if server_hello.cipher_suite not in hello.cipher_suites:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER,
            f"ServerHello chose cipher suite {server_hello.cipher_suite:#06x}, expected one of "
            f"{', '.join(f'{suite:#06x}' for suite in hello.cipher_suites)}, which we offered",
        )


def selected_alpn(extensions: Extensions, offered: tuple[str, ...]) -> str:
    """RFC 9001 §8.1: without a common application protocol there is no connection."""
    if ExtensionType.ALPN not in extensions:
        raise tls_error(Alert.NO_APPLICATION_PROTOCOL, f"the server chose no ALPN protocol, expected one of {offered}")
    protocols = read_alpn(extensions[ExtensionType.ALPN])
    if len(protocols) != 1:
        raise tls_error(
            Alert.ILLEGAL_PARAMETER, f"EncryptedExtensions has {len(protocols)} ALPN protocols, expected one"
        )
    for protocol in offered:
        if protocol.encode() == protocols[0]:
            return protocol
    raise tls_error(
        Alert.NO_APPLICATION_PROTOCOL,
        f"the server chose the ALPN protocol {protocols[0]!r}, expected one of {offered}",
    )

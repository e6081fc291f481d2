"""What a handshake needs to know beforehand: one frozen record for either side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from quicstack.errors import ConfigurationError, TransportError
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.compression import algorithm_name, available_compression
from quicstack.tls.ech_config import read_ech_config_list
from quicstack.tls.groups import available_groups, group_name
from quicstack.tls.key_schedule import CIPHER_SUITES
from quicstack.tls.server_name import ascii_name, parse_ip
from quicstack.tls.signatures import OFFERED_SCHEMES, scheme_name
from quicstack.tls.trust import Trust

__all__ = ["ClientAuthentication", "TlsSettings"]

ClientAuthentication: TypeAlias = Literal["none", "optional", "required"]
"""Whether a server asks for a client's certificate, and whether it does without."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Both sides: protocols, suites and groups, best first. The client's choice is an offer, the server's decides.

    ``server_name`` (client) is sent as SNI unless it is an IP address, and the certificate must cover it.
    ``certificates`` is what a server shows. ``certificate_compression`` are the algorithms of RFC 8879, best first, in
    which certificates may be sent and received; none is fine. ``keylog`` is called with one line of the key log format
    at a time (RFC 9850), without newline.

    ``client_certificate`` is what a client shows to a server that asks. A server asks if ``client_authentication`` says
    so, and believes those that ``client_trust`` accepts; any other certificate is refused even where it is optional.

    ``early_data``: a client sends application data with its ClientHello when a session allows that, a server takes it.
    ``session_tickets`` is how many tickets a server gives each client.

    With ``ech_config_list`` a client encrypts its ClientHello (RFC 9849); without one that it can use it sends random
    bytes in that place if ``ech_grease`` says so.
    """

    alpn_protocols: tuple[str, ...]
    server_name: str | None = None
    cipher_suites: tuple[int, ...] = tuple(CIPHER_SUITES)
    groups: tuple[int, ...] = available_groups()
    signature_schemes: tuple[int, ...] = OFFERED_SCHEMES
    trust: Trust = field(default_factory=Trust.system)
    certificates: CertificateStore | None = None
    client_certificate: CertificateKey | None = None
    client_authentication: ClientAuthentication = "none"
    client_trust: Trust | None = None
    certificate_compression: tuple[int, ...] = available_compression()
    keylog: Callable[[str], None] | None = field(default=None, compare=False)
    early_data: bool = False
    session_tickets: int = 2
    ech_config_list: bytes | None = None
    ech_grease: bool = False

    def __post_init__(self) -> None:
        if not self.alpn_protocols:
            raise ConfigurationError("alpn_protocols is empty: QUIC needs an application protocol, such as 'h3'")
        for protocol in self.alpn_protocols:
            if not 1 <= len(protocol.encode()) <= 255:
                raise ConfigurationError(f"alpn_protocols: {protocol!r} must be 1 to 255 bytes long")
        known = {
            "cipher_suites": (self.cipher_suites, CIPHER_SUITES, "{:#06x}".format),
            "groups": (self.groups, available_groups(), group_name),
            "signature_schemes": (self.signature_schemes, OFFERED_SCHEMES, scheme_name),
            "certificate_compression": (self.certificate_compression, available_compression(), algorithm_name),
        }
        for name, (values, allowed, spell) in known.items():
            if not (values or name == "certificate_compression") or not set(values) <= set(allowed):
                unknown = [value for value in values if value not in allowed]
                choice = ", ".join(map(spell, allowed))
                what = f"{', '.join(map(spell, unknown))} cannot be used here" if unknown else "is empty"
                raise ConfigurationError(f"{name}: {what}; choose from {choice}")
        if self.client_authentication not in get_args(ClientAuthentication):
            choice = ", ".join(map(repr, get_args(ClientAuthentication)))
            raise ConfigurationError(f"client_authentication is {self.client_authentication!r}: choose from {choice}")
        if (self.client_authentication == "none") != (self.client_trust is None):
            missing = "client_trust" if self.client_trust is None else "client_authentication"
            raise ConfigurationError(f"client_authentication and client_trust need each other: set {missing}")
        if self.ech_config_list is not None:
            try:
                read_ech_config_list(self.ech_config_list)
            except TransportError as error:
                raise ConfigurationError(f"ech_config_list: {error.reason}") from None
        if self.server_name is not None and parse_ip(self.server_name) is None:
            ascii_name(self.server_name)

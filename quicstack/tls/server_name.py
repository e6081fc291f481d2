"""Names of servers: what may go into SNI (RFC 6066 §3), and which certificate a name fits (RFC 6125 §6.4, RFC 2818)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from cryptography import x509

from quicstack.errors import ConfigurationError

__all__ = ["ascii_name", "is_covered_by", "parse_ip"]


def parse_ip(name: str) -> IPv4Address | IPv6Address | None:
    """The address that ``name`` spells, without IPv6 zone; None for a host name."""
    try:
        return ip_address(name.strip("[]").partition("%")[0])
    except ValueError:
        return None


def ascii_name(name: str) -> str:
    """A host name as the DNS and TLS carry it: A-labels, no trailing dot (RFC 6066 §3).

    Uses Python's own ``idna`` codec, as name resolution in the socket module does, so that the name asked of the DNS
    is the name that the certificate must show.
    """
    host = name.rstrip(".")
    try:
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise ConfigurationError(f"server_name {name!r} is not a host name: {error}") from None
    if not host or len(host) > 253 or any(char <= " " or char == "\x7f" for char in host):
        raise ConfigurationError(f"server_name {name!r} is not a host name")
    return host.lower()


def is_covered_by(san: x509.SubjectAlternativeName, name: str) -> bool:
    """Whether subjectAltName covers ``name``. The common name is never looked at."""
    address = parse_ip(name)
    if address is not None:
        return address in san.get_values_for_type(x509.IPAddress)
    host = ascii_name(name)
    return any(_matches(pattern, host) for pattern in san.get_values_for_type(x509.DNSName))


def _matches(pattern: str, host: str) -> bool:
    """RFC 6125 §6.4.3: a wildcard stands alone as the leftmost label, for one label, below a name of two or more."""
    pattern = pattern.lower().rstrip(".")
    if not pattern.startswith("*."):
        return pattern == host
    label, _, parent = host.partition(".")
    return bool(label) and "." in parent and pattern[2:] == parent

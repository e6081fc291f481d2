from __future__ import annotations

import pytest
from cryptography import x509

from quicstack.errors import ConfigurationError
from quicstack.tls.server_name import ascii_name, is_covered_by, parse_ip


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("localhost", None),
        ("1.2.3", None),
        ("", None),
    ],
)
def test_parse_ip(name: str, address: str | None) -> None:
    found = parse_ip(name)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize(
    ("name", "ascii"),
    [("Example.ORG", "example.org"), ("example.org.", "example.org"), ("bücher.example", "xn--bcher-kva.example")],
)
def test_ascii_name(name: str, ascii: str) -> None:
    assert ascii_name(name) == ascii


@pytest.mark.parametrize("name", ["", ".", "a b", "a\x00b", "ü" * 70, "a" * 254])
def test_what_is_no_host_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a host name"):
        ascii_name(name)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("example.org", "EXAMPLE.org", True),
        ("Example.Org", "example.org.", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "a.b.example.org", False),
        ("a*.example.org", "ab.example.org", False),
        ("*", "localhost", False),
        ("*.org", "example.org", False),
        ("example.org", "badexample.org", False),
        ("xn--bcher-kva.example", "bücher.example", True),
    ],
)
def test_dns_names(pattern: str, name: str, covered: bool) -> None:
    """RFC 6125 §6.4.3."""
    assert is_covered_by(x509.SubjectAlternativeName([x509.DNSName(pattern)]), name) is covered


def test_addresses() -> None:
    san = x509.SubjectAlternativeName([x509.DNSName("192.0.2.1"), x509.IPAddress(parse_ip("2001:db8::1"))])  # type: ignore[arg-type]
    assert is_covered_by(san, "2001:db8:0::1")
    assert is_covered_by(san, "[2001:db8::1]")
    assert not is_covered_by(san, "192.0.2.1")

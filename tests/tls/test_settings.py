from __future__ import annotations

from typing import Any

import pytest

from quicstack.errors import ConfigurationError
from quicstack.tls.groups import available_groups
from quicstack.tls.settings import TlsSettings
from quicstack.tls.trust import Trust


def test_defaults() -> None:
    settings = TlsSettings(("h3",))
    assert settings.cipher_suites == (0x1301, 0x1302, 0x1303)
    assert settings.groups == available_groups()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpn_protocols": ()}, "alpn_protocols is empty"),
        ({"alpn_protocols": ("",)}, "must be 1 to 255 bytes"),
        ({"alpn_protocols": ("x" * 256,)}, "must be 1 to 255 bytes"),
        ({"cipher_suites": (0x1301, 0x1305)}, "cipher_suites: 0x1305 cannot be used here"),
        ({"cipher_suites": ()}, "cipher_suites: is empty"),
        ({"groups": (0x1E,)}, "groups: 0x001e cannot be used here; choose from"),
        ({"signature_schemes": (0x0201,)}, "signature_schemes: 0x0201 cannot be used"),
        ({"certificate_compression": (7,)}, "certificate_compression: compression algorithm 0x0007 cannot be used"),
        (
            {"client_authentication": "always"},
            "client_authentication is 'always': choose from 'none', 'optional', 'req",
        ),
        ({"client_authentication": "optional"}, "need each other: set client_trust"),
        ({"client_trust": Trust.insecure()}, "need each other: set client_authentication"),
        ({"server_name": "no host"}, "is not a host name"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TlsSettings(**({"alpn_protocols": ("h3",)} | changes))


@pytest.mark.parametrize("name", ["localhost", "192.0.2.1", "[::1]", "fe80::1%eth0", None])
def test_server_names(name: str | None) -> None:
    assert TlsSettings(("h3",), server_name=name).server_name == name

"""Configurations to begin with."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding

from quicstack.recovery.congestion.newreno import NewReno
from quicstack.simulator import VIRTUAL_EPOCH, configurations, identity


def test_an_identity_is_the_same_every_time_and_valid_in_virtual_time() -> None:
    (certificate,) = identity("somewhere.test").certificates
    identity.cache_clear()
    (again,) = identity("somewhere.test").certificates
    assert again.public_bytes(Encoding.DER) == certificate.public_bytes(Encoding.DER)
    assert certificate != identity("elsewhere.test").certificates[0]
    begin = datetime.fromtimestamp(VIRTUAL_EPOCH, UTC)
    assert certificate.not_valid_before_utc < begin < certificate.not_valid_after_utc


def test_settings_are_for_both() -> None:
    client, server = configurations(congestion_controller=NewReno, alpn_protocols=("x",))
    assert client.congestion_controller is NewReno is server.congestion_controller
    assert client.alpn_protocols == ("x",) == server.alpn_protocols
    assert client.certificates is None
    assert server.certificates is not None

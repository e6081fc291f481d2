from __future__ import annotations

import pytest

from quicstack.drivers.preferences import preferred_options, prefers_datagram_endpoint
from quicstack.drivers.udp import UdpOptions


def test_nothing_asked() -> None:
    assert preferred_options({}) == UdpOptions()
    assert not prefers_datagram_endpoint({})


@pytest.mark.parametrize("feature", ["gso", "gro", "ecn"])
def test_a_feature_switched_off(feature: str) -> None:
    options = preferred_options({f"QUICSTACK_{feature.upper()}": "0"})
    assert not getattr(options, feature)
    assert [options.gso, options.gro, options.ecn].count(True) == 2


def test_datagram_endpoints() -> None:
    assert prefers_datagram_endpoint({"QUICSTACK_DRIVER": "datagram"})

"""What the environment asks of the drivers, where the program leaves it open.

``QUICSTACK_GSO=0``, ``QUICSTACK_GRO=0`` and ``QUICSTACK_ECN=0`` switch a feature of the sockets off;
``QUICSTACK_DRIVER=datagram`` takes datagram endpoints of asyncio instead of sockets of our own. They are there to find
out what goes wrong on a machine, and for tests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from quicstack.drivers.udp import UdpOptions

__all__ = ["preferred_options", "prefers_datagram_endpoint"]


def preferred_options(environ: Mapping[str, str] = os.environ) -> UdpOptions:
    """The default options, less what the environment switches off."""
    return UdpOptions(
        gso=environ.get("QUICSTACK_GSO") != "0",
        gro=environ.get("QUICSTACK_GRO") != "0",
        ecn=environ.get("QUICSTACK_ECN") != "0",
    )


def prefers_datagram_endpoint(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment asks for datagram endpoints."""
    return environ.get("QUICSTACK_DRIVER") == "datagram"

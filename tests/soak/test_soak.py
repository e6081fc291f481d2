"""The soak in small: fifty connections for half an hour of virtual time, in which half a day of faults happens."""

from __future__ import annotations

import pytest
from soak import FLATNESS, Soak


@pytest.mark.slow
def test_half_an_hour_of_fifty_connections() -> None:
    soak = Soak(connections=50, seconds=1800.0, seed=2, pause=8.0, hurry=1 / 24)
    soak.run(every=120.0)
    assert soak.growth()[0] < FLATNESS
    errands, causes = soak.errands(), soak.causes()
    for name in ("echo", "reset_at", "turn_away", "keys updated", "migration moved", "vanish"):
        assert errands[name] > 20, f"{name}: {errands}"
    assert causes["silence"] and causes["closed by the server"]
    assert sum(nat.rebindings for nat in soak.nats) > 10

"""The two things the engine asks of the world, besides datagrams: randomness and the date.

Everything below the drivers takes them from here, so a seeded simulation puts the same bytes on the wire every time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Environment"]


@dataclass(frozen=True, slots=True)
class Environment:
    """``random(n)`` gives n unpredictable bytes, ``wall_time()`` seconds since the Unix epoch (for certificates).

    ``simulation=True`` says that the randomness is seeded: timers may be exact, and nothing sent is secret.
    """

    random: Callable[[int], bytes]
    wall_time: Callable[[], float]
    simulation: bool = False

"""What an attack costs, in numbers that are the same each time: bytes of our structures, and calls, not seconds."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from enum import Enum
from types import FrameType
from typing import Any

from quicstack.config import Configuration
from quicstack.connection.connection import Connection
from quicstack.endpoint import Endpoint

CONTAINERS = (list, tuple, set, frozenset, deque)
LEAVES = (int, float, str, bytes, bytearray, bool, type(None))


def size_of(root: object) -> int:
    """Bytes of ``root`` and of everything of ours, and every container, that can be reached from it.

    Neither the configuration counts, nor what a closure refers to, nor anybody else's objects.
    """
    seen: set[int] = set()
    waiting: list[object] = [root]
    total = 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | Enum | Configuration):
            continue
        if isinstance(item, Connection | Endpoint) and item is not root and not isinstance(root, Endpoint):
            continue
        module = type(item).__module__
        if isinstance(item, LEAVES):
            seen.add(id(item))
            total += sys.getsizeof(item)
            continue
        is_ours = module.split(".")[0] == "quicstack"
        if not is_ours and not isinstance(item, (dict, *CONTAINERS)):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, CONTAINERS):
            waiting += item
        if is_ours:
            waiting += _fields(item)
    return total


def _fields(item: object) -> list[object]:
    fields = list(getattr(item, "__dict__", {}).values())
    for kind in type(item).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        fields += [getattr(item, _mangled(kind, name)) for name in slots if hasattr(item, _mangled(kind, name))]
    return fields


def _mangled(kind: type, name: str) -> str:
    is_private = name.startswith("__") and not name.endswith("__")
    return f"_{kind.__name__.lstrip('_')}{name}" if is_private else name


def calls(action: Callable[[], object], named: str | None = None) -> int:
    """Calls of Python and C functions while ``action`` runs; only of those ``named`` so, if a name is given."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event == "call":
            count += named is None or frame.f_code.co_name == named
        elif event == "c_call":
            count += named is None or getattr(argument, "__name__", "") == named

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count

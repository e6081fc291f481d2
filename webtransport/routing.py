"""Paths to handlers: ``/chat`` exactly, or ``/chat/{room}`` with a name for a whole segment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote

from quicstack.errors import ConfigurationError

__all__ = ["Match", "Router"]

Target = TypeVar("Target")

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Match(Generic[Target]):
    """The handler of a path, and what its named segments are in this request."""

    target: Target
    parameters: dict[str, str]


class Router(Generic[Target]):
    """Exact paths first, then patterns in the order in which they were added."""

    def __init__(self) -> None:
        self._exact: dict[str, Target] = {}
        self._patterns: list[tuple[re.Pattern[str], Target]] = []

    def add(self, path: str, target: Target) -> None:
        """Send ``path`` to ``target``. A path is added once."""
        if not path.startswith("/"):
            raise ConfigurationError(f"a route starts with a slash, so it is not {path!r}")
        if "{" not in path and "}" not in path:
            if path in self._exact:
                raise ConfigurationError(f"there is a handler for {path!r} already")
            self._exact[path] = target
            return
        pattern = _compile(path)
        if any(pattern.pattern == known.pattern for known, _ in self._patterns):
            raise ConfigurationError(f"there is a handler for {path!r} already")
        self._patterns.append((pattern, target))

    def match(self, request_target: str) -> Match[Target] | None:
        """The handler for a ``:path`` (a query does not matter), or None."""
        path = request_target.partition("?")[0].partition("#")[0]
        if path in self._exact:
            return Match(self._exact[path], {})
        for pattern, target in self._patterns:
            if found := pattern.fullmatch(path):
                return Match(target, {name: unquote(value) for name, value in found.groupdict().items()})
        return None


def _compile(path: str) -> re.Pattern[str]:
    pattern, at, names = "", 0, set()
    for parameter in _PARAMETER.finditer(path):
        if parameter[1] in names:
            raise ConfigurationError(f"{path!r} has two segments called {parameter[1]!r}")
        names.add(parameter[1])
        pattern += re.escape(path[at : parameter.start()]) + f"(?P<{parameter[1]}>[^/]+)"
        at = parameter.end()
    rest = path[at:]
    if not names or "{" in rest or "}" in rest or "}" in re.sub(_PARAMETER, "", path):
        raise ConfigurationError(f"a named segment of a route is written {{name}}: {path!r}")
    return re.compile(pattern + re.escape(rest))

"""Prints our dependencies pinned to the lowest version that ``pyproject.toml`` allows, for ``make test-lowest``."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

if __name__ == "__main__":
    print(*(requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]))

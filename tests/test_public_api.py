"""docs/public-api.md is the list of what is public; the code has to agree with it."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

import quicstack

ROOT = Path(__file__).parents[1]


def written_list() -> dict[str, list[str]]:
    """``## `module` `` headings, and the first name in each ``- `name` `` line below one."""
    listed: dict[str, list[str]] = {}
    for heading, name in re.findall(
        r"^## `([\w.]+)`|^- `(\w+)", (ROOT / "docs/public-api.md").read_text(), re.MULTILINE
    ):
        if heading:
            listed[heading] = []
        else:
            listed[list(listed)[-1]].append(name)
    return listed


@pytest.mark.parametrize("module", written_list())
def test_the_list_agrees_with_the_code(module: str) -> None:
    names = written_list()[module]
    assert names == sorted(names, key=str.lower), "keep the list in alphabetical order"
    public = importlib.import_module(module).__all__
    assert set(names) == set(public)
    assert len(names) == len(set(names)) == len(public)


@pytest.mark.parametrize("module", written_list())
def test_every_name_exists_and_is_documented(module: str) -> None:
    imported = importlib.import_module(module)
    undocumented = [
        name
        for name in imported.__all__
        if (inspect.isclass(value := getattr(imported, name)) or inspect.isroutine(value)) and not value.__doc__
    ]
    assert not undocumented


def test_one_version() -> None:
    assert importlib.metadata.version("quicstack") == quicstack.__version__
    assert f"## {quicstack.__version__}" in (ROOT / "CHANGELOG.md").read_text()

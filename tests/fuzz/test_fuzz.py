"""The corpus of each target again, and a minute of fuzzing where atheris is there."""

from __future__ import annotations

import sys

import pytest
from fuzz import fuzz
from targets import CORPUS, GROUPS, TARGETS, read_corpus

READERS = {**GROUPS["readers"], **GROUPS["upper"]}


def test_every_target_has_a_corpus() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 300_000


@pytest.mark.parametrize("name", READERS)
def test_the_corpus_of_a_reader(name: str) -> None:
    inputs = read_corpus(name)
    assert inputs
    for data in inputs:
        READERS[name](data)


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS["connections"])
def test_the_corpus_of_a_connection(name: str) -> None:
    inputs = read_corpus(name)
    assert inputs
    for data in inputs:
        TARGETS[name](data)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_some_seconds_of_fuzzing(group: str) -> None:
    if not sys.platform.startswith("linux") or sys.version_info >= (3, 14):
        pytest.skip("not here: atheris has no wheel for this Python")
    pytest.importorskip("atheris", reason="pip install atheris")
    result = fuzz(group, 10, [])
    assert not result.finding, result
    assert result.executions > len(GROUPS[group])

"""Every requirement in rows.json has a test that carries its mark, or a reason why not."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_page", ROOT / "docs/conformance.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["conformance_page"] = module
    spec.loader.exec_module(module)
    return module


conformance = _load()
ROWS = {row["id"] for row in conformance.load("rows")}
ATTACKS = {attack["id"] for attack in conformance.load("attacks")}


@pytest.fixture(scope="module")
def proofs() -> dict[str, list[object]]:
    return dict(conformance.by_row(conformance.cases()))


@pytest.mark.parametrize("name", ["rows", "attacks"])
def test_ids_are_unique(name: str) -> None:
    counts = Counter(row["id"] for row in conformance.load(name))
    assert [row for row, count in counts.items() if count > 1] == []


def test_every_row_has_a_test_or_a_reason(proofs: dict[str, list[object]]) -> None:
    assert ROWS - proofs.keys() - conformance.exempt().keys() - set(conformance.missing()) == set()


def test_the_list_of_missing_rows_only_shrinks(proofs: dict[str, list[object]]) -> None:
    listed = set(conformance.missing())
    assert listed & proofs.keys() == set(), "these have a test now: make docs"
    assert listed <= ROWS


@pytest.mark.parametrize("kind, known", [("conformance", ROWS), ("attack", ATTACKS)])
def test_marks_name_known_rows_and_few_of_them(kind: str, known: set[str]) -> None:
    later = "HWGQ" if kind == "conformance" else ""  # rows of HTTP/3 and WebTransport are not listed yet
    for case in conformance.cases(kind):
        unknown = {row for row in case.rows if row not in known and row[0] not in later}
        assert not unknown, f"{case.path}:{case.line} names a row that does not exist"
        assert len(case.rows) <= conformance.MOST_ROWS, f"{case.path}:{case.line} claims too much"


def test_exemptions_are_few_and_needed(proofs: dict[str, list[object]]) -> None:
    exempt = conformance.exempt()
    assert len(exempt) <= conformance.MOST_EXEMPT
    assert exempt.keys() <= ROWS
    assert exempt.keys() & proofs.keys() == set()
    assert all(len(reason) > 20 for reason in exempt.values())


def test_the_page_is_up_to_date() -> None:
    assert conformance.PAGE.read_text() == conformance.page(), "make docs"


def test_a_mark_outside_a_test_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "ROOT", tmp_path)
    (tmp_path / "test_stray.py").write_text('import pytest\nstray = pytest.mark.conformance("T01")\n')
    with pytest.raises(conformance.MarkError, match=r"test_stray\.py:2"):
        conformance.cases(folder=tmp_path)


def test_marks_are_read_from_decorators_and_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "ROOT", tmp_path)
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        'CASES = [pytest.param(1, marks=pytest.mark.conformance("T01"), id="one")]\n'
        '@pytest.mark.parametrize("case", CASES)\n'
        "def test_case(case): ...\n"
        "class TestThings:\n"
        '    @pytest.mark.conformance("T02", "T03")\n'
        "    async def test_thing(self): ...\n"
    )
    found = [(case.name, case.rows) for case in conformance.cases(folder=tmp_path)]
    assert found == [("test_case[one]", ("T01",)), ("TestThings::test_thing", ("T02", "T03"))]

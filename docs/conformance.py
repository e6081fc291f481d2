"""Writes docs/conformance.md, and the table of attacks in docs/security.md, from the marks on the tests (`make docs`).

The marks are read from the syntax of the test files, so a mark has to be literal, and it has to stand where a reader
looks for it: as a decorator of a test, or in a ``pytest.param`` that one of its decorators names.
"""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
LISTS = TESTS / "conformance"
PAGE = ROOT / "docs/conformance.md"
SECURITY = ROOT / "docs/security.md"
REGION = ("<!-- attacks: written by make docs -->", "<!-- end of attacks -->")
MOST_ROWS = 5
MOST_EXEMPT = 16


class MarkError(Exception):
    """A mark that nothing can be concluded from."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test, or one parameter set of it, and the rows that it proves."""

    path: str
    name: str
    line: int
    rows: tuple[str, ...]


def _rows(call: ast.Call, where: str) -> tuple[str, ...]:
    rows = [argument.value if isinstance(argument, ast.Constant) else None for argument in call.args]
    if call.keywords or not rows or not all(isinstance(row, str) for row in rows):
        raise MarkError(f"{where}: a mark names its rows as literal strings")
    return tuple(str(row) for row in rows)


class _File:
    """The cases of one file. Every mark in it has to end up in one of them."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = str(path.relative_to(ROOT))
        self.prefix = f"pytest.mark.{kind}"
        self.tree = ast.parse(path.read_text())
        self.used: set[int] = set()
        self.constants: dict[str, ast.AST] = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }

        self.constants |= {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    def table(self, mark: ast.Call) -> dict[str, str]:
        """What ``conformance(ROWS[case])`` takes its rows from: a dictionary of case to row in the same file."""
        if len(mark.args) != 1 or not isinstance(mark.args[0], ast.Subscript):
            return {}
        source = self.constants.get(ast.unparse(mark.args[0].value))
        if not isinstance(source, ast.Dict):
            return {}
        self.used.add(id(mark))
        return dict(ast.literal_eval(source))

    def marks(self, node: ast.AST) -> list[ast.Call]:
        calls = [found for found in ast.walk(node) if isinstance(found, ast.Call)]
        return [
            call for call in calls if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == self.prefix
        ]

    def take(self, marks: list[ast.Call]) -> tuple[str, ...]:
        self.used |= {id(mark) for mark in marks}
        return tuple(row for mark in marks for row in _rows(mark, f"{self.path}:{mark.lineno}"))

    def parameters(self, decorator: ast.AST) -> Iterator[ast.Call]:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Name) and node.id in self.constants:
                yield from self.parameters(self.constants[node.id])
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.param":
                yield node

    def of_test(self, test: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[Case]:
        plain = [
            mark for mark in test.decorator_list if isinstance(mark, ast.Call) and self.prefix in ast.unparse(mark.func)
        ]
        if rows := self.take(plain):
            yield Case(self.path, name, test.lineno, rows)
        for decorator in test.decorator_list:
            if "parametrize" not in ast.unparse(decorator):
                continue
            for parameter in self.parameters(decorator):
                marks = self.marks(parameter)
                tables = [table for mark in marks if (table := self.table(mark))]
                for key, row in (item for table in tables for item in table.items()):
                    yield Case(self.path, f"{name}[{key}]", parameter.lineno, (row,))
                if not tables and (rows := self.take(marks)):
                    ids = [word.value for word in parameter.keywords if word.arg == "id"]
                    label = str(ids[0].value) if ids and isinstance(ids[0], ast.Constant) else "-".join(rows)
                    yield Case(self.path, f"{name}[{label}]", parameter.lineno, rows)

    def cases(self) -> list[Case]:
        found: list[Case] = []
        for node in self.tree.body:
            inner = node.body if isinstance(node, ast.ClassDef) else [node]
            prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
            for test in inner:
                if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_"):
                    found += self.of_test(test, prefix + test.name)
        lost = [mark.lineno for mark in self.marks(self.tree) if id(mark) not in self.used]
        if lost:
            raise MarkError(f"{self.path}:{lost[0]}: this mark belongs to no test")
        return found


def cases(kind: str = "conformance", folder: Path = TESTS) -> list[Case]:
    """Every test and parameter set with a mark of this kind."""
    found: list[Case] = []
    for path in sorted(folder.rglob("test_*.py")):
        if f"pytest.mark.{kind}" in path.read_text():
            found += _File(path, kind).cases()
    return found


def load(name: str) -> list[dict[str, str]]:
    content: list[dict[str, str]] = json.loads((LISTS / f"{name}.json").read_text())
    return content


def exempt() -> dict[str, str]:
    content: dict[str, str] = json.loads((LISTS / "exempt.json").read_text())
    return content


def missing() -> list[str]:
    """The rows that still wait for their test. The list only ever gets shorter, and is deleted when it is empty."""
    path = LISTS / "missing.json"
    content: list[str] = json.loads(path.read_text()) if path.exists() else []
    return content


def by_row(found: list[Case]) -> dict[str, list[Case]]:
    proofs: dict[str, list[Case]] = defaultdict(list)
    for case in found:
        for row in case.rows:
            proofs[row].append(case)
    return proofs


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _links(found: list[Case]) -> str:
    return "<br>".join(f"[{_cell(case.path)}::{_cell(case.name)}](../{case.path})" for case in found)


def _heading(row: dict[str, str]) -> str:
    document = row["document"]
    if document != "RFC 9000":
        return document
    return f"{document} §{row['section'].split(',')[0].split('.')[0].split(' ')[0]}"


def page() -> str:
    """The text of docs/conformance.md."""
    rows, excused, proofs = load("rows"), exempt(), by_row(cases())
    proven = sum(row["id"] in proofs for row in rows)
    lines = ["# Conformance", ""]
    lines += ["Written by `make docs` from `tests/conformance/rows.json` and the marks on the tests.", ""]
    lines += [f"{len(rows)} requirements: {proven} with a marked test,"]
    lines += [f"{len(excused)} exempt, {len(rows) - proven - len(excused)} open."]
    if excused:
        lines += ["", "## Exempt", ""] + [f"- {row}: {reason}" for row, reason in sorted(excused.items())]
    sections: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        sections[_heading(row)].append(row)
    for section, members in sections.items():
        lines += ["", f"## {section}", "", "| row | § | requirement | test |", "| --- | --- | --- | --- |"]
        for row in members:
            name = row["id"]
            proof = _links(proofs[name]) if name in proofs else "exempt" if name in excused else "open"
            lines.append(f"| {name} | {_cell(row['section'])} | {_cell(row['requirement'])} | {proof} |")
    return "\n".join(lines) + "\n"


def attack_table() -> str:
    """The tables of attacks for docs/security.md."""
    attacks, proofs = load("attacks"), by_row(cases("attack"))
    lines = [f"{len(attacks)} attacks, {sum(attack['id'] in proofs for attack in attacks)} of them with a test."]
    section = None
    for attack in attacks:
        if attack["section"] != section:
            section = attack["section"]
            lines += [
                "",
                f"### {section}",
                "",
                "| id | seen in | attack | defence | test |",
                "| --- | --- | --- | --- | --- |",
            ]
        texts = " | ".join(_cell(attack[field]) for field in ("id", "where", "attack", "safe"))
        lines.append(f"| {texts} | {_links(proofs.get(attack['id'], [])) or 'open'} |")
    return "\n".join(lines) + "\n"


def security(text: str) -> str:
    """docs/security.md with its marked region replaced; unchanged when it has none."""
    begin, end = REGION
    if begin not in text or end not in text:
        return text
    return text[: text.index(begin) + len(begin)] + "\n\n" + attack_table() + "\n" + text[text.index(end) :]


def still_missing() -> list[str]:
    proofs = by_row(cases())
    return [row for row in missing() if row not in proofs and row not in exempt()]


def write() -> None:
    PAGE.write_text(page())
    if SECURITY.exists():
        SECURITY.write_text(security(SECURITY.read_text()))
    if (LISTS / "missing.json").exists():
        (LISTS / "missing.json").write_text(json.dumps(still_missing(), indent=0) + "\n")


if __name__ == "__main__":
    write()

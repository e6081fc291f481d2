"""Writes docs/modules.md and docs/rfc-map.md from the source (`make docs`)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("quicstack", "h3", "webtransport")
CITATION = re.compile(r"\b(RFC \d{4}|draft-\d\d)((?:,? (?:and )?§{1,2} ?[A-Z0-9.]+(?:-§?[A-Z0-9.]+)?)+)")
SECTION = re.compile(r"[A-Z]?[0-9]*(?:\.[0-9]+)*")


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.read_text().strip())


def first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return paragraph.replace("|", "\\|")


def module_list() -> str:
    lines = ["# Modules", "", "Written by `make docs`: every module with its first sentence."]
    folder = None
    for path in modules():
        name = path.relative_to(ROOT)
        if name.parent != folder:
            folder = name.parent
            lines += ["", f"## {folder}", ""]
            if path.name == "__init__.py":
                lines += [first_sentence(path), ""]
        if path.name != "__init__.py":
            lines.append(f"- `{name.name}`: {first_sentence(path)}")
    return "\n".join(lines) + "\n"


def citations(text: str) -> set[tuple[str, str]]:
    """A section alone (`§4.1`) belongs to the RFC that the file named last, so only full citations are taken."""
    found = set()
    for match in CITATION.finditer(" ".join(text.split())):
        for section in SECTION.findall(match[2].replace("§", " ").replace("-", " ")):
            if section.strip("."):
                found.add((match[1], section.strip(".")))
    return found


def in_order(section: str) -> list[tuple[bool, int, str]]:
    parts = section.split(".")
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def rfc_map() -> str:
    places: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in modules():
        for document, section in citations(path.read_text()):
            places[document][section].append(str(path.relative_to(ROOT)))
    lines = ["# From RFC to code", "", "Written by `make docs`: the files that cite a section.", ""]
    lines += ["`draft-NN` is draft-ietf-webtrans-http3-NN."]
    for document in sorted(places):
        lines += ["", f"## {document}", ""]
        for section in sorted(places[document], key=in_order):
            files = ", ".join(f"`{name}`" for name in sorted(places[document][section]))
            lines.append(f"- §{section}: {files}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs/modules.md").write_text(module_list())
    (ROOT / "docs/rfc-map.md").write_text(rfc_map())

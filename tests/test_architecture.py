"""The rules of docs/architecture.md, checked on the source text: imports point down, the engine does not touch the
world, files stay small, and what a comment cites exists."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("quicstack", "h3", "webtransport")

GROUND = {"quicstack.errors", "quicstack.environment", "quicstack.train", "quicstack.token_store"} | {
    "quicstack.session_store",
    "quicstack.replay_guard",
}
ENGINE_PARTS = {"quicstack.wire", "quicstack.tls", "quicstack.recovery", "quicstack.observe", "quicstack.config"}

# What a part may import of ours, besides itself. A part is a package or a module; the longest name that fits counts.
MAY_IMPORT: dict[str, set[str]] = {
    "quicstack.errors": set(),
    "quicstack.environment": set(),
    "quicstack.train": set(),
    "quicstack.token_store": set(),
    "quicstack.session_store": {"quicstack.token_store"},
    "quicstack.deadlines": set(),
    "quicstack.replay_guard": set(),
    "quicstack.wire": GROUND,
    "quicstack.tls": GROUND | {"quicstack.wire"},
    "quicstack.recovery": set(),
    "quicstack.observe": GROUND | {"quicstack.wire", "quicstack.recovery"},
    "quicstack.config": GROUND
    | {"quicstack.wire", "quicstack.tls", "quicstack.recovery", "quicstack.observe", "quicstack.transport.scheduler"},
    "quicstack.transport": GROUND | ENGINE_PARTS,
    "quicstack.connection": GROUND | ENGINE_PARTS | {"quicstack.transport"},
    "quicstack.stateless": GROUND | ENGINE_PARTS | {"quicstack.transport"},
    "quicstack.endpoint": GROUND
    | ENGINE_PARTS
    | {"quicstack.transport", "quicstack.connection", "quicstack.stateless", "quicstack.deadlines"},
    "quicstack.drivers": GROUND | ENGINE_PARTS | {"quicstack.transport", "quicstack.connection", "quicstack.endpoint"},
    "quicstack.simulator": GROUND
    | ENGINE_PARTS
    | {"quicstack.transport", "quicstack.connection", "quicstack.endpoint"},
    "quicstack": {"quicstack"},
    # h3 sees Connection and Stream and nothing inside them; its own frames are written in QUIC's integers.
    "h3": GROUND
    | {"quicstack.config", "quicstack.connection.connection", "quicstack.transport.datagram_queue"}
    | {"quicstack.transport.stream", "quicstack.wire.varint"}
    | {"quicstack.drivers", "quicstack.tls.certificate", "quicstack.tls.trust", "quicstack.observe.stats"},
    "webtransport": GROUND
    | {"quicstack.config", "quicstack.connection.connection", "quicstack.transport.datagram_queue"}
    | {"quicstack.transport.stream", "quicstack.wire.varint"}
    | {"quicstack.drivers", "quicstack.tls.certificate", "quicstack.tls.trust", "quicstack.observe"}
    | {"quicstack.recovery.congestion", "quicstack", "h3"},
}

# What touches the world or draws its own randomness. The engine takes both as arguments.
WORLD = {"time", "random", "secrets", "socket", "asyncio", "threading", "select", "selectors", "os", "pathlib", "ssl"}

# Parts that are drivers, or sit on one: these may import WORLD.
OUTSIDE: dict[str, str] = {
    "quicstack.drivers": "the only part of quicstack that touches the world",
    "quicstack.simulator": "the other driver: seeded randomness, files for captures",
}

# Modules of the engine that need one name of WORLD all the same, and why.
EXCEPTIONS: dict[str, tuple[set[str], str]] = {
    "quicstack.tls.certificate": ({"os", "pathlib"}, "reads the PEM files that the application names"),
    "quicstack.tls.trust": ({"os"}, "PathLike in a signature"),
    "quicstack.tls.system_roots": ({"ssl", "pathlib"}, "asks where the system keeps its root certificates"),
    "webtransport.certificates": ({"os", "pathlib"}, "writes a development certificate"),
    "webtransport.config": ({"os", "ssl"}, "PathLike and verify_mode in signatures"),
}

# Modules of h3 and webtransport that are the asynchronous or command-line face of their package.
WORLD_MODULES: dict[str, set[str]] = {
    "h3.__main__": {"asyncio", "pathlib"},
    "h3.aio": {"asyncio", "secrets"},
    "h3.client": {"asyncio"},
    "h3.server": {"asyncio"},
    "webtransport.__main__": {"asyncio"},
    "webtransport.app": {"asyncio"},
    "webtransport.client": {"asyncio"},
    "webtransport.datagrams": {"asyncio"},
    "webtransport.demo.page": {"socket", "threading"},
    "webtransport.demo.run": {"asyncio", "os", "time"},
    "webtransport.demo.server": {"asyncio"},
    "webtransport.link": {"asyncio"},
    "webtransport.server": {"asyncio"},
    "webtransport.session": {"asyncio"},
    "webtransport.stream": {"asyncio"},
}

# The ladder inside quicstack/connection: a rung imports the rungs before its own, never its equals or those above.
LADDER: tuple[set[str], ...] = (
    {"state"},
    {"ack_frequency", "first_byte", "setup", "lifecycle", "paths", "statistics"},
    {"retransmission", "key_update", "stateless_reset", "versions"},
    {"early_data"},
    {"runs"},
    {"datagrams"},
    {"handshake", "packing"},
    {"frames", "unprotected"},
    {"receive", "send", "timers"},
    {"connection"},
)

# Files longer than 400 lines, and why each is still one thing. Above 600 the reason has to be very good.
LONG: dict[str, str] = {
    "quicstack/recovery/loss.py": "RFC 9002 Appendix A, whose procedures share their variables",
    "quicstack/tls/client.py": "RFC 8446 §A.1 from top to bottom, one state after the other",
    "quicstack/connection/connection.py": "the public face of a connection: one short verb or property after another",
}

NOT_NAMES = {"utils", "helpers", "common", "base"}
NAME_EXCEPTIONS = {"webtransport/utils.py": "named by the published examples; only re-exports"}

OTHER_STACKS = {"aioquic", "qh3", "aiopquic", "pywebtransport", "zoomies", "hypercorn", "httpx"}


@cache
def sources() -> tuple[Path, ...]:
    return tuple(sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """Every imported module by full name with its line, wherever in the file the import stands."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = ROOT / Path(*origin.split("."), alias.name)
                is_module = submodule.with_suffix(".py").exists() or submodule.is_dir()
                found.append((f"{origin}.{alias.name}" if is_module else origin, node.lineno))
    return tuple(found)


def is_within(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def part_of(module: str) -> str:
    """The row of MAY_IMPORT that speaks for a module. The package face ``quicstack`` is a part of its own."""
    rows = [part for part in MAY_IMPORT if module == part or (part != "quicstack" and is_within(module, part))]
    assert rows, f"{module} is in no layer: give it a row in MAY_IMPORT"
    return max(rows, key=len)


def here(path: Path, line: int = 0) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def test_imports_point_down() -> None:
    wrong = []
    for path in sources():
        module = module_name(path)
        part = part_of(module)
        for imported, line in imports(path):
            if imported.split(".")[0] not in PACKAGES or is_within(imported, part) or part == "quicstack":
                continue
            if not any(imported == row if row == "quicstack" else is_within(imported, row) for row in MAY_IMPORT[part]):
                wrong.append(f"{here(path, line)} imports {imported}, which {part} does not see")
    assert not wrong, "\n".join(wrong)


def test_the_transport_knows_neither_http_nor_webtransport() -> None:
    above = {"quicstack": {"h3", "webtransport"}, "h3": {"webtransport"}, "webtransport": set()}
    wrong = [
        f"{here(path, line)} imports {imported}"
        for path in sources()
        for imported, line in imports(path)
        if imported.split(".")[0] in above[module_name(path).split(".")[0]]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_ladder_inside_connection() -> None:
    height = {name: rung for rung, names in enumerate(LADDER) for name in names}
    wrong = []
    for path in sorted((ROOT / "quicstack/connection").glob("*.py")):
        if path.stem == "__init__":
            continue
        if path.stem not in height:
            wrong.append(f"{here(path)} has no rung: give it one in LADDER")
            continue
        for imported, line in imports(path):
            name = imported.removeprefix("quicstack.connection.")
            if name in height and name != path.stem and height[name] >= height[path.stem]:
                wrong.append(f"{here(path, line)} imports {name}, which stands as high or higher")
    assert not wrong, "\n".join(wrong)


def touches_the_world(path: Path) -> bool:
    return any(is_within(module_name(path), part) for part in OUTSIDE)


def test_time_and_randomness_are_arguments() -> None:
    wrong = []
    for path in sources():
        if touches_the_world(path):
            continue
        module = module_name(path)
        allowed = EXCEPTIONS.get(module, (set(), ""))[0] | WORLD_MODULES.get(module, set())
        for imported, line in imports(path):
            name = imported.split(".")[0]
            if name in WORLD and name not in allowed:
                wrong.append(f"{here(path, line)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_exceptions_are_still_needed() -> None:
    """A row that allows what nobody does any more is deleted."""
    allowed = {module: names for module, (names, _) in EXCEPTIONS.items()} | WORLD_MODULES
    stale = []
    for path in sources():
        used = {imported.split(".")[0] for imported, _ in imports(path)}
        stale += [
            f"{module_name(path)} no longer imports {name}" for name in allowed.get(module_name(path), set()) - used
        ]
    stale += [f"{module} does not exist" for module in allowed.keys() - {module_name(path) for path in sources()}]
    stale += [f"{name} is short now" for name in LONG if len((ROOT / name).read_text().splitlines()) <= 400]
    assert not stale, "\n".join(stale)


def test_no_other_stack_is_imported() -> None:
    wrong = [
        f"{here(path, line)} imports {imported}"
        for path in sources()
        for imported, line in imports(path)
        if imported.split(".")[0] in OTHER_STACKS
    ]
    assert not wrong, "\n".join(wrong)


def test_files_fit_a_head() -> None:
    wrong = []
    for path in sources():
        lines = len(path.read_text().splitlines())
        if lines > 400 and here(path) not in LONG:
            wrong.append(f"{here(path)} has {lines} lines: is it two things? If not, say why in LONG")
    assert not wrong, "\n".join(wrong)


def test_names_say_what_is_inside() -> None:
    wrong = [
        here(path)
        for path in sources()
        if (path.stem in NOT_NAMES or path.parent.name in NOT_NAMES) and here(path) not in NAME_EXCEPTIONS
    ]
    assert not wrong, f"names that say nothing: {wrong}"


def test_every_module_says_what_it_is() -> None:
    wrong = []
    for path in sources():
        tree = ast.parse(path.read_text())
        if tree.body and not ast.get_docstring(tree):
            wrong.append(f"{here(path)} has no docstring")
    assert not wrong, "\n".join(wrong)


def test_every_module_is_listed() -> None:
    listed = re.findall(r"^## (.+)$|^- `(\w+\.py)`", (ROOT / "docs/modules.md").read_text(), re.MULTILINE)
    names, folder = set(), ""
    for heading, name in listed:
        folder = heading or folder
        if name:
            names.add(f"{folder}/{name}")
    exist = {here(path) for path in sources() if path.name != "__init__.py" and path.read_text().strip()}
    assert names == exist, "run `make docs`"


SECTIONS: dict[str, set[str]] = {
    document: set(sections.split())
    for document, sections in json.loads((ROOT / "tests/vectors/rfc_sections.json").read_text()).items()
}
CITATION = re.compile(r"\b(RFC \d{4}|draft-\d\d)((?:,? (?:and )?§{1,2} ?[A-Z0-9.]+(?:-§?[A-Z0-9.]+)?)+)")
WORD_CITATION = re.compile(r"\b(?:RFC \d{4}|draft-\d\d),? ([Ss]ection|[Ss]ec\.) ")


def cited_sections(text: str) -> list[tuple[str, str]]:
    """``RFC 9000 §4.1, §4.6 and §19.9-§19.11`` -> its document with each section, and both ends of a range."""
    cited = []
    for match in CITATION.finditer(" ".join(text.split())):
        for section in re.findall(r"[A-Z]?[0-9]*(?:\.[0-9]+)*", match[2].replace("§", " ").replace("-", " ")):
            if section:
                cited.append((match[1], section.strip(".")))
    return cited


def test_cited_sections_are_read_right() -> None:
    assert cited_sections("RFC 9000 §4.1, §4.6 and §19.9-§19.11, then") == [
        ("RFC 9000", "4.1"),
        ("RFC 9000", "4.6"),
        ("RFC 9000", "19.9"),
        ("RFC 9000", "19.11"),
    ]
    assert cited_sections("see RFC 9002 §A.4. And draft-15 §9.6\nends") == [("RFC 9002", "A.4"), ("draft-15", "9.6")]


@pytest.mark.parametrize("path", [*sources(), *sorted((ROOT / "tests").rglob("*.py"))], ids=here)
def test_cited_sections_exist(path: Path) -> None:
    text = path.read_text()
    if path == Path(__file__):
        return
    wrong = [
        f"{document} §{section}"
        for document, section in cited_sections(text)
        if document in SECTIONS and section not in SECTIONS[document]
    ]
    assert not wrong, f"no such section: {wrong}"
    assert not WORD_CITATION.search(text), "write a citation as RFC 9000 §4.1"


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not here: this is not a git clone")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_the_place_where_it_was_written() -> None:
    """Absolute paths and download hosts of one machine have no meaning on another."""
    words = [
        "/" + "work/",
        "/tmp/" + "w/",
        "shared" + "/reference",
        "shared" + "/contract",
        "pypi" + ".org",
        "python" + "hosted.org",
        "npm" + "js.org",
        "deb.debian" + ".org",
    ]
    wrong = []
    for path in tracked_files():
        text = path.read_text(errors="replace")
        wrong += [f"{here(path)}: {word}" for word in words if word in text]
    assert not wrong, "\n".join(wrong)

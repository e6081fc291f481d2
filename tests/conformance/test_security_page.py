"""docs/security.md: its limits are the ones in the code, each is reached by a test, and so is each attack mounted."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from quicstack.config import Configuration
from quicstack.tls.trust import Trust

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/security.md"
OF_RESUMPTION = {
    "CVE-2024-49214 / CVE-2024-39321",
    "CVE-2025-68121",
    "CVE-2026-42505",
    "c: 0-RTT replay",
    "c: session ticket flood",
}
"""Attacks on what is not there yet. Nothing else may be without a test."""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_of_docs", ROOT / f"docs/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


conformance = load("conformance")


def limits() -> list[list[str]]:
    """The rows of the table under the heading Limits."""
    section = PAGE.read_text().split("\n## Limits\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def test_every_attack_is_mounted_by_a_test() -> None:
    proofs = conformance.by_row(conformance.cases("attack"))
    assert {attack["id"] for attack in conformance.load("attacks")} - proofs.keys() <= OF_RESUMPTION


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert conformance.REGION[0] in text and conformance.REGION[1] in text
    assert text == conformance.security(text), "make docs"


def test_the_table_is_there() -> None:
    assert len(limits()) > 40
    assert all(len(row) == 6 for row in limits())


@pytest.mark.parametrize("row", limits(), ids=lambda row: row[0])
def test_a_limit_is_the_one_in_the_code(row: list[str]) -> None:
    what, where, limit, then, name, _ = row
    assert what and then
    number = float(re.match(r"[\d,]+", limit)[0].replace(",", ""))  # type: ignore[index]
    module = importlib.import_module(where.removesuffix(".py").replace("/", "."))
    if name.startswith("Configuration."):
        defaults = Configuration(alpn_protocols=("x",), trust=Trust.insecure())
        value = getattr(defaults, name.removeprefix("Configuration."))
    else:
        value = getattr(module, name)
    assert value == number


@pytest.mark.parametrize("row", limits(), ids=lambda row: row[0])
def test_a_limit_is_reached_by_a_test(row: list[str]) -> None:
    path, _, name = row[5].partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_the_defaults_are_the_ones_in_the_code() -> None:
    defaults = Configuration(alpn_protocols=("x",), trust=Trust.insecure())
    assert (defaults.retry, defaults.retry_threshold) == ("auto", 100)
    assert (defaults.max_handshakes, defaults.handshake_timeout, defaults.max_connections) == (1000, 10.0, 10_000)
    assert defaults.token_key is None and defaults.stateless_reset_key is None and defaults.keylog is None
    assert defaults.client_authentication == "none"
    assert type(Configuration(alpn_protocols=("x",)).trust) is type(Trust.system())

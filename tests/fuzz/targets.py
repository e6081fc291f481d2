"""All targets by name, and the corpus of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))
sys.path.insert(0, str(Path(__file__).parents[1] / "connection"))
sys.path.insert(0, str(Path(__file__).parent))

from connections import CONNECTIONS
from readers import READERS
from sessions import SESSIONS
from upper import UPPER

__all__ = ["CORPUS", "GROUPS", "TARGETS", "group", "read_corpus", "write_corpus"]

TARGETS: dict[str, Callable[[bytes], None]] = READERS | UPPER | CONNECTIONS | SESSIONS
GROUPS = {"readers": READERS, "upper": UPPER, "connections": CONNECTIONS | SESSIONS}
CORPUS = Path(__file__).parent / "corpus"


def group(name: str) -> Callable[[bytes], None]:
    """All targets of a group as one: the first byte chooses."""
    targets = list(GROUPS[name].values())

    def choose(data: bytes) -> None:
        if data:
            targets[data[0] % len(targets)](data[1:])

    return choose


def read_corpus(name: str) -> list[bytes]:
    """The inputs kept for a target: one a line, in hexadecimal."""
    path = CORPUS / f"{name}.txt"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_corpus(name: str, inputs: set[bytes]) -> None:
    CORPUS.mkdir(exist_ok=True)
    ordered = sorted(inputs, key=lambda data: (len(data), data))
    (CORPUS / f"{name}.txt").write_text("".join(f"{data.hex()}\n" for data in ordered))

"""`make interop` in small: a few cases, us against us and with aioquic, judged from captures by tshark."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.cases import CASES, SMOKE
from interop.implementations import IMPLEMENTATIONS, OURS
from interop.report import Outcome
from interop.run import run_one

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("needs_tshark")]


@pytest.mark.parametrize("case", SMOKE)
def test_us_against_us(case: str, tmp_path: Path) -> None:
    result = run_one(CASES[case], OURS, OURS, tmp_path)
    assert result.outcome is Outcome.PASSED, result


@pytest.mark.peer
@pytest.mark.parametrize(
    ("peer", "is_client", "case"),
    [
        ("aioquic", True, "retry"),
        ("aioquic", False, "handshake"),
        ("ngtcp2", True, "keyupdate"),
        ("ngtcp2", False, "retry"),
        ("quiche", True, "handshake"),
        ("quiche", False, "retry"),
        ("caddy", False, "chacha20"),
    ],
)
def test_with_a_peer(peer: str, is_client: bool, case: str, tmp_path: Path) -> None:
    other = IMPLEMENTATIONS[peer]
    if other.missing is not None:
        pytest.skip(other.missing)
    client, server = (other, OURS) if is_client else (OURS, other)
    result = run_one(CASES[case], client, server, tmp_path)
    assert result.outcome is Outcome.PASSED, result

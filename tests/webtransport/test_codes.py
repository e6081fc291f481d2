from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webtransport.codes import APPLICATION_ERROR_FIRST, APPLICATION_ERROR_LAST, application_code, http_code

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "webtransport_codes.json").read_text())


@pytest.mark.parametrize("row", VECTORS["map"], ids=lambda row: str(row["n"]))
def test_vectors_both_ways(row: dict[str, str | int]) -> None:
    number, h3 = int(row["n"]), int(str(row["h3"]), 16)
    assert http_code(number) == h3
    assert application_code(h3) == number


@pytest.mark.parametrize("reserved", VECTORS["reserved_must_reject"])
def test_reserved_points_carry_nothing(reserved: str) -> None:
    assert application_code(int(reserved, 16)) is None


@given(st.integers(0, 0xFFFFFFFF))
def test_round_trip_never_meets_a_reserved_point(code: int) -> None:
    carried = http_code(code)
    assert APPLICATION_ERROR_FIRST <= carried <= APPLICATION_ERROR_LAST
    assert (carried - 0x21) % 0x1F
    assert application_code(carried) == code


@given(st.integers(0, (1 << 62) - 1))
def test_any_code_is_mapped_or_not(code: int) -> None:
    number = application_code(code)
    assert number is None or http_code(number) == code


@pytest.mark.parametrize("code", [-1, 1 << 32])
def test_codes_out_of_range_are_refused(code: int) -> None:
    with pytest.raises(ValueError, match="error code"):
        http_code(code)

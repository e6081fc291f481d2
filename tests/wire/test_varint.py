"""Variable-length integers against RFC 9000 Appendix A.1."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.errors import Truncated
from quicstack.wire.varint import MAX_VARINT, encode_varint, encode_varints, read_varint, read_varints, varint_size

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9000_appendix_a.json").read_text())


@pytest.mark.conformance("T108")
@pytest.mark.parametrize("row", VECTORS["varint"], ids=lambda row: row["hex"])
def test_appendix_a1(row: dict[str, object]) -> None:
    data = bytes.fromhex(str(row["hex"]))
    assert read_varint(data, 0) == (row["value"], len(data))


@pytest.mark.parametrize("row", VECTORS["varint_boundaries"], ids=lambda row: str(row["value"]))
def test_shortest_encoding(row: dict[str, int]) -> None:
    data = encode_varint(row["value"])
    assert len(data) == row["len"] == varint_size(row["value"])
    assert read_varint(b"\xff" + data, 1) == (row["value"], 1 + len(data))


@given(st.integers(0, MAX_VARINT))
def test_round_trip(value: int) -> None:
    assert read_varint(encode_varint(value), 0)[0] == value


@pytest.mark.parametrize("data", [b"", b"\x40", b"\x80\0\0", b"\xc0\0\0\0\0\0\0"])
def test_truncated(data: bytes) -> None:
    with pytest.raises(Truncated):
        read_varint(data, 0)


@pytest.mark.parametrize("value", [-1, 1 << 62])
def test_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match="variable-length"):
        encode_varint(value)


@given(st.lists(st.integers(0, MAX_VARINT) | st.integers(0, 200), max_size=12), st.binary(max_size=3))
def test_several_in_a_row(values: list[int], behind: bytes) -> None:
    data = encode_varints(values)
    assert data == b"".join(map(encode_varint, values))
    assert read_varints(b"\xff" + data + behind, 1, len(values)) == (values, 1 + len(data))
    for cut in range(len(data)):
        with pytest.raises(Truncated):
            read_varints(data[:cut], 0, len(values))


def test_several_that_cannot_be_encoded() -> None:
    for value in (-1, MAX_VARINT + 1):
        with pytest.raises(ValueError, match="variable-length"):
            encode_varints([1, value])

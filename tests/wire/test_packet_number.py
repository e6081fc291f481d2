"""Packet numbers against RFC 9000 Appendix A.2 and A.3."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.wire.packet_number import decode_packet_number, packet_number_length

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9000_appendix_a.json").read_text())


@pytest.mark.parametrize("row", VECTORS["pn_encode"], ids=lambda row: hex(row["full"]))
def test_appendix_a2(row: dict[str, int]) -> None:
    assert 8 * packet_number_length(row["full"], row["largest_acked"]) == row["bits"]


@pytest.mark.conformance("T109")
@pytest.mark.parametrize("row", VECTORS["pn_decode"] + VECTORS["derived_edges"], ids=str)
def test_appendix_a3(row: dict[str, int]) -> None:
    assert decode_packet_number(row["truncated"], row["bits"], row["largest"]) == row["full"]


@pytest.mark.conformance("T109")
@given(st.integers(0, 1 << 40), st.integers(0, 1 << 20))
def test_what_is_sent_can_be_restored(acked: int, gap: int) -> None:
    number = acked + gap + 1
    bits = 8 * packet_number_length(number, acked)
    # The receiver has the acknowledged packet at least, and at most everything before this one.
    for largest in (acked, number - 1):
        assert decode_packet_number(number & ((1 << bits) - 1), bits, largest) == number

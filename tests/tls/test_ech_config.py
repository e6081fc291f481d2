"""ECHConfigList: what is used, what is passed over, what is malformed (RFC 9849 §4, §6.1.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicstack.errors import TransportError
from quicstack.tls.ech_config import read_ech_config_list
from quicstack.tls.presentation import number, vector


def config(
    version: int = 0xFE0D,
    kem: int = 0x20,
    suites: str = "00010001",
    name: bytes = b"public.example",
    types: tuple[int, ...] = (),
) -> bytes:
    contents = number(1, 1) + number(kem, 2) + vector(2, bytes(32)) + vector(2, bytes.fromhex(suites)) + b"\x00"
    contents += vector(1, name) + vector(2, b"".join(number(kind, 2) + vector(2, b"") for kind in types))
    return number(version, 2) + vector(2, contents)


@pytest.mark.parametrize(
    "other",
    [
        number(0xFE0A, 2) + vector(2, b"?"),
        config(kem=0x99),
        config(suites="00020001"),
        config(types=(0x8A0A,)),
        *(config(name=name) for name in (b".a", b"a.", b"a b", b"127.0.0.1", b"a.0x7F", b"a.0X", b"\xff", b"-a.b")),
        config(name=b"a" * 64 + b".b"),
    ],
)
def test_passed_over(other: bytes) -> None:
    found = read_ech_config_list(vector(2, other + config(types=(0x0A0A,))))
    assert [one.data for one in found] == [config(types=(0x0A0A,))]


@pytest.mark.parametrize(
    "data", [b"", vector(2, b""), vector(2, config()) + b"x", vector(2, config()[:-1]), vector(2, config(types=(1, 1)))]
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        read_ech_config_list(data)
    assert caught.value.code == 0x132


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    try:
        read_ech_config_list(vector(2, data))
    except TransportError as error:
        assert error.code == 0x132

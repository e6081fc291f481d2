from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.errors import H3ConnectionError, H3ErrorCode
from h3.frames import is_grease
from h3.settings import FORBIDDEN_SETTINGS, H3Settings, Setting, encode_settings, read_settings
from quicstack.errors import ConfigurationError


def test_round_trip_keeps_unknown_settings() -> None:
    values = {Setting.QPACK_MAX_TABLE_CAPACITY: 4096, Setting.H3_DATAGRAM: 1, 0x2B603742: 1, 0x21: 2**62 - 1}
    assert read_settings(encode_settings(values)) == values
    assert is_grease(0x21)


def test_only_a_server_announces_extended_connect() -> None:
    settings = H3Settings(extra={0x2C7CF000: 1})
    server, client = settings.values(is_client=False), settings.values(is_client=True)
    assert server[Setting.ENABLE_CONNECT_PROTOCOL] == 1
    assert Setting.ENABLE_CONNECT_PROTOCOL not in client
    for values in (server, client):
        assert values[0x33] == values[0xFFD277] == values[0x2C7CF000] == 1


@pytest.mark.parametrize("identifier", sorted(FORBIDDEN_SETTINGS))
def test_http2_settings_are_an_error_both_ways(identifier: int) -> None:
    with pytest.raises(H3ConnectionError) as error:
        read_settings(encode_settings({identifier: 0}))
    assert error.value.code == H3ErrorCode.H3_SETTINGS_ERROR
    with pytest.raises(ConfigurationError):
        H3Settings(extra={identifier: 0})


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (encode_settings({0x33: 2}), H3ErrorCode.H3_SETTINGS_ERROR),
        (encode_settings({0x08: 2}), H3ErrorCode.H3_SETTINGS_ERROR),
        (encode_settings({0x21: 1}) * 2, H3ErrorCode.H3_SETTINGS_ERROR),
        (b"\x01", H3ErrorCode.H3_FRAME_ERROR),
        (b"\x01\x40", H3ErrorCode.H3_FRAME_ERROR),
    ],
)
def test_broken_settings(payload: bytes, code: int) -> None:
    with pytest.raises(H3ConnectionError) as error:
        read_settings(payload)
    assert error.value.code == code


@given(st.binary(max_size=200))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    with contextlib.suppress(H3ConnectionError):
        read_settings(payload)


@pytest.mark.parametrize("knob", ["qpack_max_table_capacity", "qpack_blocked_streams", "max_field_section_size"])
def test_settings_out_of_range_are_refused(knob: str) -> None:
    with pytest.raises(ConfigurationError, match=knob):
        H3Settings(**{knob: -1})  # type: ignore[arg-type]

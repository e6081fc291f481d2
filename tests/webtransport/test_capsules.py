from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webtransport.capsules import (
    CAPSULE_LIMITS,
    FLOW_CONTROL_CAPSULES,
    CapsuleError,
    encode_close,
    encode_limit,
    read_close,
    read_limit,
    truncate_reason,
)
from webtransport.codes import CapsuleType, ErrorCode


def test_close_as_in_the_vectors() -> None:
    assert encode_close(7, "bye") == bytes.fromhex("00000007627965")
    assert read_close(bytes.fromhex("00000007627965")) == (7, "bye")
    assert read_close(bytes(4)) == (0, "")


def test_reason_is_cut_at_a_character() -> None:
    reason = "€" * 400  # three bytes each: 341 of them are 1023 bytes
    assert truncate_reason(reason) == ("€" * 341).encode()
    assert read_close(encode_close(1, reason)) == (1, "€" * 341)
    assert truncate_reason("x" * 1024) == b"x" * 1024


@pytest.mark.parametrize("value", [b"", bytes(3), bytes(4) + b"\xff", bytes(4) + b"x" * 1025])
def test_malformed_close(value: bytes) -> None:
    with pytest.raises(CapsuleError) as error:
        read_close(value)
    assert error.value.code == ErrorCode.H3_MESSAGE_ERROR


@pytest.mark.parametrize("code", [-1, 1 << 32])
def test_close_code_has_32_bits(code: int) -> None:
    with pytest.raises(ValueError, match="close code"):
        encode_close(code, "")


def test_limit_as_in_the_vectors() -> None:
    assert encode_limit(1000) == bytes.fromhex("43e8")
    assert read_limit(CapsuleType.WT_MAX_DATA, bytes.fromhex("43e8")) == 1000


@pytest.mark.parametrize("value", [b"", b"\x40", b"\x01\x00"])
def test_malformed_limit(value: bytes) -> None:
    with pytest.raises(CapsuleError) as error:
        read_limit(CapsuleType.WT_MAX_DATA, value)
    assert error.value.code == ErrorCode.H3_MESSAGE_ERROR


@pytest.mark.parametrize("capsule_type", sorted(FLOW_CONTROL_CAPSULES))
def test_more_streams_than_stream_ids(capsule_type: CapsuleType) -> None:
    most = 1 << 60
    assert read_limit(capsule_type, encode_limit(most)) == most
    if capsule_type in (CapsuleType.WT_MAX_DATA, CapsuleType.WT_DATA_BLOCKED):
        assert read_limit(capsule_type, encode_limit(most + 1)) == most + 1
    else:
        with pytest.raises(CapsuleError) as error:
            read_limit(capsule_type, encode_limit(most + 1))
        assert error.value.code == ErrorCode.WT_FLOW_CONTROL_ERROR


@given(st.binary(max_size=1100), st.sampled_from(sorted(CAPSULE_LIMITS)))
def test_any_value_is_read_or_refused(value: bytes, capsule_type: int) -> None:
    for reader in (lambda: read_close(value), lambda: read_limit(capsule_type, value)):
        try:
            reader()
        except CapsuleError as error:
            assert error.reason

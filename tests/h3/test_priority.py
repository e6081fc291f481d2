from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.errors import H3ConnectionError, H3ErrorCode
from h3.priority import DEFAULT_PRIORITY, Priority, parse_priority, read_priority_update


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (b"", DEFAULT_PRIORITY),
        (b"u=0", Priority(0, False)),
        (b"u=7, i", Priority(7, True)),
        (b"i;x=1,u=2;a", Priority(2, True)),
        (b"i=?0", DEFAULT_PRIORITY),
        (b"i=?1", Priority(3, True)),
        (b"u=9, i", Priority(3, True)),  # out of range: as if absent
        (b"u=-1", DEFAULT_PRIORITY),
        (b'u="1", i=1', DEFAULT_PRIORITY),
        (b"new=5, u=1", Priority(1, False)),
        (b"u=1, u=6", Priority(6, False)),  # RFC 8941: the last one counts
        (b"U=1;;;, ,=, \xff", DEFAULT_PRIORITY),
    ],
)
def test_field_value(value: bytes, priority: Priority) -> None:
    assert parse_priority(value) == priority


def test_update_names_its_element() -> None:
    assert read_priority_update(b"\x04u=1") == (4, Priority(1, False))
    with pytest.raises(H3ConnectionError) as error:
        read_priority_update(b"\x40")
    assert error.value.code == H3ErrorCode.H3_FRAME_ERROR


@given(st.binary(max_size=60))
def test_any_value_is_a_priority(value: bytes) -> None:
    assert 0 <= parse_priority(value).urgency <= 7

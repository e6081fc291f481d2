from __future__ import annotations

import pytest

from h3.errors import H3ConnectionError, H3ErrorCode
from h3.peer_stream import check_session_id


@pytest.mark.parametrize("session_id", [0, 4, 2**62 - 4])
def test_session_ids_are_ids_of_request_streams(session_id: int) -> None:
    check_session_id(session_id)


@pytest.mark.parametrize("session_id", [1, 2, 3, 5, 2**62 - 1])
def test_other_streams_are_no_sessions(session_id: int) -> None:
    with pytest.raises(H3ConnectionError) as error:
        check_session_id(session_id)
    assert error.value.code == H3ErrorCode.H3_ID_ERROR

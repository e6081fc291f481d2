from __future__ import annotations

from h3.errors import H3ConnectionError, H3Error, H3ErrorCode, H3StreamError, InvalidMessage, h3_error_name, malformed
from quicstack.errors import QuicstackError


def test_names() -> None:
    assert h3_error_name(0x106) == "H3_FRAME_ERROR"
    assert h3_error_name(0x52E4A40FA8DB) == "0x52e4a40fa8db"


def test_one_root() -> None:
    for kind in (H3ConnectionError, H3StreamError, InvalidMessage):
        assert issubclass(kind, H3Error) and issubclass(kind, QuicstackError)


def test_a_message_says_name_and_reason() -> None:
    error = malformed("two of :path")
    assert error.code == H3ErrorCode.H3_MESSAGE_ERROR and error.reason == "two of :path"
    assert str(error) == "H3_MESSAGE_ERROR: two of :path"
    assert str(H3StreamError(0x10C)) == "H3_REQUEST_CANCELLED"

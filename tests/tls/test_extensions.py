from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quicstack.errors import TransportError
from quicstack.tls import extensions as ext
from quicstack.tls.extensions import WHERE, ExtensionType, check_extensions

READERS: list[Callable[[bytes], Any]] = [
    lambda body: ext.read_code_points(body, ExtensionType.SUPPORTED_GROUPS),
    lambda body: ext.read_number(body, 2, ExtensionType.KEY_SHARE),
    ext.read_alpn,
    ext.read_cookie,
    ext.read_key_share_entries,
    ext.read_key_share_entry,
    ext.read_pre_shared_key,
    ext.read_server_name,
    ext.read_supported_versions,
]


@pytest.mark.parametrize("reader", range(len(READERS)))
@given(body=st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_readers_are_total(reader: int, body: bytes) -> None:
    try:
        READERS[reader](body)
    except TransportError as error:
        assert error.code in (0x132, 0x12F)


def test_writers_and_readers_agree() -> None:
    assert ext.read_alpn(ext.write_alpn([b"h3", b"\xfa"])) == (b"h3", b"\xfa")
    assert ext.read_server_name(ext.write_server_name("localhost")) == "localhost"
    assert ext.read_supported_versions(ext.write_supported_versions([0x0304, 0x0A0A])) == (0x0304, 0x0A0A)
    assert ext.read_key_share_entries(ext.write_key_share_entries({29: b"x", 23: b"yz"})) == {29: b"x", 23: b"yz"}
    assert ext.read_key_share_entries(ext.write_key_share_entries({})) == {}
    assert ext.read_key_share_entry(ext.write_key_share_entry(29, b"x")) == (29, b"x")


def test_names_of_unknown_types_are_skipped() -> None:
    assert ext.read_server_name(b"\x00\x09\x07\x00\x01x\x00\x00\x02ab") == "ab"
    assert ext.read_server_name(b"\x00\x04\x07\x00\x01x") is None


def test_psk_without_its_binder() -> None:
    identity = b"\x00\x01x\0\0\0\0"
    body = b"\x00\x0e" + identity * 2 + b"\x00\x21\x20" + bytes(32)
    with pytest.raises(TransportError, match="2 identities and 1 binders") as caught:
        ext.read_pre_shared_key(body)
    assert caught.value.code == 0x12F


MESSAGES = ["CH", "SH", "HRR", "EE", "CT", "CR", "NST"]


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("extension_type", WHERE)
def test_each_extension_in_each_message(extension_type: int, message: str) -> None:
    """RFC 8446 §4.2: illegal_parameter where it does not belong."""
    if message in WHERE[extension_type]:
        return check_extensions(message, [extension_type], offered=[extension_type])
    with pytest.raises(TransportError) as caught:
        check_extensions(message, [extension_type], offered=[extension_type])
    assert caught.value.code == 0x12F


def test_answers_need_an_offer() -> None:
    check_extensions("CH", [0x0A0A])
    check_extensions("NST", [0x0A0A])
    check_extensions("HRR", [ExtensionType.COOKIE], offered=[])
    with pytest.raises(TransportError, match="did not offer") as caught:
        check_extensions("EE", [0x0A0A], offered=[ExtensionType.ALPN])
    assert caught.value.code == 0x16E

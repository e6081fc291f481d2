from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from h3.errors import H3ErrorCode, H3StreamError
from h3.fields import (
    check_capsule_protocol,
    joined_cookies,
    validate_request,
    validate_response,
    validate_trailers,
)
from h3.qpack import Fields

GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.org:4433"),
    (b":path", b"/a?b=c"),
]
CONNECT: Fields = [(b":method", b"CONNECT"), (b":authority", b"example.org:443")]
EXTENDED: Fields = [*GET[1:], (b":method", b"CONNECT"), (b":protocol", b"webtransport")]


def without(fields: Fields, name: bytes) -> Fields:
    return [field for field in fields if field[0] != name]


def replaced(fields: Fields, name: bytes, value: bytes) -> Fields:
    return [(n, value if n == name else v) for n, v in fields]


def test_a_request() -> None:
    head = validate_request([*GET, (b"content-length", b"12"), (b"te", b"trailers")], extended_connect=False)
    assert head == (b"GET", b"https", b"example.org:4433", b"/a?b=c", None, 12)
    assert not head.is_connect


def test_host_stands_in_for_authority() -> None:
    fields = [*without(GET, b":authority"), (b"host", b"example.org")]
    assert validate_request(fields, extended_connect=False).authority == b"example.org"
    both = [*GET, (b"host", b"EXAMPLE.org:4433")]
    assert validate_request(both, extended_connect=False).authority == b"example.org:4433"


def test_connect_in_both_forms() -> None:
    assert validate_request(CONNECT, extended_connect=False).is_connect
    head = validate_request(EXTENDED, extended_connect=True)
    assert head.is_connect and head.protocol == b"webtransport"


def test_options_asterisk() -> None:
    fields = replaced(replaced(GET, b":method", b"OPTIONS"), b":path", b"*")
    assert validate_request(fields, extended_connect=False).path == b"*"


BAD_REQUESTS: dict[str, Fields] = {
    "nothing": [],
    "no method": without(GET, b":method"),
    "no scheme": without(GET, b":scheme"),
    "no path": without(GET, b":path"),
    "no authority and no host": without(GET, b":authority"),
    "empty authority": replaced(GET, b":authority", b""),
    "userinfo": replaced(GET, b":authority", b"user@example.org"),
    "empty path": replaced(GET, b":path", b""),
    "path without slash": replaced(GET, b":path", b"a"),
    "asterisk with GET": replaced(GET, b":path", b"*"),
    "space in path": replaced(GET, b":path", b"/a b"),
    "method is not a token": replaced(GET, b":method", b"G T"),
    "scheme is not one": replaced(GET, b":scheme", b"1s"),
    "host differs": [*GET, (b"host", b"example.com")],
    "host twice": [*without(GET, b":authority"), (b"host", b"a"), (b"host", b"a")],
    "host is empty": [*without(GET, b":authority"), (b"host", b"")],
    "unknown pseudo": [*GET, (b":foo", b"bar")],
    "status in a request": [*GET, (b":status", b"200")],
    "pseudo after regular": [*GET[:3], (b"accept", b"*/*"), GET[3]],
    "uppercase": [*GET, (b"Accept", b"*/*")],
    "empty name": [*GET, (b"", b"x")],
    "space in name": [*GET, (b"a b", b"x")],
    "colon in name": [*GET, (b"a:b", b"x")],
    "control in name": [*GET, (b"a\x01", b"x")],
    "non-ASCII name": [*GET, (b"\xe4", b"x")],
    "CR in value": [*GET, (b"a", b"x\ry")],
    "LF in value": [*GET, (b"a", b"x\ny")],
    "NUL in value": [*GET, (b"a", b"x\x00")],
    "DEL in value": [*GET, (b"a", b"x\x7f")],
    "leading space in value": [*GET, (b"a", b" x")],
    "trailing tab in value": [*GET, (b"a", b"x\t")],
    "connection": [*GET, (b"connection", b"close")],
    "keep-alive": [*GET, (b"keep-alive", b"1")],
    "proxy-connection": [*GET, (b"proxy-connection", b"close")],
    "transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")],
    "upgrade": [*GET, (b"upgrade", b"h2c")],
    "te": [*GET, (b"te", b"gzip")],
    "content-length is no number": [*GET, (b"content-length", b"1x")],
    "content-length is negative": [*GET, (b"content-length", b"-1")],
    "content-length twice": [*GET, (b"content-length", b"1"), (b"content-length", b"1")],
    "connect with scheme": [*CONNECT, (b":scheme", b"https")],
    "connect with path": [*CONNECT, (b":path", b"/")],
    "connect without authority": CONNECT[:1],
    "protocol with GET": [*GET, (b":protocol", b"webtransport")],
    "extended connect without path": without(EXTENDED, b":path"),
    "extended connect without scheme": without(EXTENDED, b":scheme"),
    "extended connect without authority": without(EXTENDED, b":authority"),
    **{f"{name.decode()} twice": [*GET, (name, value)] for name, value in GET},
}


@pytest.mark.parametrize("fields", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_malformed_requests(fields: Fields) -> None:
    with pytest.raises(H3StreamError) as error:
        validate_request(fields, extended_connect=True)
    assert error.value.code == H3ErrorCode.H3_MESSAGE_ERROR


def test_protocol_is_unknown_until_it_is_negotiated() -> None:
    with pytest.raises(H3StreamError):
        validate_request(EXTENDED, extended_connect=False)


def test_responses() -> None:
    assert validate_response([(b":status", b"200"), (b"content-length", b"0")]) == (200, 0)
    assert validate_response([(b":status", b"103")]).is_informational


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"server", b"x")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"abc")],
        [(b":status", b"099")],
        [(b":status", b"101")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b"server", b"x"), (b":status", b"200")],
        [(b":status", b"200"), (b"connection", b"close")],
    ],
)
def test_malformed_responses(fields: Fields) -> None:
    with pytest.raises(H3StreamError) as error:
        validate_response(fields)
    assert error.value.code == H3ErrorCode.H3_MESSAGE_ERROR


def test_trailers_have_no_pseudo_header_fields() -> None:
    validate_trailers([(b"x-checksum", b"1")])
    with pytest.raises(H3StreamError):
        validate_trailers([(b":status", b"200")])


@pytest.mark.parametrize("field", [(b"content-length", b"0"), (b"content-type", b"a/b"), (b":status", b"204")])
def test_what_a_stream_of_capsules_must_not_say(field: tuple[bytes, bytes]) -> None:
    check_capsule_protocol([(b":status", b"200"), (b"capsule-protocol", b"?1")])
    with pytest.raises(H3StreamError) as error:
        check_capsule_protocol([field])
    assert error.value.code == H3ErrorCode.H3_MESSAGE_ERROR


def test_cookie_crumbs_are_joined() -> None:
    fields = [(b"cookie", b"a=1"), (b"accept", b"*/*"), (b"cookie", b"b=2")]
    assert joined_cookies(fields) == [(b"accept", b"*/*"), (b"cookie", b"a=1; b=2")]
    assert joined_cookies(fields[:2]) == fields[:2]


names = st.one_of(st.sampled_from([n for n, _ in EXTENDED]), st.binary(max_size=5))
any_fields = st.lists(st.tuples(names, st.binary(max_size=8)), max_size=7)


@given(any_fields)
def test_any_fields_are_valid_or_malformed(fields: Fields) -> None:
    for validate in (
        lambda: validate_request(fields, extended_connect=True),
        lambda: validate_response(fields),
        lambda: validate_trailers(fields),
    ):
        try:
            validate()
        except H3StreamError as error:
            assert error.code == H3ErrorCode.H3_MESSAGE_ERROR


def test_a_long_value_takes_linear_time() -> None:
    value = b"a" + b" \t" * 8000 + b"\x00"
    with pytest.raises(H3StreamError):
        validate_trailers([(b"a", value)])

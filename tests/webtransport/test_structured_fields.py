from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webtransport.structured_fields import (
    Token,
    parse_item,
    parse_list,
    serialize_list,
    serialize_string,
    serialize_token,
)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", []),
        ('"a", "b"', ["a", "b"]),
        ('  "a"\t,\t"b"  ', ["a", "b"]),
        ('"a";q=1;x, "b"; y="z"', ["a", "b"]),
        ("a, b", ["a", "b"]),
        (r'"say \"hi\" \\"', ['say "hi" \\']),
        ("1, 2.5, ?1, :aGk=:", [1, 2.5, True, b":aGk=:"]),
        ('("a" "b");x, "c"', [b"()", "c"]),
        ("()", [b"()"]),
        ("@1659578233", [b"@1659578233"]),
        ('%"f%c3%bc"', [b'%"f%c3%bc"']),
    ],
)
def test_lists(text: str, members: list[object]) -> None:
    assert parse_list(text) == members


@pytest.mark.parametrize(
    "text", ['"a",', ",", '"a" "b"', '"a', 'a b"', '"\x7f"', '"ü"', "(", '("a""b")', '"a";Q', r'"\x"', "?2", ";"]
)
def test_what_does_not_parse_is_absent(text: str) -> None:
    assert parse_list(text) is None


def test_types_are_told_apart() -> None:
    word, text = parse_list('moq, "moq"') or []
    assert isinstance(word, Token)
    assert not isinstance(text, Token)
    assert word == text


@pytest.mark.parametrize(("text", "value"), [('"chat"', "chat"), (' "chat";v=2 ', "chat"), ("chat", "chat"), ("7", 7)])
def test_items(text: str, value: object) -> None:
    assert parse_item(text) == value


@pytest.mark.parametrize("text", ["", '"a", "b"', '"a', "{}"])
def test_items_that_do_not_parse(text: str) -> None:
    assert parse_item(text) is None


def test_serialize() -> None:
    assert serialize_list(["a", 'b"c\\']) == r'"a", "b\"c\\"'
    assert serialize_list(["a", "b/1"], tokens=True) == "a, b/1"
    with pytest.raises(ValueError, match="cannot hold"):
        serialize_string("ü")
    with pytest.raises(ValueError, match="not a token"):
        serialize_token("1a")


printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))


@given(st.lists(printable))
def test_strings_round_trip(values: list[str]) -> None:
    assert parse_list(serialize_list(values)) == values


@given(st.text(max_size=60))
def test_any_text_parses_or_not(text: str) -> None:
    parse_list(text)
    parse_item(text)

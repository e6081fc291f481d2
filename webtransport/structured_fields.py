"""The little of Structured Fields (RFC 9651) that subprotocol negotiation needs: lists and items of strings and tokens.

A field that does not parse is as if it were absent (RFC 9651 §4.2), so the readers return None and never raise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Token", "parse_item", "parse_list", "serialize_list", "serialize_string", "serialize_token"]


class Token(str):
    """A bare word (RFC 9651 §3.3.4), told apart from a quoted string by its type."""

    __slots__ = ()


Bare = str | int | float | bool | bytes

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,3})?")
_DATE = re.compile(r"@-?\d{1,15}")
_BINARY = re.compile(r":([A-Za-z0-9+/=]*):")
_BOOLEAN = re.compile(r"\?([01])")
_DISPLAY = re.compile(r'%"(?:[ !#$&-~]|%[0-9a-f]{2})*"')
_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_SPACES = re.compile(r" *")
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_END = re.compile(r" *\Z")


class _Unparsable(Exception):
    pass


def _bare_item(text: str, at: int) -> tuple[Bare, int]:
    """RFC 9651 §4.2.3.1. Types that no caller wants are kept as text: their presence matters, not their value."""
    if match := _STRING.match(text, at):
        return re.sub(r"\\(.)", r"\1", match[1]), match.end()
    if match := _TOKEN.match(text, at):
        return Token(match[0]), match.end()
    if match := _BOOLEAN.match(text, at):
        return match[1] == "1", match.end()
    if match := _NUMBER.match(text, at):
        return float(match[0]) if "." in match[0] else int(match[0]), match.end()
    for pattern in (_BINARY, _DATE, _DISPLAY):
        if match := pattern.match(text, at):
            return match[0].encode(), match.end()
    raise _Unparsable


def _parameters(text: str, at: int) -> int:
    """RFC 9651 §4.2.3.2, skipped: none has a meaning here."""
    while text[at : at + 1] == ";":
        at = _SPACES.match(text, at + 1).end()  # type: ignore[union-attr]
        key = _KEY.match(text, at)
        if key is None:
            raise _Unparsable
        at = key.end()
        if text[at : at + 1] == "=":
            _, at = _bare_item(text, at + 1)
    return at


def _inner_list(text: str, at: int) -> int:
    """RFC 9651 §4.2.1.2, skipped."""
    at += 1
    while True:
        at = _SPACES.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] == ")":
            return at + 1
        _, at = _bare_item(text, at)
        at = _parameters(text, at)
        if text[at : at + 1] not in (" ", ")"):
            raise _Unparsable


def parse_list(text: str) -> list[Bare] | None:
    """RFC 9651 §4.2.1: the members of a list, an inner list being ``b"()"``; None if it does not parse."""
    members: list[Bare] = []
    at = _SPACES.match(text).end()  # type: ignore[union-attr]
    try:
        while at < len(text):
            member: Bare
            if text[at] == "(":
                member, at = b"()", _inner_list(text, at)
            else:
                member, at = _bare_item(text, at)
            at = _parameters(text, at)
            members.append(member)
            if _END.match(text, at):
                return members
            comma = _COMMA.match(text, at)
            if comma is None or comma.end() == len(text):
                return None
            at = comma.end()
    except _Unparsable:
        return None
    return members


def parse_item(text: str) -> Bare | None:
    """RFC 9651 §4.2.3: one item; None if it does not parse."""
    try:
        value, at = _bare_item(text, _SPACES.match(text).end())  # type: ignore[union-attr]
        at = _parameters(text, at)
    except _Unparsable:
        return None
    return value if _END.match(text, at) else None


def serialize_string(value: str) -> str:
    """RFC 9651 §4.1.6. Only printable ASCII can be said."""
    if not all(" " <= character <= "~" for character in value):
        raise ValueError(f"{value!r} has characters that a structured field string cannot hold")
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def serialize_token(value: str) -> str:
    """RFC 9651 §4.1.7."""
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"{value!r} is not a token")
    return value


def serialize_list(values: Iterable[str], *, tokens: bool = False) -> str:
    """RFC 9651 §4.1.1, for strings or tokens."""
    return ", ".join(serialize_token(value) if tokens else serialize_string(value) for value in values)

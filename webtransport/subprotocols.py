"""Agreeing on an application protocol in the CONNECT request and its response (draft-16 §3.3).

The client lists what it speaks, the server names one of it. Fields that do not parse, and members that are no strings,
make a field count as absent; parameters mean nothing. Drafts -09 to -12 wrote tokens where later ones write strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from webtransport.dialects import Dialect
from webtransport.structured_fields import Token, parse_item, parse_list, serialize_list, serialize_string

__all__ = ["Offer", "answer_header", "choose", "offer_header", "read_answer", "read_offer"]

HeaderList = Iterable[tuple[bytes, bytes]]


class Offer(tuple[str, ...]):
    """What a client offers, best first; ``answer_name`` and ``as_tokens`` say how it wants the answer."""

    answer_name: str
    as_tokens: bool

    def __new__(cls, values: Iterable[str] = (), answer_name: str = "", as_tokens: bool = False) -> Offer:
        offer = super().__new__(cls, values)
        offer.answer_name = answer_name
        offer.as_tokens = as_tokens
        return offer


def _field(headers: HeaderList, name: str) -> str | None:
    """The lines of a field joined as RFC 9110 §5.3 has it, None if there is none."""
    wanted = name.encode()
    lines = [value for field_name, value in headers if field_name == wanted]
    return b", ".join(lines).decode("latin-1") if lines else None


def _acceptable(member: object, dialect: Dialect) -> bool:
    return isinstance(member, str) and (dialect.tokens_allowed or not isinstance(member, Token))


def offer_header(dialect: Dialect, subprotocols: Sequence[str]) -> tuple[bytes, bytes]:
    """The request field that lists ``subprotocols``. ValueError if one cannot be written."""
    name, _ = dialect.available_headers[0]
    return name.encode(), serialize_list(subprotocols).encode()


def read_offer(dialect: Dialect, headers: Sequence[tuple[bytes, bytes]]) -> Offer:
    """What the client offers; empty if nothing, or nothing that is valid in its draft."""
    for name, answer_name in dialect.available_headers:
        text = _field(headers, name)
        if text is None:
            continue
        members = parse_list(text)
        if members and all(_acceptable(member, dialect) for member in members):
            values = [str(member) for member in members if isinstance(member, str)]
            return Offer(values, answer_name, all(isinstance(member, Token) for member in members))
    return Offer()


def choose(offer: Sequence[str], supported: Sequence[str]) -> str | None:
    """The first of the client's choices that the server has too."""
    return next((name for name in offer if name in supported), None)


def answer_header(offer: Offer, subprotocol: str) -> tuple[bytes, bytes]:
    """The response field that names the choice, spelled as the client spelled its list."""
    value = subprotocol if offer.as_tokens else serialize_string(subprotocol)
    return offer.answer_name.encode(), value.encode()


def read_answer(dialect: Dialect, headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """What the server chose, None if it chose nothing or wrote it wrongly."""
    for _, name in dialect.available_headers:
        text = _field(headers, name)
        if text is None:
            continue
        value = parse_item(text)
        if isinstance(value, str) and _acceptable(value, dialect):
            return str(value)
    return None

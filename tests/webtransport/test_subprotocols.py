from __future__ import annotations

import pytest

from webtransport.dialects import DIALECTS, DRAFT02, DRAFT07, DRAFT14, DRAFT16, Dialect
from webtransport.subprotocols import answer_header, choose, offer_header, read_answer, read_offer


def available(value: str, name: str = "wt-available-protocols") -> list[tuple[bytes, bytes]]:
    return [(b":method", b"CONNECT"), (name.encode(), value.encode())]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_strings_in_every_dialect(dialect: Dialect) -> None:
    header = offer_header(dialect, ["moq-14", 'odd "one"'])
    assert header == (b"wt-available-protocols", rb'"moq-14", "odd \"one\""')
    offer = read_offer(dialect, [header])
    assert offer == ("moq-14", 'odd "one"')
    answer = answer_header(offer, 'odd "one"')
    assert answer == (b"wt-protocol", rb'"odd \"one\""')
    assert read_answer(dialect, [answer]) == 'odd "one"'


def test_tokens_count_in_old_dialects_only() -> None:
    for dialect in (DRAFT02, DRAFT07):
        offer = read_offer(dialect, available("chat, moq"))
        assert offer == ("chat", "moq")
        assert answer_header(offer, "moq") == (b"wt-protocol", b"moq")
        assert read_answer(dialect, [(b"wt-protocol", b"moq")]) == "moq"
    for dialect in (DRAFT14, DRAFT16):
        assert read_offer(dialect, available("chat, moq")) == ()
        assert read_answer(dialect, [(b"wt-protocol", b"moq")]) is None


def test_field_names_of_draft_09() -> None:
    offer = read_offer(DRAFT07, available("chat", "webtransport-subprotocols-available"))
    assert answer_header(offer, "chat") == (b"webtransport-subprotocol", b"chat")
    assert read_offer(DRAFT14, available('"chat"', "webtransport-subprotocols-available")) == ()


@pytest.mark.parametrize("value", ['"a", 1', '"a', '"a", b', "", "?1", '("a")'])
def test_one_bad_member_spoils_the_field(value: str) -> None:
    assert read_offer(DRAFT16, available(value)) == ()


def test_several_lines_are_one_field_and_parameters_mean_nothing() -> None:
    headers = available('"a";q=0.1') + available('"b"')
    assert read_offer(DRAFT16, headers) == ("a", "b")


def test_the_clients_order_counts() -> None:
    assert choose(("c", "b", "a"), ("a", "b")) == "b"
    assert choose(("c",), ("a", "b")) is None
    assert choose((), ("a",)) is None

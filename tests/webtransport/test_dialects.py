from __future__ import annotations

import pytest

from webtransport.codes import MAX_APPLICATION_ERROR
from webtransport.dialects import (
    DIALECTS,
    DRAFT02,
    DRAFT07,
    DRAFT14,
    DRAFT16,
    Dialect,
    FlowLimits,
    Setting,
    choose_for_client,
    choose_for_server,
    dialect_named,
    flow_control_agreed,
    settings_to_send,
)

LIMITS = FlowLimits(1000, 10, 20)
NONE = FlowLimits()


def offer(*dialects: Dialect, server: bool = True, limits: FlowLimits = LIMITS) -> dict[int, int]:
    return settings_to_send(server=server, max_sessions=5, limits=limits, dialects=dialects or DIALECTS)


def test_a_server_offers_every_dialect_at_once() -> None:
    assert offer() == {
        0x08: 1,
        0x33: 1,
        0xFFD277: 1,
        0x2B603742: 1,
        0xC671706A: 5,
        0x14E9CD29: 5,
        0x2C7CF000: 1,
        0x2B61: 1000,
        0x2B65: 10,
        0x2B64: 20,
    }


def test_without_limits_one_session_is_offered_where_more_would_need_them() -> None:
    settings = offer(limits=NONE)
    assert settings[Setting.WT_MAX_SESSIONS] == 1
    assert settings[Setting.WEBTRANSPORT_MAX_SESSIONS] == 5
    assert Setting.WT_INITIAL_MAX_DATA not in settings


def test_a_client_sends_the_support_settings_too() -> None:
    assert offer(server=False) == offer()
    assert Setting.ENABLE_CONNECT_PROTOCOL not in offer(DRAFT02, server=False)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_each_dialect_alone_is_agreed_on(dialect: Dialect) -> None:
    ours, theirs = offer(), offer(dialect)
    assert choose_for_client(theirs) is dialect
    assert choose_for_server(theirs, dialect.protocol) is dialect
    assert choose_for_client(ours, (dialect,)) is dialect


def test_the_newest_common_dialect_holds() -> None:
    assert choose_for_client(offer()) is DRAFT16
    assert choose_for_client(offer(DRAFT02, DRAFT07)) is DRAFT07
    assert choose_for_server(offer(DRAFT02, DRAFT07), "webtransport") is DRAFT07
    assert choose_for_server(offer(DRAFT02, DRAFT07, DRAFT14), "webtransport") is DRAFT14
    assert choose_for_server(offer(), "webtransport-h3") is DRAFT16


CHROMIUM = {0x1: 65536, 0x6: 16384, 0x7: 100, 0x33: 1, 0xFFD277: 1, 0x2B603742: 1, 0x4A4A: 7}
FIREFOX = {0x1: 65536, 0x7: 20, 0x08: 1, 0x33: 1, 0xFFD277: 1, 0x2B603742: 1}


@pytest.mark.parametrize("settings", [CHROMIUM, FIREFOX])
def test_browsers_get_draft_02(settings: dict[int, int]) -> None:
    assert choose_for_server(settings, "webtransport") is DRAFT02


def test_chromium_with_its_draft_07_switch() -> None:
    assert choose_for_server({**CHROMIUM, 0xC671706A: 1}, "webtransport") is DRAFT07


def test_clients_without_a_support_setting() -> None:
    assert choose_for_server({0x33: 1}, "webtransport") is DRAFT07
    assert choose_for_server({0x33: 1}, "webtransport-h3") is DRAFT16


@pytest.mark.parametrize("token", ["webtransport", "webtransport-h3"])
def test_no_datagrams_no_session(token: str) -> None:
    settings = offer()
    del settings[Setting.H3_DATAGRAM], settings[Setting.H3_DATAGRAM_DRAFT04]
    assert choose_for_server(settings, token) is None
    assert choose_for_client(settings) is None


def test_unknown_token() -> None:
    assert choose_for_server(offer(), "websocket") is None


def test_extended_connect_is_required_but_of_draft_02() -> None:
    settings = offer()
    del settings[Setting.ENABLE_CONNECT_PROTOCOL]
    assert choose_for_client(settings) is DRAFT02


@pytest.mark.parametrize(
    ("dialect", "local", "peer", "agreed"),
    [
        (DRAFT02, LIMITS, LIMITS, False),
        (DRAFT07, LIMITS, LIMITS, False),
        (DRAFT14, LIMITS, LIMITS, True),
        (DRAFT14, LIMITS, NONE, False),
        (DRAFT16, LIMITS, LIMITS, True),
        (DRAFT16, LIMITS, FlowLimits(max_streams_uni=1), True),
        (DRAFT16, NONE, LIMITS, False),
        (DRAFT16, LIMITS, NONE, False),
    ],
)
def test_flow_control_needs_both(dialect: Dialect, local: FlowLimits, peer: FlowLimits, agreed: bool) -> None:
    assert flow_control_agreed(dialect, offer(limits=local), offer(limits=peer, server=False)) is agreed


def test_draft_14_also_counts_sessions() -> None:
    assert flow_control_agreed(DRAFT14, {Setting.WT_MAX_SESSIONS: 2}, {Setting.WT_MAX_SESSIONS: 2})
    assert not flow_control_agreed(DRAFT14, {Setting.WT_MAX_SESSIONS: 2}, {Setting.WT_MAX_SESSIONS: 1})


def test_rows() -> None:
    assert [dialect.name for dialect in DIALECTS] == ["draft-16", "draft-14", "draft-07", "draft-02"]
    assert DRAFT02.max_stream_error == 0xFF
    assert DRAFT07.max_stream_error == MAX_APPLICATION_ERROR
    assert dialect_named("draft-07") is DRAFT07
    with pytest.raises(ValueError, match="draft-16, draft-14"):
        dialect_named("draft-99")

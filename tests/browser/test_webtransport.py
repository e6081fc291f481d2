"""WebTransport between our server and Chromium and Firefox as people have them.

What Firefox ESR 153 lacks is asserted as well: this file says what to expect of it, and fails when that changes.
It sends the code of an aborted stream and shows the code of a STOP_SENDING, but that of a reset only to a page that
begins to read afterwards, else a bare TypeError; cancelling a reader sends nothing; `protocols` is unknown; the session
of a page that is gone stays; and a unidirectional stream of the server that ends without a byte closes its connection
with H3_GENERAL_PROTOCOL_ERROR.
"""

from __future__ import annotations

import pytest

from tests.browser.conftest import CheckRunner
from tests.browser.driver import Browser
from tests.browser.server import EchoServer

pytestmark = pytest.mark.browser

MEGABYTE = 1 << 20
LARGEST_CODE = 0xFFFFFFFF


def test_datagrams_come_back(check: CheckRunner) -> None:
    assert check("datagramEcho", "/echo", count=20, size=100) == {"intact": 20}


def test_the_largest_datagram_of_the_browser_arrives(check: CheckRunner, server: EchoServer) -> None:
    size = check("largestDatagram", "/echo")["size"]
    assert size >= 1000
    assert server.record("datagram") == size


def test_a_megabyte_comes_back_on_a_bidirectional_stream(check: CheckRunner) -> None:
    assert check("bidirectionalEcho", "/echo", size=MEGABYTE) == {"size": MEGABYTE, "intact": True}


def test_a_reader_that_is_late_loses_nothing(check: CheckRunner) -> None:
    assert check("slowReader", "/echo", size=2 * MEGABYTE) == {"intact": True}


def test_fifty_streams_at_once(check: CheckRunner) -> None:
    assert check("manyStreams", "/echo", count=50, size=3000) == {"intact": 50}


def test_an_empty_stream_comes_back_empty(check: CheckRunner) -> None:
    assert check("bidirectionalEcho", "/echo", size=0) == {"size": 0, "intact": True}


def test_unidirectional_streams_both_ways(check: CheckRunner) -> None:
    texts = ["Grüße", "one", "x" * 5000]
    assert check("unidirectionalEcho", "/echo", texts=texts) == texts


def test_empty_unidirectional_streams_both_ways(check: CheckRunner, browser: Browser) -> None:
    if browser.name == "firefox":
        pytest.skip("not here: Firefox closes the connection when a stream of the server ends right behind its header")
    assert check("unidirectionalEcho", "/echo", texts=["", ""]) == ["", ""]


def test_streams_that_the_server_opens(check: CheckRunner, server: EchoServer) -> None:
    seen = check("serverStreams", "/server-streams", count=5)
    assert seen["bidirectional"] == [f"bidirectional {i}" for i in range(5)]
    assert seen["unidirectional"] == [f"unidirectional {i}" for i in range(5)]
    answers = sorted(server.record("answer") for _ in range(5))
    assert answers == [f"answer to bidirectional {i}" for i in range(5)]


@pytest.mark.parametrize(("code", "reason"), [(0, ""), (77, "done"), (LARGEST_CODE, "Grüße 👋 こんにちは")])
def test_the_page_learns_why_the_server_closed(check: CheckRunner, code: int, reason: str) -> None:
    seen = check("closedByServer", "/close", code=code, reason=reason)
    assert seen == {"ok": True, "value": {"code": code, "reason": reason}}


@pytest.mark.parametrize(("code", "reason"), [(0, ""), (77, "done"), (LARGEST_CODE, "Grüße 👋 こんにちは")])
def test_the_server_learns_why_the_page_closed(check: CheckRunner, server: EchoServer, code: int, reason: str) -> None:
    seen = check("closedByPage", "/close-wait", info={"code": code, "reason": reason})
    assert seen == {"ok": True, "value": {"code": code, "reason": reason}}
    assert server.record("close") == (code, reason)


def test_close_without_arguments_is_code_zero(check: CheckRunner, server: EchoServer) -> None:
    assert check("closedByPage", "/close-wait")["ok"]
    assert server.record("close") == (0, "")


def test_a_page_that_goes_away_ends_its_session(check: CheckRunner, server: EchoServer, browser: Browser) -> None:
    if browser.name == "firefox":
        pytest.skip("not here: Firefox keeps the session of a page that is gone, and pings to keep it alive")
    assert check("connectAndStay", "/close-wait")
    browser.open("about:blank")
    server.record("close")


def test_an_unknown_path_is_refused(check: CheckRunner, server: EchoServer, browser: Browser) -> None:
    seen = check("connectOnly", "/nowhere")
    assert not seen["ready"]["ok"] and not seen["closed"]["ok"]
    assert seen["ready"]["name"] == "WebTransportError"
    assert seen["ready"]["source"] == "session"
    assert check("bidirectionalEcho", "/echo", size=100)["intact"], "the server must go on after a refusal"


def test_a_certificate_with_another_hash_is_refused(check: CheckRunner) -> None:
    seen = check("connectOnly", "/echo", hash=[0] * 32)
    assert not seen["ready"]["ok"]
    assert seen["ready"]["name"] == "WebTransportError"


def test_two_sessions_of_one_page(check: CheckRunner) -> None:
    assert check("twoSessions", "/echo", text="session") == ["session 0", "session 1"]


@pytest.mark.parametrize("code", [0, 30, 255])
def test_the_page_sees_that_the_server_reset_a_stream(check: CheckRunner, code: int) -> None:
    seen = check("resetByServer", "/reset", code=code, late=True)
    assert (seen["name"], seen["source"], seen["code"]) == ("WebTransportError", "stream", code)


def test_a_reset_reaches_a_page_that_is_reading(check: CheckRunner, browser: Browser) -> None:
    seen = check("resetByServer", "/reset", code=30)
    assert not seen["ok"]
    assert seen["code"] == 30 or browser.name == "firefox"


@pytest.mark.parametrize("code", [0, 30, 255])
def test_the_page_sees_that_the_server_reads_no_more(check: CheckRunner, code: int) -> None:
    seen = check("stoppedByServer", "/reset", code=code)
    assert (seen["name"], seen["source"], seen["code"]) == ("WebTransportError", "stream", code)


@pytest.mark.parametrize("code", [0, 30, 255])
def test_the_server_sees_the_code_of_an_aborted_stream(check: CheckRunner, server: EchoServer, code: int) -> None:
    assert check("resetByPage", "/reset", code=code) == {"code": code}
    assert server.record("reset") == code


@pytest.mark.parametrize("code", [0, 30, 255])
def test_the_server_sees_the_code_of_a_cancelled_stream(
    check: CheckRunner, server: EchoServer, browser: Browser, code: int
) -> None:
    assert check("stoppedByPage", "/reset", code=code) == {"code": code}
    if browser.name == "firefox":
        assert server.record("stop") is None, "stopped by the end of the session, without a code of WebTransport"
    else:
        assert server.record("stop") == code


def test_protocols_of_the_page(check: CheckRunner, server: EchoServer, browser: Browser) -> None:
    """The first of those that the page offers that the server speaks too. Firefox has no `protocols` yet."""
    chosen = check("protocol", "/protocol", options={"protocols": ["chat-3", "chat-2", "chat-1"]})
    assert chosen == (None if browser.name == "firefox" else "chat-2")
    assert server.record("session")[1] == chosen


def test_both_browsers_speak_draft_02(check: CheckRunner, server: EchoServer) -> None:
    assert check("closedByPage", "/close-wait")["ok"]
    assert server.record("session")[0] == "draft-02"


def test_chromium_speaks_draft_07_when_told_to(check_draft07: CheckRunner, server: EchoServer) -> None:
    assert check_draft07("closedByPage", "/close-wait", info={"code": 5, "reason": "bye"})["ok"]
    assert server.record("session")[0] == "draft-07"
    assert server.record("close") == (5, "bye")
    assert check_draft07("datagramEcho", "/echo", count=5, size=100) == {"intact": 5}
    assert check_draft07("bidirectionalEcho", "/echo", size=100_000)["intact"]

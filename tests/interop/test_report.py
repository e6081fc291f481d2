"""What the matrix says, and whose failure a failure is."""

from __future__ import annotations

import json
from pathlib import Path

from interop.cases import CASES
from interop.report import WHAT, Outcome, Result, Results, matrix, write_report


def results(*rows: tuple[str, str, str, Outcome]) -> Results:
    found = Results()
    for client, server, case, outcome in rows:
        found.add(Result(case, client, server, outcome, ["it did not work"] if outcome is Outcome.FAILED else []))
    return found


PASSED, FAILED, UNSUPPORTED = Outcome.PASSED, Outcome.FAILED, Outcome.UNSUPPORTED


def test_a_line_for_each_pair() -> None:
    text = matrix(
        results(
            ("quicstack", "aioquic", "retry", PASSED),
            ("quicstack", "aioquic", "handshake", PASSED),
            ("quicstack", "aioquic", "ecn", FAILED),
            ("quicstack", "aioquic", "v2", UNSUPPORTED),
        )
    )
    assert text.splitlines()[0] == "quicstack -> aioquic  ✓(H,S)  ✕(E)  ?(V2)"


def test_a_failure_is_ours_unless_the_peer_fails_alone() -> None:
    ours = ("quicstack", "aioquic", "transfer", FAILED)
    assert len(results(ours).ours_to_explain()) == 1
    assert len(results(ours, ("aioquic", "aioquic", "transfer", PASSED)).ours_to_explain()) == 1
    assert results(ours, ("aioquic", "aioquic", "transfer", FAILED)).ours_to_explain() == []
    assert len(results(("quicstack", "quicstack", "transfer", FAILED)).ours_to_explain()) == 1


def test_a_server_without_a_client_is_measured_with_another_peers() -> None:
    rows = results(("quicstack", "caddy", "transfer", FAILED), ("ngtcp2", "caddy", "transfer", FAILED))
    assert rows.ours_to_explain() == []
    alone = results(("quicstack", "caddy", "transfer", FAILED), ("ngtcp2", "ngtcp2", "transfer", FAILED))
    assert len(alone.ours_to_explain()) == 1


def test_the_page_has_every_case_and_every_failure(tmp_path: Path) -> None:
    rows = results(("quicstack", "aioquic", "transfer", FAILED), ("aioquic", "aioquic", "transfer", FAILED))
    write_report(rows, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert all(f"| {name} |" in text for name in CASES)
    assert "(✕)" in text and "it did not work. aioquic fails this without us too." in text
    assert WHAT.keys() == CASES.keys()


def test_results_are_kept(tmp_path: Path) -> None:
    rows = results(("quicstack", "aioquic", "ecn", FAILED))
    (tmp_path / "results.json").write_text(json.dumps(rows.to_json()))
    assert Results.load(tmp_path / "results.json").to_json() == rows.to_json()


def test_what_is_known_is_no_riddle() -> None:
    """An explanation for one role of a peer says nothing about the other."""
    assert results(("quicstack", "caddy", "rebind-port", FAILED)).ours_to_explain() == []
    assert len(results(("quicstack", "ngtcp2", "rebind-addr", FAILED)).ours_to_explain()) == 1
    assert results(("quicstack", "quiche", "handshake", FAILED)).ours_to_explain() == []
    assert len(results(("quiche", "quicstack", "handshake", FAILED)).ours_to_explain()) == 1

"""Sessions in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from quicstack.drivers.session_file import FileSessionStore
from quicstack.errors import ConfigurationError
from quicstack.session_store import MAX_SESSION, MemorySessionStore, SessionStore
from quicstack.token_store import MAX_PER_SERVER, MAX_SERVERS


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SessionStore:
    return MemorySessionStore() if request.param == "memory" else FileSessionStore(tmp_path / "sessions")


def test_what_is_taken_is_gone(store: SessionStore) -> None:
    store.put("a", b"1")
    store.put("a", b"2")
    assert [store.take("a"), store.take("a"), store.take("a"), store.take("b")] == [b"2", b"1", None, None]


def test_the_newest_are_kept(store: SessionStore) -> None:
    for number in range(MAX_PER_SERVER + 2):
        store.put("a", b"%d" % number)
    assert [store.take("a") for _ in range(MAX_PER_SERVER)] == [b"5", b"4", b"3", b"2"]
    assert store.take("a") is None
    store.put("b", bytes(MAX_SESSION + 1))
    assert store.take("b") is None


def test_the_servers_seen_last(store: SessionStore) -> None:
    for number in range(MAX_SERVERS + 1):
        store.put(str(number), b"x")
    assert store.take("0") is None and store.take("1") == b"x"


def test_another_process_finds_them(tmp_path: Path) -> None:
    file = tmp_path / "sessions"
    FileSessionStore(file).put("a", b"1")
    assert file.stat().st_mode & 0o777 == 0o600
    assert FileSessionStore(file).take("a") == b"1"
    assert FileSessionStore(file).take("a") is None


def test_others_may_not_read_it(tmp_path: Path) -> None:
    file = tmp_path / "sessions"
    FileSessionStore(file)
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        FileSessionStore(file)


@pytest.mark.parametrize("content", ["", "no json", "[1]", '{"a": 1}', '{"a": ["zz"]}'])
def test_a_file_that_is_no_use(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sessions"
    file.write_text(content)
    file.chmod(0o600)
    store = FileSessionStore(file)
    assert store.take("a") is None
    store.put("a", b"1")
    assert store.take("a") == b"1"

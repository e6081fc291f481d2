"""Sessions of a client in a file that only its owner can read, so that they survive a restart."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quicstack.errors import ConfigurationError
from quicstack.session_store import MAX_SESSION
from quicstack.token_store import MAX_PER_SERVER, MAX_SERVERS

__all__ = ["FileSessionStore"]

Sessions = dict[str, list[str]]


class FileSessionStore:
    """A :class:`~quicstack.session_store.SessionStore`: the newest few sessions of each server, of the servers seen
    last. Processes may share the file: each session is taken by one of them. Works for address validation tokens too.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        with self._locked():
            pass

    def put(self, key: str, session: bytes, /) -> None:
        if len(session) > MAX_SESSION:
            return
        with self._locked() as sessions:
            kept = [*sessions.pop(key, []), session.hex()]
            sessions[key] = kept[-MAX_PER_SERVER:]
            for oldest in list(sessions)[:-MAX_SERVERS]:
                del sessions[oldest]

    def take(self, key: str, /) -> bytes | None:
        with self._locked() as sessions:
            kept = sessions.get(key)
            if not kept:
                return None
            session = bytes.fromhex(kept.pop())
            if not kept:
                del sessions[key]
            return session

    @contextmanager
    def _locked(self) -> Iterator[Sessions]:
        """What the file holds, to be changed by nobody else meanwhile; written when it was changed."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigurationError(f"{self._path} can be read by others: chmod 600 {self._path}")
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.read()
            sessions = _read(before)
            yield sessions
            after = json.dumps(sessions)
            if after != before:
                file.seek(0)
                file.write(after)
                file.truncate()


def _read(text: str) -> Sessions:
    """A file that is no use is as an empty one: what it held costs a handshake, no more."""
    try:
        found = json.loads(text)
        return {str(key): [bytes.fromhex(session).hex() for session in kept] for key, kept in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}

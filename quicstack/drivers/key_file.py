"""A secret in a file that only its owner can read: tokens and session tickets survive a restart (RFC 9000 §8.1.4)."""

from __future__ import annotations

import os
from pathlib import Path

from quicstack.errors import ConfigurationError

__all__ = ["load_token_key"]

LENGTH = 32


def load_token_key(path: str | os.PathLike[str]) -> bytes:
    """The key in this file, for ``token_key`` or, in another, ``ticket_key``; made at the first call, for its owner."""
    file = Path(path)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(os.urandom(LENGTH))
    if file.stat().st_mode & 0o077:
        raise ConfigurationError(f"{file} can be read by others: chmod 600 {file}")
    key = file.read_bytes()
    if len(key) != LENGTH:
        raise ConfigurationError(f"{file} holds {len(key)} bytes, expected {LENGTH}")
    return key

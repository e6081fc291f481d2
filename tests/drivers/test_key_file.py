"""The key of tokens in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from quicstack.drivers.key_file import load_token_key
from quicstack.errors import ConfigurationError


def test_a_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "key"
    key = load_token_key(file)
    assert len(key) == 32 and load_token_key(file) == key
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_token_key(file)

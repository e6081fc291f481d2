from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from quicstack.errors import CertificateError
from quicstack.tls.alerts import Alert
from quicstack.tls.system_roots import system_roots
from quicstack.tls.trust import Trust


@pytest.fixture(autouse=True)
def fresh_cache() -> Any:
    system_roots.cache_clear()
    yield
    system_roots.cache_clear()


def place(monkeypatch: pytest.MonkeyPatch, folder: Path, bundle: bytes, *others: bytes) -> None:
    (folder / "bundle.pem").write_bytes(bundle)
    (folder / "certs").mkdir()
    for number, data in enumerate(others):
        (folder / "certs" / f"{number}.pem").write_bytes(data)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder / "certs"))


def test_roots_of_the_system(authority: Any, now: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundle and folder, each once, with the broken ones left out."""
    pair, root = authority.server()
    other, _ = authority.root("another root")
    pem, other_pem = root.public_bytes(Encoding.PEM), other.public_bytes(Encoding.PEM)
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    place(monkeypatch, tmp_path, b"# comment\n" + pem + broken + other_pem, pem, b"no certificate")
    assert system_roots() == (root, other)
    Trust.system().verify(pair.certificates, "localhost", now)


def test_no_roots_at_all(authority: Any, now: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(monkeypatch, tmp_path, b"")
    with pytest.raises(CertificateError, match="no system root certificates") as caught:
        Trust.system().verify([authority.certificate()], "localhost", now)
    assert (caught.value.check, caught.value.alert) == ("root", Alert.UNKNOWN_CA)

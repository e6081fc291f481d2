"""Loading a server's certificate and key, and choosing what to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from quicstack.errors import ConfigurationError, TransportError
from quicstack.tls.certificate import CertificateKey, CertificateStore


def write(path: Path, pair: CertificateKey, encryption: KeySerializationEncryption | None = None) -> tuple[Path, Path]:
    certfile, keyfile = path / "cert.pem", path / "key.pem"
    certfile.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in pair.certificates))
    keyfile.write_bytes(pair.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return certfile, keyfile


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_load_pem(authority: Any, tmp_path: Path, kind: str) -> None:
    pair, root = authority.server(kind)
    whole = CertificateKey((*pair.certificates, root), pair.private_key)
    certfile, keyfile = write(tmp_path, whole)
    loaded = CertificateKey.load(certfile, keyfile)
    assert loaded.certificates == whole.certificates
    assert loaded.chain == whole.chain
    both = tmp_path / "both.pem"
    both.write_bytes(keyfile.read_bytes() + certfile.read_bytes())
    assert CertificateKey.load(str(both)).certificates == whole.certificates


def test_load_der(authority: Any, tmp_path: Path) -> None:
    pair, _ = authority.server()
    (tmp_path / "cert.der").write_bytes(pair.chain[0])
    (tmp_path / "key.der").write_bytes(
        pair.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    )
    assert CertificateKey.load(tmp_path / "cert.der", tmp_path / "key.der").certificates == pair.certificates


def test_encrypted_key(authority: Any, tmp_path: Path) -> None:
    pair, _ = authority.server()
    files = write(tmp_path, pair, BestAvailableEncryption(b"secret"))
    assert CertificateKey.load(*files, password="secret").certificates == pair.certificates
    with pytest.raises(ConfigurationError, match="is encrypted: give its password"):
        CertificateKey.load(*files)
    with pytest.raises(ConfigurationError, match="no private key that can be read"):
        CertificateKey.load(*files, password=b"wrong")
    with pytest.raises(ConfigurationError, match="is not encrypted: give no password"):
        CertificateKey.load(*write(tmp_path, pair), password="secret")


def test_what_cannot_be_loaded(authority: Any, tmp_path: Path) -> None:
    pair, _ = authority.server()
    certfile, keyfile = write(tmp_path, pair)
    with pytest.raises(ConfigurationError, match="cannot read the private key file"):
        CertificateKey.load(certfile, tmp_path / "missing.pem")
    with pytest.raises(ConfigurationError, match="no private key that can be read"):
        CertificateKey.load(certfile, certfile)
    with pytest.raises(ConfigurationError, match="holds no certificate"):
        CertificateKey.load(keyfile, keyfile)


def test_key_and_certificate_must_belong_together(authority: Any) -> None:
    pair, root = authority.server()
    with pytest.raises(ConfigurationError, match="does not belong to the certificate of 'CN=leaf'"):
        CertificateKey(pair.certificates, authority.key("p256", "another"))
    with pytest.raises(ConfigurationError, match="the leaf must come first"):
        CertificateKey((root, *pair.certificates), pair.private_key)
    with pytest.raises(ConfigurationError, match="at least the leaf"):
        CertificateKey((), pair.private_key)


def test_a_curve_that_tls_cannot_use_here(authority: Any) -> None:
    key = authority.key("p521")
    with pytest.raises(ConfigurationError, match="P-256 or P-384"):
        CertificateKey((authority.certificate(key=key),), key)


def test_select_and_replace(authority: Any) -> None:
    ecdsa, rsa = authority.server("p256")[0], authority.server("rsa")[0]
    store = CertificateStore(ecdsa)
    assert store.select("localhost", (0x0804, 0x0403)) == (ecdsa, 0x0403)
    store.replace(rsa)
    assert store.select(None, (0x0403, 0x0806, 0x0805)) == (rsa, 0x0805)
    with pytest.raises(TransportError, match="expected one of rsa_pss_rsae_sha256") as caught:
        store.select(None, (0x0403, 0x0401))
    assert caught.value.code == 0x128

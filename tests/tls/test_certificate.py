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
from quicstack.tls.alerts import Alert, tls_error
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


def test_the_clients_schemes_pick_one_of_several(authority: Any) -> None:
    """RFC 8446 §4.4.2.2: our order of preference, as far as the client can follow."""
    ecdsa, rsa = authority.server("p256")[0], authority.server("rsa")[0]
    store = CertificateStore([ecdsa, rsa])
    assert store.select("localhost", (0x0804, 0x0403)) == (ecdsa, 0x0403)
    assert store.select("localhost", (0x0503, 0x0804)) == (rsa, 0x0804)
    with pytest.raises(TransportError, match="expected one of ecdsa_secp256r1_sha256, rsa_pss_rsae_sha256, "):
        store.select("localhost", (0x0807,))
    store.replace([rsa, ecdsa])
    assert store.select("localhost", (0x0403, 0x0804)) == (rsa, 0x0804)
    with pytest.raises(ConfigurationError, match="at least one CertificateKey"):
        CertificateStore([])


def named(authority: Any, *names: str) -> CertificateKey:
    pair: CertificateKey = authority.server(names=names)[0]
    return pair


def chosen(store: CertificateStore, name: str | None) -> CertificateKey:
    return store.select(name, (0x0403,))[0]


def test_by_name(authority: Any) -> None:
    default, exact, wild = (named(authority, name) for name in ("default.test", "a.example", "*.b.example"))
    store = CertificateStore(default, by_name={"A.Example.": exact, "*.b.example": [wild]})
    for name in ("a.example", "A.EXAMPLE", "a.example."):
        assert chosen(store, name) == exact
    assert chosen(store, "any.b.example") == wild
    for other in ("b.example", "x.y.b.example", "x.a.example", "unknown", "", "*.", "b\x00.example", None):
        assert chosen(store, other) == default
    store.replace(wild)
    assert (chosen(store, "a.example"), chosen(store, None)) == (exact, wild)
    store.replace(default, by_name={"a.example": default, "c.example": exact})
    assert (chosen(store, "a.example"), chosen(store, "any.b.example"), chosen(store, "c.example")) == (
        default,
        default,
        exact,
    )


def test_an_exact_name_goes_before_a_wildcard(authority: Any) -> None:
    default, exact, wild = (named(authority, name) for name in ("default.test", "a.example", "*.example"))
    store = CertificateStore(default, by_name={"*.example": wild, "a.example": exact})
    assert (chosen(store, "a.example"), chosen(store, "b.example")) == (exact, wild)


@pytest.mark.parametrize("name", ["*", "*a.example", "a.*.example", "*.*.example", "", "no host"])
def test_bad_names(authority: Any, name: str) -> None:
    pair, _ = authority.server()
    with pytest.raises(ConfigurationError):
        CertificateStore(pair, by_name={name: pair})


def test_replace_is_all_or_nothing(authority: Any) -> None:
    first, second = named(authority, "a.example"), named(authority, "b.example")
    store = CertificateStore(first)
    with pytest.raises(ConfigurationError):
        store.replace(second, by_name={"b.example": []})
    with pytest.raises(ConfigurationError):
        store.replace([], by_name={"b.example": second})
    assert (chosen(store, None), chosen(store, "b.example")) == (first, first)


def test_select_by_name(authority: Any) -> None:
    """The callback is asked first; what it does not know is looked up as if there were none."""
    default, listed, made = (named(authority, name) for name in ("default.test", "a.example", "made.example"))
    asked: list[str | None] = []

    def select(name: str | None) -> CertificateKey | list[CertificateKey] | None:
        asked.append(name)
        return {None: made, "made.example": [made]}.get(name)

    store = CertificateStore(default, by_name={"a.example": listed}, select_by_name=select)
    names = (None, "MADE.example.", "a.example", "unknown")
    assert [chosen(store, name) for name in names] == [made, made, listed, default]
    assert asked == [None, "made.example", "a.example", "unknown"]


def test_a_callback_can_refuse(authority: Any) -> None:
    def refuse(name: str | None) -> None:
        raise tls_error(Alert.UNRECOGNIZED_NAME, f"no {name} here")

    with pytest.raises(TransportError) as caught:
        chosen(CertificateStore(authority.server()[0], select_by_name=refuse), "a.example")
    assert caught.value.code == 0x170

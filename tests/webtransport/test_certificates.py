from __future__ import annotations

import datetime
import hashlib
import os
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from quicstack.errors import ConfigurationError
from webtransport.certificates import certificate_hash, generate_self_signed_cert


def load(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


def test_what_browsers_ask_of_it(tmp_path: Path) -> None:
    certfile, keyfile = generate_self_signed_cert("localhost", tmp_path)
    assert (Path(certfile).name, Path(keyfile).name) == ("localhost.crt", "localhost.key")
    certificate = load(certfile)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    validity = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert validity <= datetime.timedelta(days=14)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile)


def test_the_key_is_private(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        _, keyfile = generate_self_signed_cert("localhost", tmp_path)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(os.stat(keyfile).st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["localhost.crt", "localhost.key"]


def test_a_good_pair_is_kept(tmp_path: Path) -> None:
    first = generate_self_signed_cert("localhost", tmp_path)
    before = load(first.certfile)
    assert generate_self_signed_cert("localhost", tmp_path) == first
    assert load(first.certfile) == before


@pytest.mark.parametrize("damage", ["expires soon", "no key", "other key", "garbage"])
def test_a_pair_that_is_no_good_is_made_anew(tmp_path: Path, damage: str) -> None:
    pair = generate_self_signed_cert("localhost", tmp_path)
    if damage == "expires soon":
        _replace_by_one_that_ends_in(tmp_path, datetime.timedelta(hours=1))
    elif damage == "no key":
        Path(pair.keyfile).unlink()
    elif damage == "other key":
        other = generate_self_signed_cert("localhost", tmp_path / "other")
        Path(pair.keyfile).write_bytes(Path(other.keyfile).read_bytes())
    else:
        Path(pair.certfile).write_bytes(b"nonsense")
    generate_self_signed_cert("localhost", tmp_path)
    certificate = load(pair.certfile)
    assert certificate.not_valid_after_utc > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=10)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)


def _replace_by_one_that_ends_in(folder: Path, left: datetime.timedelta) -> None:
    from cryptography.hazmat.primitives import hashes, serialization

    key = serialization.load_pem_private_key((folder / "localhost.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    old = load(str(folder / "localhost.crt"))
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(old.subject).issuer_name(old.issuer).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now + left - datetime.timedelta(days=13))
    builder = builder.not_valid_after(now + left)
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "localhost.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", ".", "..", "a\0b", "a\nb", "ü" * 70])
def test_names_that_would_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        generate_self_signed_cert(name, tmp_path / "in")
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("name", ["example.test", "192.0.2.1", "2001:db8::1", "*.example.test", "bücher.example"])
def test_other_names(tmp_path: Path, name: str) -> None:
    certfile, _ = generate_self_signed_cert(hostname=name, output_dir=tmp_path)
    names = load(certfile).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(names) == 4


@pytest.mark.parametrize("days", [0, 15])
def test_validity_that_browsers_refuse(tmp_path: Path, days: int) -> None:
    with pytest.raises(ConfigurationError, match="14 days"):
        generate_self_signed_cert("localhost", tmp_path, days=days)


def test_hash_is_of_the_der(tmp_path: Path) -> None:
    certfile, _ = generate_self_signed_cert("localhost", tmp_path)
    der = ssl.PEM_cert_to_DER_cert(Path(certfile).read_text())
    assert certificate_hash(certfile) == hashlib.sha256(der).digest()

"""What each kind of trust accepts and refuses. Certificates are made here; the clock is an argument."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from quicstack.errors import CertificateError, ConfigurationError
from quicstack.tls.alerts import Alert
from quicstack.tls.trust import Trust

DAY = 86400.0


def refusal(
    trust: Trust, chain: Sequence[x509.Certificate], now: float, name: str | None = "localhost"
) -> CertificateError:
    with pytest.raises(CertificateError) as caught:
        trust.verify(chain, name, now)
    error = caught.value
    assert error.subject in str(error)
    return error


def key_usage(**on: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    )
    return x509.KeyUsage(**{name: on.get(name, False) for name in names.split()})


# Roots


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "::1", "[::1]", "a.example.org"])
def test_names_that_fit(authority: Any, now: float, name: str) -> None:
    pair, root = authority.server(names=["localhost", "127.0.0.1", "::1", "*.example.org"])
    Trust.roots(root).verify(pair.certificates, name, now)


@pytest.mark.parametrize(
    "name", ["other", "127.0.0.2", "::2", "example.org", "a.b.example.org", "localhost.example", "127.0.0.1.org"]
)
def test_names_that_do_not_fit(authority: Any, now: float, name: str) -> None:
    pair, root = authority.server(names=["localhost", "127.0.0.1", "::1", "*.example.org"])
    error = refusal(Trust.roots(root), pair.certificates, now, name)
    assert (error.check, error.alert) == ("name", Alert.BAD_CERTIFICATE)
    assert f"is not for '{name}': it has localhost, 127.0.0.1, ::1, *.example.org" in str(error)


def test_an_address_is_no_dns_name(authority: Any, now: float) -> None:
    """RFC 2818 §3.1: an address is matched against iPAddress entries alone."""
    san = x509.SubjectAlternativeName([x509.DNSName("127.0.0.1")])
    pair, root = authority.server(names=None, extensions=[(san, False)])
    assert refusal(Trust.roots(root), pair.certificates, now, "127.0.0.1").check == "name"


def test_the_common_name_does_not_count(authority: Any, now: float) -> None:
    pair, root = authority.server(subject="localhost", names=None)
    error = refusal(Trust.roots(root), pair.certificates, now)
    assert error.check == "name"
    assert "no subjectAltName" in str(error)


def test_a_strangers_names_cannot_spoil_a_log(authority: Any, now: float) -> None:
    names = ["evil\nconnection accepted", "x" * 240, *(f"host{n}" for n in range(20))]
    leaf = authority.certificate("CN\r\n", names=names)
    error = refusal(Trust.roots(leaf), [leaf], now)
    assert str(error).isprintable()
    assert r"evil\nconnection accepted" in str(error)
    assert "host7 and 12 more;" in str(error)
    assert len(str(error)) < 600


def test_a_name_is_needed(authority: Any, now: float) -> None:
    pair, root = authority.server()
    assert "set server_name" in str(refusal(Trust.roots(root), pair.certificates, now, None))


@pytest.mark.parametrize(
    ("dates", "problem"),
    [
        ({"not_before": -9 * DAY, "not_after": -1}, "expired on 2027-01-15 07:59:59 UTC: it must be renewed"),
        ({"not_before": 1, "not_after": 9 * DAY}, "is not valid before 2027-01-15 08:00:01 UTC: check the clocks"),
    ],
)
@pytest.mark.parametrize("given", ["root", "leaf"])
def test_dates_of_the_leaf(authority: Any, now: float, dates: dict[str, float], problem: str, given: str) -> None:
    pair, root = authority.server(**dates)
    leaf = pair.certificates[0]
    error = refusal(Trust.roots(leaf if given == "leaf" else root), [leaf], now)
    assert (error.check, error.alert, error.subject) == ("validity", Alert.CERTIFICATE_EXPIRED, "CN=leaf")
    assert problem in str(error)


@pytest.mark.parametrize("given", ["root", "leaf"])
def test_wrong_usage(authority: Any, now: float, given: str) -> None:
    for wrong, problem in (
        ({"usages": [ExtendedKeyUsageOID.CLIENT_AUTH]}, "extendedKeyUsage lacks serverAuth"),
        ({"extensions": [(key_usage(key_encipherment=True), True)]}, "keyUsage lacks digitalSignature"),
    ):
        pair, root = authority.server(**wrong)
        leaf = pair.certificates[0]
        error = refusal(Trust.roots(leaf if given == "leaf" else root), [leaf], now)
        assert (error.check, error.alert) == ("usage", Alert.UNSUPPORTED_CERTIFICATE)
        assert problem in str(error)


def test_right_usage(authority: Any, now: float) -> None:
    pair, root = authority.server(
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
        extensions=[(key_usage(digital_signature=True), True)],
    )
    Trust.roots(root).verify(pair.certificates, "localhost", now)


def test_unknown_root(authority: Any, now: float) -> None:
    pair, _ = authority.server()
    other, _ = authority.root("another root")
    error = refusal(Trust.roots(other), pair.certificates, now)
    assert (error.check, error.alert) == ("issuer", Alert.UNKNOWN_CA)
    assert "was issued by CN=root, which the server did not send and which is not a trusted root" in str(error)


def test_a_root_of_the_same_name_and_another_key(authority: Any, now: float) -> None:
    pair, _ = authority.server()
    impostor, _ = authority.root("root", kind="p384")
    error = refusal(Trust.roots(impostor), pair.certificates, now)
    assert (error.check, error.alert) == ("path", Alert.BAD_CERTIFICATE)


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
def test_self_signed(authority: Any, now: float, kind: str) -> None:
    """As ``openssl req -x509`` makes it, with cA true: good as its own root, unknown otherwise."""
    constraints = (x509.BasicConstraints(True, None), True)
    leaf = authority.certificate("self", key=authority.key(kind), extensions=[constraints])
    Trust.roots(leaf).verify([leaf], "localhost", now)
    other, _ = authority.root()
    error = refusal(Trust.roots(other), [leaf], now)
    assert (error.check, error.alert) == ("root", Alert.UNKNOWN_CA)
    assert "is self-signed and is not among the trusted roots" in str(error)


def test_roots_from_files(authority: Any, now: float, tmp_path: Path) -> None:
    pair, root = authority.server()
    other, _ = authority.root("another root")
    pem, der = tmp_path / "roots.pem", tmp_path / "root.der"
    pem.write_bytes(other.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    der.write_bytes(root.public_bytes(Encoding.DER))
    for sources in (pem, str(pem), [der], [other, str(der)]):
        Trust.roots(sources).verify(pair.certificates, "localhost", now)


def test_bad_roots(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        Trust.roots([])
    with pytest.raises(ConfigurationError, match="cannot read the certificate file"):
        Trust.roots(tmp_path / "missing.pem")
    (tmp_path / "text.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match="holds no certificate"):
        Trust.roots(tmp_path / "text.pem")


def test_a_certificate_that_cannot_be_read(authority: Any, now: float) -> None:
    """The same extension twice is found when the extensions are read, and is a refusal like any other."""
    pair, root = authority.server(usages=[ExtendedKeyUsageOID.SERVER_AUTH])
    data = bytearray(pair.chain[0])
    san, usage = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d25")
    at = data.index(san)
    data[at : at + 5] = usage
    broken = x509.load_der_x509_certificate(bytes(data))
    error = refusal(Trust.roots(root), [broken], now)
    assert (error.check, error.alert) == ("encoding", Alert.BAD_CERTIFICATE)


# Hashes


def digest(certificate: x509.Certificate) -> bytes:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_hash(authority: Any, now: float, kind: str) -> None:
    """W3C WebTransport: neither issuer nor name matter."""
    leaf = authority.certificate(key=authority.key(kind), not_before=-DAY, not_after=13 * DAY)
    trust = Trust.hashes([bytes(32), digest(leaf)])
    for name in ("localhost", "elsewhere", None):
        trust.verify([leaf], name, now)


def test_hash_mismatch(authority: Any, now: float) -> None:
    leaf = authority.certificate()
    error = refusal(Trust.hashes([bytes(32)]), [leaf], now)
    assert error.check == "hash"
    assert digest(leaf).hex() in str(error)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"not_before": -DAY, "not_after": 13 * DAY + 1}, "validity period"),
        ({"not_before": -10 * DAY, "not_after": -1}, "validity"),
        ({"not_before": 1, "not_after": DAY}, "validity"),
    ],
)
def test_hash_needs_a_short_and_current_validity(
    authority: Any, now: float, changes: dict[str, float], check: str
) -> None:
    leaf = authority.certificate(**changes)
    assert refusal(Trust.hashes([digest(leaf)]), [leaf], now).check == check


def test_hash_refuses_rsa(authority: Any, now: float) -> None:
    leaf = authority.certificate(key=authority.key("rsa"))
    error = refusal(Trust.hashes([digest(leaf)]), [leaf], now)
    assert (error.check, error.alert) == ("key type", Alert.UNSUPPORTED_CERTIFICATE)


@pytest.mark.parametrize("digests", [[], [b"short"], [bytes(32), bytes(20)]])
def test_hashes_must_be_sha256(digests: list[bytes]) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        Trust.hashes(digests)


# The rest


def test_insecure_accepts_everything(authority: Any, now: float) -> None:
    Trust.insecure().verify([authority.certificate(names=None, not_after=-1)], None, now)


def test_the_system_does_not_know_our_root(authority: Any, now: float) -> None:
    pair, _ = authority.server()
    assert refusal(Trust.system(), pair.certificates, now).alert == Alert.UNKNOWN_CA


# Clients


def client_refusal(trust: Trust, chain: Sequence[x509.Certificate], now: float) -> CertificateError:
    with pytest.raises(CertificateError) as caught:
        trust.verify_client(chain, now)
    return caught.value


@pytest.mark.parametrize("changes", [{}, {"names": ["user.example"]}, {"usages": None}], ids=["plain", "name", "any"])
@pytest.mark.parametrize("kind", ["p256", "ed25519", "rsa"])
def test_clients(authority: Any, now: float, kind: str, changes: dict[str, Any]) -> None:
    """A client needs no subjectAltName, and no name of it is checked."""
    pair, root = authority.client(kind, **changes)
    for trust in (Trust.roots(root), Trust.roots(pair.certificates), Trust.insecure()):
        trust.verify_client(pair.certificates, now)


def test_a_client_behind_an_intermediate(authority: Any, now: float) -> None:
    root = authority.root()
    intermediate = authority.root("intermediate", issuer=root)
    leaf = authority.certificate(
        "client", names=None, issuer=intermediate, usages=[ExtendedKeyUsageOID.CLIENT_AUTH], key=authority.key()
    )
    Trust.roots(root[0]).verify_client([leaf, intermediate[0]], now)
    error = client_refusal(Trust.roots(root[0]), [leaf], now)
    assert (error.check, error.alert) == ("issuer", Alert.UNKNOWN_CA)
    assert "which the client did not send" in str(error)


def test_certificates_that_are_not_for_clients(authority: Any, now: float) -> None:
    for wrong, problem in (
        ({"usages": [ExtendedKeyUsageOID.SERVER_AUTH]}, "is not one for a TLS client: extendedKeyUsage lacks clientA"),
        ({"extensions": [(key_usage(key_encipherment=True), True)]}, "keyUsage lacks digitalSignature"),
    ):
        pair, root = authority.client(**wrong)
        for trust in (Trust.roots(root), Trust.roots(pair.certificates)):
            error = client_refusal(trust, pair.certificates, now)
            assert (error.check, error.alert) == ("usage", Alert.UNSUPPORTED_CERTIFICATE)
            assert problem in str(error)


def test_clients_that_are_not_known(authority: Any, now: float) -> None:
    pair, _ = authority.client()
    other, _ = authority.root("another root")
    impostor, _ = authority.root("root", kind="p384")
    assert client_refusal(Trust.roots(other), pair.certificates, now).check == "issuer"
    assert client_refusal(Trust.roots(impostor), pair.certificates, now).check == "path"
    assert client_refusal(Trust.system(), pair.certificates, now).alert == Alert.UNKNOWN_CA


def test_dates_of_a_client(authority: Any, now: float) -> None:
    for dates in ({"not_after": -1}, {"not_before": 1}):
        pair, root = authority.client(**dates)
        for trust in (Trust.roots(root), Trust.hashes([digest(pair.certificates[0])])):
            error = client_refusal(trust, pair.certificates, now)
            assert (error.check, error.alert) == ("validity", Alert.CERTIFICATE_EXPIRED)


def test_clients_known_by_their_hash(authority: Any, now: float) -> None:
    """The rules for servers, 14 days and no RSA, are not for clients."""
    pair, _ = authority.client("rsa", not_after=3650 * DAY)
    Trust.hashes([digest(pair.certificates[0])]).verify_client(pair.certificates, now)
    assert client_refusal(Trust.hashes([bytes(32)]), pair.certificates, now).check == "hash"


def test_a_clients_certificate_that_cannot_be_read(authority: Any, now: float) -> None:
    pair, root = authority.client(names=["user.example"])
    data = bytes(pair.chain[0]).replace(bytes.fromhex("0603551d11"), bytes.fromhex("0603551d25"))
    error = client_refusal(Trust.roots(root), [x509.load_der_x509_certificate(data)], now)
    assert (error.check, error.alert) == ("encoding", Alert.BAD_CERTIFICATE)

"""Paths to a root: what we accept more of than the web PKI profile, and what stays refused."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from quicstack.errors import CertificateError
from quicstack.tls.alerts import Alert
from quicstack.tls.certificate_path import MAX_INTERMEDIATES
from quicstack.tls.trust import Trust

DAY = 86400.0
CA = (x509.BasicConstraints(True, None), True)


def leaf_of(authority: Any, issuer: tuple[x509.Certificate, Any], **changes: Any) -> x509.Certificate:
    certificate: x509.Certificate = authority.certificate(issuer=issuer, **changes)
    return certificate


def refusal(chain: list[x509.Certificate], root: x509.Certificate, now: float) -> CertificateError:
    with pytest.raises(CertificateError) as caught:
        Trust.roots(root).verify(chain, "localhost", now)
    return caught.value


def key_usage(*, key_cert_sign: bool) -> tuple[x509.KeyUsage, bool]:
    return x509.KeyUsage(True, False, False, False, False, key_cert_sign, False, False, False), True


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa"])
def test_intermediate(authority: Any, now: float, kind: str) -> None:
    root = authority.root(kind=kind)
    intermediate = authority.root("intermediate", kind=kind, issuer=root)
    leaf = leaf_of(authority, intermediate)
    Trust.roots(root[0]).verify([leaf, intermediate[0]], "localhost", now)
    # The root itself, things in disorder and doubles do no harm (RFC 8446 §4.4.2).
    Trust.roots(root[0]).verify([leaf, root[0], intermediate[0], intermediate[0]], "localhost", now)
    # An intermediate that is trusted by itself need not be sent.
    Trust.roots(intermediate[0]).verify([leaf], "localhost", now)


def test_missing_intermediate(authority: Any, now: float) -> None:
    root = authority.root()
    leaf = leaf_of(authority, authority.root("intermediate", issuer=root))
    error = refusal([leaf], root[0], now)
    assert (error.check, error.alert, error.subject) == ("issuer", Alert.UNKNOWN_CA, "CN=leaf")
    assert "was issued by CN=intermediate, which the server did not send" in str(error)


def test_a_whole_chain_of_strangers(authority: Any, now: float) -> None:
    stranger = authority.root("stranger")
    intermediate = authority.root("intermediate", issuer=stranger)
    leaf = leaf_of(authority, intermediate)
    error = refusal([leaf, intermediate[0], stranger[0]], authority.root()[0], now)
    assert (error.check, error.alert, error.subject) == ("root", Alert.UNKNOWN_CA, "CN=stranger")


@pytest.mark.parametrize("who", ["intermediate", "root"])
def test_expired_authorities(authority: Any, now: float, who: str) -> None:
    dates = {"not_after": -1.0}
    root = authority.root(**(dates if who == "root" else {}))
    intermediate = authority.root("intermediate", issuer=root, **(dates if who == "intermediate" else {}))
    error = refusal([leaf_of(authority, intermediate), intermediate[0]], root[0], now)
    assert (error.check, error.subject) == ("validity", f"CN={who}")


LOOSE: dict[str, list[tuple[x509.ExtensionType, bool]]] = {
    "basicConstraints alone": [CA],
    "basicConstraints not critical": [(x509.BasicConstraints(True, None), False)],
    "keyUsage with keyCertSign": [CA, key_usage(key_cert_sign=True)],
}


@pytest.mark.parametrize("extensions", LOOSE.values(), ids=LOOSE)
def test_private_authorities(authority: Any, now: float, extensions: Any) -> None:
    root = authority.root(extensions=extensions)
    intermediate = authority.root("intermediate", issuer=root, extensions=extensions)
    Trust.roots(root[0]).verify([leaf_of(authority, intermediate), intermediate[0]], "localhost", now)


def test_a_leaf_with_ca_true(authority: Any, now: float) -> None:
    """``openssl req -x509 -CA`` writes it by default."""
    root = authority.root()
    leaf = leaf_of(authority, root, extensions=[CA, key_usage(key_cert_sign=True)])
    Trust.roots(root[0]).verify([leaf], "localhost", now)


STRICT: dict[str, tuple[list[tuple[x509.ExtensionType, bool]], str]] = {
    "no basicConstraints": ([], "basicConstraints"),
    "cA false": ([(x509.BasicConstraints(False, None), True)], "cA must be asserted"),
    "keyUsage without keyCertSign": ([CA, key_usage(key_cert_sign=False)], "lacks keyCertSign"),
    "other names": ([CA, (x509.NameConstraints([x509.DNSName("example.org")], None), True)], "name constraints"),
    "critical and unknown": (
        [CA, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), True)],
        "critical extensions",
    ),
}


@pytest.mark.parametrize("case", STRICT)
def test_no_authority(authority: Any, now: float, case: str) -> None:
    extensions, reason = STRICT[case]
    root = authority.root()
    intermediate = authority.root("intermediate", issuer=root, extensions=extensions)
    error = refusal([leaf_of(authority, intermediate), intermediate[0]], root[0], now)
    assert (error.check, error.alert) == ("path", Alert.BAD_CERTIFICATE)
    assert reason in str(error)


def test_path_length(authority: Any, now: float) -> None:
    root = authority.root(extensions=[(x509.BasicConstraints(True, 0), True)])
    intermediate = authority.root("intermediate", issuer=root)
    error = refusal([leaf_of(authority, intermediate), intermediate[0]], root[0], now)
    assert "path length" in str(error)


def test_a_leaf_cannot_issue(authority: Any, now: float) -> None:
    """Somebody with an ordinary certificate must not be able to sign one for another name."""
    root = authority.root()
    key = authority.key("p256", "ordinary")
    ordinary = authority.certificate("ordinary", names=["ordinary"], key=key, issuer=root)
    error = refusal([leaf_of(authority, (ordinary, key)), ordinary], root[0], now)
    assert error.check == "path"


def test_an_ed25519_leaf_of_an_ecdsa_authority(authority: Any, now: float) -> None:
    root = authority.root()
    Trust.roots(root[0]).verify([leaf_of(authority, root, key=authority.key("ed25519"))], "localhost", now)


def test_too_many_certificates(authority: Any, now: float) -> None:
    root = authority.root()
    others = [authority.root(f"other {n}", issuer=root)[0] for n in range(MAX_INTERMEDIATES + 1)]
    assert "at most" in str(refusal([leaf_of(authority, root), *others], root[0], now))


@pytest.mark.attack("RUSTSEC-2023-0053")
def test_too_many_certificates_for_one_key(authority: Any, now: float) -> None:
    """Certificates that issue one another make exponentially many paths."""
    root = authority.root()
    crosses = [authority.root("cross", issuer=root)[0] for _ in range(3)]
    assert "same issuing key" in str(refusal([leaf_of(authority, root), *crosses], root[0], now))
    Trust.roots(root[0]).verify([leaf_of(authority, root), *crosses[:2]], "localhost", now)

"""From a server's or a client's certificate to a root: RFC 5280 §6, done by ``cryptography.x509.verification``.

The library enforces the profile of the public web PKI. Certificates of private authorities, made by ``openssl`` or by a
few lines of Python, often lack what that profile wants, and ``ssl`` accepts them. So these rules are looser here:

========================================  ===========================  ==============================================
extension                                 web PKI profile              here
========================================  ===========================  ==============================================
subjectKeyIdentifier of an authority      must be present              may be absent
authorityKeyIdentifier                    must be present              may be absent
keyUsage of an authority                  must be present              may be absent; if present it has keyCertSign
basicConstraints of an authority          critical                     critical or not; cA must be true as ever
basicConstraints of the leaf              cA must be false             not looked at: it is not used as an authority
keyUsage of the leaf                      must lack keyCertSign        must have digitalSignature, if present
subjectAltName of a client                must be present              may be absent
========================================  ===========================  ==============================================

What stays as strict as in the web PKI: signatures, dates, name constraints, path length, unknown critical extensions,
RSA of 2048 bits, no SHA-1, and issuing keys must be ECDSA or RSA (an Ed25519 authority is refused by the library).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from quicstack import errors
from quicstack.errors import CertificateError
from quicstack.tls.alerts import Alert
from quicstack.tls.server_name import ascii_name, parse_ip

__all__ = ["check_validity", "describe", "extension_policies", "printable", "refusal", "verify_path"]

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
MAX_INTERMEDIATES = 15
MAX_NAME_SHOWN = 200
MAX_PER_KEY = 2
"""Cross-certificates of one authority's key that a server may send. Without a bound, a few certificates that all issue
one another make exponentially many paths."""


def printable(name: str) -> str:
    """A name that a stranger chose, fit for a message."""
    return errors.printable(name, MAX_NAME_SHOWN)


def describe(certificate: x509.Certificate) -> str:
    """The subject for messages, or the serial number where there is none."""
    try:
        return printable(certificate.subject.rfc4514_string()) or f"serial number {certificate.serial_number:x}"
    except ValueError:
        return "an unreadable subject"


def refusal(certificate: x509.Certificate, check: str, alert: int, problem: str) -> CertificateError:
    subject = describe(certificate)
    return CertificateError(f"the certificate of {subject} {problem}", check=check, subject=subject, alert=alert)


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """RFC 5280 §4.1.2.5. Raises with the date that was missed."""
    clock = f"(this machine's clock says {now:%Y-%m-%d %H:%M:%S} UTC)"
    if now < certificate.not_valid_before_utc:
        when = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
        problem = f"is not valid before {when}: check the clocks {clock}"
    elif now > certificate.not_valid_after_utc:
        when = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
        problem = f"expired on {when}: it must be renewed {clock}"
    else:
        return
    raise refusal(certificate, "validity", Alert.CERTIFICATE_EXPIRED, problem)


def verify_path(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    server_name: str | None,
    now: datetime,
) -> None:
    """Build a path from ``chain[0]`` to one of ``roots``, or raise with the likeliest reason why there is none.

    Without a ``server_name`` the certificate is a client's.
    """
    leaf, intermediates = chain[0], list(dict.fromkeys(chain[1:]))
    _check_size(leaf, intermediates)
    ca_policy, ee_policy = extension_policies(is_client=server_name is None)
    try:
        builder = PolicyBuilder().store(Store(list(roots))).time(now)
        builder = builder.extension_policies(ca_policy=ca_policy, ee_policy=ee_policy)
        if server_name is None:
            builder.build_client_verifier().verify(leaf, intermediates)
        else:
            address = parse_ip(server_name)
            subject = x509.DNSName(ascii_name(server_name)) if address is None else x509.IPAddress(address)
            builder.build_server_verifier(subject).verify(leaf, intermediates)
    except VerificationError as error:
        _explain(chain, roots, now, "client" if server_name is None else "server")
        reason = str(error).partition(" (encountered")[0]
        raise refusal(leaf, "path", Alert.BAD_CERTIFICATE, f"has no valid path to a trusted root: {reason}") from None


def _check_size(leaf: x509.Certificate, intermediates: Sequence[x509.Certificate]) -> None:
    if len(intermediates) > MAX_INTERMEDIATES:
        problem = f"came with {len(intermediates)} others, at most {MAX_INTERMEDIATES} are taken"
        raise refusal(leaf, "path", Alert.BAD_CERTIFICATE, problem)
    spki = PublicFormat.SubjectPublicKeyInfo
    keys = Counter(c.public_key().public_bytes(Encoding.DER, spki) for c in intermediates)
    if keys and max(keys.values()) > MAX_PER_KEY:
        problem = f"came with more than {MAX_PER_KEY} certificates for the same issuing key"
        raise refusal(leaf, "path", Alert.BAD_CERTIFICATE, problem)


def _explain(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime, whose: str) -> None:
    """After a failure: walk from the leaf by issuer name, and raise where the walk ends.

    Returns if it reaches a root: then names and dates are in order, and the library's own reason must do.
    """
    leaf = current = chain[0]
    by_subject = {certificate.subject: certificate for certificate in chain[1:]}
    root_subjects = {certificate.subject: certificate for certificate in roots}
    for _ in range(len(chain)):
        check_validity(current, now)
        if current.issuer in root_subjects:
            return check_validity(root_subjects[current.issuer], now)
        if current.issuer == current.subject:
            kind = (
                "is self-signed and is not among the trusted roots"
                if current is leaf
                else ("ends the chain and is not among the trusted roots")
            )
            advice = "trust it by name, or by hash, if it is yours"
            raise refusal(current, "root", Alert.UNKNOWN_CA, f"{kind}: {advice}")
        if current.issuer not in by_subject:
            issuer = printable(current.issuer.rfc4514_string())
            raise refusal(
                current,
                "issuer",
                Alert.UNKNOWN_CA,
                f"was issued by {issuer}, which the {whose} did not send and which is not a trusted root: "
                f"the {whose} should send its intermediate certificates, or the root must be trusted",
            )
        current = by_subject[current.issuer]


def extension_policies(*, is_client: bool = False) -> tuple[ExtensionPolicy, ExtensionPolicy]:
    """(for authorities, for the leaf): the table above."""
    either = Criticality.AGNOSTIC
    authority = (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.SubjectKeyIdentifier, either, None)
        .may_be_present(x509.AuthorityKeyIdentifier, either, None)
        .may_be_present(x509.KeyUsage, either, _may_sign_certificates)
        .require_present(x509.BasicConstraints, either, None)
    )
    leaf = (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.SubjectKeyIdentifier, either, None)
        .may_be_present(x509.AuthorityKeyIdentifier, either, None)
        .may_be_present(x509.BasicConstraints, either, None)
        .may_be_present(x509.KeyUsage, either, None)
    )
    if is_client:
        return authority, leaf.may_be_present(x509.SubjectAlternativeName, either, None)
    return authority, leaf.require_present(x509.SubjectAlternativeName, either, None)


def _may_sign_certificates(_: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError(f"keyUsage of {describe(certificate)} lacks keyCertSign")

"""The root certificates that the operating system trusts, found where the ``ssl`` module finds them."""

from __future__ import annotations

import ssl
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from quicstack.errors import CertificateError
from quicstack.tls.alerts import Alert
from quicstack.tls.certificate_path import SERVER_AUTH

__all__ = ["system_roots"]

PEM_END = b"-----END CERTIFICATE-----"


@cache
def system_roots() -> tuple[x509.Certificate, ...]:
    """All of them, read once. SSL_CERT_FILE and SSL_CERT_DIR are obeyed, as by ``ssl``."""
    with warnings.catch_warnings():  # The library warns of old roots with a serial number of zero.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        roots = tuple(dict.fromkeys(_windows_roots() if sys.platform == "win32" else _file_roots()))
    if not roots:
        raise CertificateError(
            "no system root certificates were found to check the server's certificate against: install them "
            "(ca-certificates), set SSL_CERT_FILE, or name the roots to trust",
            check="root",
            alert=Alert.UNKNOWN_CA,
        )
    return roots


def _file_roots() -> Iterator[x509.Certificate]:
    paths = ssl.get_default_verify_paths()
    files = [Path(paths.cafile)] if paths.cafile else []
    if paths.capath:
        files += sorted(path for path in Path(paths.capath).iterdir() if path.is_file())
    for file in files:
        try:
            blocks = file.read_bytes().split(PEM_END)[:-1]
        except OSError:
            continue
        for block in blocks:
            yield from _certificate(x509.load_pem_x509_certificate, block + PEM_END)


def _windows_roots() -> Iterator[x509.Certificate]:
    for store in ("ROOT", "CA"):
        for der, encoding, trust in ssl.enum_certificates(store):  # type: ignore[attr-defined, unused-ignore]
            if encoding == "x509_asn" and (trust is True or SERVER_AUTH.dotted_string in trust):
                yield from _certificate(x509.load_der_x509_certificate, der)


def _certificate(load: Callable[[bytes], x509.Certificate], data: bytes) -> Iterator[x509.Certificate]:
    """One root, or none: a store may hold certificates that break RFC 5280 and that nobody needs."""
    try:
        yield load(data)
    except ValueError:
        return

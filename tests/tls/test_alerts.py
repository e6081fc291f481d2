from __future__ import annotations

import re

from quicstack.errors import CertificateError
from quicstack.tls.alerts import Alert, tls_error


def test_codes() -> None:
    """RFC 9001 §4.8."""
    cause = CertificateError("no")
    error = tls_error(Alert.UNKNOWN_CA, "why", cause)
    assert (error.code, error.reason, error.cause) == (0x130, "why", cause)
    assert re.fullmatch(r"CRYPTO_ERROR\(48\): why", str(error))

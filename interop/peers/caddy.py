"""caddy as a server, over HTTP/3 (caddy 2.6 has quic-go 0.32 or older): files of a folder, and nothing to be set.

Retry, version 2, key updates of its own and a preferred address are not among its settings.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any, Final

from interop.cases import ENDPOINT_CASES
from interop.surroundings import UNSUPPORTED, Surroundings

CASES: Final = ENDPOINT_CASES - {"retry", "keyupdate", "v2", "connectionmigration"}


def configuration(told: Surroundings) -> dict[str, Any]:
    listen = f"[{told.host}]:{told.port}" if ":" in told.host else f"{told.host}:{told.port}"
    return {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"level": "WARN"}}},
        "storage": {"module": "file_system", "root": tempfile.mkdtemp()},
        "apps": {
            "http": {
                "servers": {
                    "files": {
                        "listen": [listen],
                        "protocols": ["h1", "h2", "h3"],
                        "automatic_https": {"disable": True},
                        "tls_connection_policies": [{}],
                        "routes": [{"handle": [{"handler": "file_server", "root": str(told.www)}]}],
                    }
                }
            },
            "tls": {"certificates": {"load_files": [{"certificate": told.certificate, "key": told.key}]}},
        },
    }


def main() -> int:
    told = Surroundings.read()
    if told.case not in CASES or told.role != "server":
        return UNSUPPORTED
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(configuration(told), file)
    os.execvp("caddy", ["caddy", "run", "--config", file.name])


if __name__ == "__main__":
    sys.exit(main())

"""ngtcp2's example programs on GnuTLS as an endpoint, over HTTP/3: gtlsclient and gtlsserver (ngtcp2 0.12).

They speak no HTTP/0.9. Their version 2 is a draft's, with other keys and another number than RFC 9369's.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from interop.cases import ENDPOINT_CASES
from interop.surroundings import UNSUPPORTED, Surroundings, Target

CASES: Final = ENDPOINT_CASES - {"v2"}
QUIETLY: Final = ("--quiet", "--handshake-timeout=60s")
ONLY_CHACHA20: Final = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"


def client(told: Surroundings, targets: list[Target], *options: str) -> list[str]:
    command = ["gtlsclient", *QUIETLY, "--exit-on-all-streams-close", f"--download={told.downloads}", *options]
    if told.case == "chacha20":
        command.append(f"--ciphers={ONLY_CHACHA20}")
    if told.case == "keyupdate":
        command.append("--key-update=100ms")
    urls = [f"https://{target.authority}{target.path}" for target in targets]
    return [*command, targets[0].host, str(targets[0].port), *urls]


def server(told: Surroundings) -> list[str]:
    command = ["gtlsserver", *QUIETLY, f"--htdocs={told.www}"]
    if told.case == "retry":
        command.append("--validate-addr")
    if told.case == "chacha20":
        command.append(f"--ciphers={ONLY_CHACHA20}")
    if told.case == "connectionmigration":
        host, port = told.preferred[0]
        command.append(f"--preferred-ipv4-addr={host}:{port}")
    host = told.host.split()[0] if told.host else "*"
    return [*command, host, str(told.port), told.key, told.certificate]


def clients(told: Surroundings) -> list[list[str]]:
    """The commands of a client, one after the other."""
    targets = list(told.targets)
    if told.case == "multiconnect":
        return [client(told, [target]) for target in targets]
    if told.case in ("resumption", "zerortt"):
        kept = [f"--session-file={told.downloads}/../session", f"--tp-file={told.downloads}/../parameters"]
        if told.case == "resumption":
            kept.append("--disable-early-data")
        return [client(told, part, *kept) for part in (targets[:1], targets[1:])]
    return [client(told, targets)]


def main() -> int:
    told = Surroundings.read()
    if told.case not in CASES:
        return UNSUPPORTED
    for command in [server(told)] if told.role == "server" else clients(told):
        status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
        if status:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

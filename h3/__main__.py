"""``python -m h3 get URL`` fetches, ``python -m h3 serve DIRECTORY`` serves files."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import mimetypes
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from quicstack.config import Configuration
from quicstack.errors import QuicstackError
from quicstack.tls.certificate import CertificateKey, CertificateStore
from quicstack.tls.trust import Trust

from .client import H3Client, split_url
from .server import Reply, Request, serve

CHUNK = 1 << 16


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m h3", description="HTTP/3 from the command line.")
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser("get", help="fetch a URL and write its content to standard output")
    get.add_argument("url", help="an https URL")
    get.add_argument("--insecure", action="store_true", help="accept any certificate")
    get.add_argument("--ca", metavar="FILE", help="trust these root certificates instead of the system's")
    get.add_argument("-i", "--include", action="store_true", help="show status and header fields as well")
    get.add_argument("-o", "--output", metavar="FILE", help="write the content to a file")
    files = commands.add_parser("serve", help="serve the files of a directory")
    files.add_argument("directory", type=Path)
    files.add_argument("--host", default="localhost")
    files.add_argument("--port", type=int, default=4433)
    files.add_argument("--cert", required=True, metavar="FILE", help="certificate chain (PEM)")
    files.add_argument("--key", required=True, metavar="FILE", help="its private key (PEM)")
    return parser.parse_args()


async def fetch(options: argparse.Namespace) -> int:
    """GET; the exit status is 0 for a status below 400, as curl --fail has it."""
    trust = Trust.insecure() if options.insecure else Trust.roots(options.ca) if options.ca else Trust.system()
    host, port, target = split_url(options.url)
    async with H3Client.connect(host, port, trust=trust) as client:
        response = await client.get(target, headers=[("user-agent", "quicstack")])
        if options.include:
            lines = [f"HTTP/3 {response.status}", *(f"{name}: {value}" for name, value in response.headers)]
            print("\n".join(lines), end="\n\n", file=sys.stderr)
        with output(options.output) as file:
            async for chunk in response:
                file.write(chunk)
    return 0 if response.status < 400 else 22


@contextlib.contextmanager
def output(path: str | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with Path(path).open("wb") as file:
            yield file


async def serve_files(options: argparse.Namespace) -> int:
    """GET and HEAD of the files below a directory, until interrupted."""
    root = options.directory.resolve(strict=True)
    certificates = CertificateStore(CertificateKey.load(options.cert, options.key))
    configuration = Configuration(alpn_protocols=("h3",), certificates=certificates)

    async def handler(request: Request) -> Reply:
        reply = answer(root, request)
        print(request.method, request.path, reply.status, flush=True)
        return reply

    async with await serve(options.host, options.port, handler, configuration) as server:
        print(f"serving {root} on {server.server.addresses}", flush=True)
        await asyncio.Event().wait()
    return 0


def answer(root: Path, request: Request) -> Reply:
    """The file that a path names, if it lies below ``root``."""
    if request.method not in ("GET", "HEAD"):
        return Reply(405, [("allow", "GET, HEAD")], b"")
    path = (root / unquote(urlsplit(request.path).path).lstrip("/")).resolve()
    if path.is_dir():
        path = path / "index.html"
    if not path.is_relative_to(root) or not path.is_file():
        return Reply(404, [("content-type", "text/plain")], b"not found\n")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = [("content-type", kind), ("content-length", str(path.stat().st_size))]
    return Reply(200, headers, read_file(path))


async def read_file(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


def main() -> int:
    options = arguments()
    try:
        return asyncio.run(fetch(options) if options.command == "get" else serve_files(options))
    except (QuicstackError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

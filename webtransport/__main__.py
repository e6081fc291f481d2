"""``python -m webtransport demo``: see WebTransport at work, in the terminal or in a browser."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence

from webtransport.demo.run import TRANSFER, run_browser, run_server, run_terminal

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m webtransport", description="WebTransport over HTTP/3 and QUIC")
    parser.add_argument("-v", "--verbose", action="store_true", help="log connections and sessions")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="a client against a server, or a page in a browser")
    demo.add_argument("--browser", action="store_true", help="serve a page that talks to the server")
    demo.add_argument("--port", type=int, default=0, help="UDP port of the WebTransport server (default: any)")
    demo.add_argument("--http-port", type=int, default=8080, help="port of the page (default: 8080; 0: any)")
    demo.add_argument("--no-open", action="store_true", help="do not open a browser")
    demo.add_argument("--bytes", type=int, default=TRANSFER, help="size of the transfers that are measured")
    serve = commands.add_parser("serve", help="only the demonstration's server")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=4433)
    serve.add_argument("--certificates", help="folder of localhost.crt and localhost.key, made if missing")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if options.command == "serve":
        _run(run_server(options.host, options.port, options.certificates))
    elif options.browser:
        _run(run_browser(options.port, options.http_port, open_browser=not options.no_open))
    else:
        _run(run_terminal(options.bytes))


def _run(work: Coroutine[None, None, None]) -> None:
    async def until_told() -> None:
        task = asyncio.ensure_future(work)
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(until_told())
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"It did not work: {error}")


if __name__ == "__main__":
    main()

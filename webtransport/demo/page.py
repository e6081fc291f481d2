"""The page of the demonstration, over plain HTTP on this machine alone: browsers call ``http://localhost`` secure."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

__all__ = ["PageServer"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    page: bytes
    config: bytes


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """The page, and where it finds the WebTransport server."""
        path = self.path.partition("?")[0]
        if path in ("/", "/index.html"):
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif path == "/config.json":
            self._answer(HTTPStatus.OK, "application/json", self.server.config)
        elif path == "/favicon.ico":
            self._answer(HTTPStatus.NO_CONTENT, "image/x-icon", b"")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not here\n")

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The terminal is for the demonstration."""


class PageServer:
    """Serves on 127.0.0.1 and, where there is one, on ::1: ``localhost`` is either, depending on the browser."""

    def __init__(self, port: int, config: Mapping[str, object]) -> None:
        page = resources.files("webtransport.demo").joinpath("index.html").read_bytes()
        self._servers: list[_Server] = [_Server(("127.0.0.1", port), _Handler)]
        self.port = int(self._servers[0].server_address[1])
        with contextlib.suppress(OSError):  # no IPv6 here
            self._servers.append(_Server6(("::1", self.port), _Handler))
        for server in self._servers:
            server.page, server.config = page, json.dumps(config).encode()
            threading.Thread(target=server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def close(self) -> None:
        """Stop serving."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

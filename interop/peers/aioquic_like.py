"""aioquic or qh3 as an endpoint: ``python -m interop.peers.aioquic_like aioquic``. The two have nearly one interface.

Neither has ECN, a preferred address to announce, or a way to move a client.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from interop.cases import ENDPOINT_CASES
from interop.surroundings import UNSUPPORTED, Surroundings, Target

CASES: Final = ENDPOINT_CASES - {"connectionmigration"}
QUIC_V1, QUIC_V2 = 0x00000001, 0x6B3343CF
CHACHA20: Final = 0x1303
STREAMS_AT_ONCE: Final = 20
"""qh3 refuses to open a stream for which there is no credit; aioquic lets it wait."""


class Stack:
    """The modules of one of the two."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asyncio: Any = importlib.import_module(f"{name}.asyncio")
        self.client: Any = importlib.import_module(f"{name}.asyncio.client")
        self.server: Any = importlib.import_module(f"{name}.asyncio.server")
        self.protocol: Any = importlib.import_module(f"{name}.asyncio.protocol")
        self.configuration: Any = importlib.import_module(f"{name}.quic.configuration")
        self.events: Any = importlib.import_module(f"{name}.quic.events")
        self.tls: Any = importlib.import_module(f"{name}.tls")
        self.h3: Any = importlib.import_module(f"{name}.h3.connection")
        self.h3_events: Any = importlib.import_module(f"{name}.h3.events")

    def configure(self, told: Surroundings, *, is_client: bool) -> Any:
        configuration = self.configuration.QuicConfiguration(is_client=is_client, alpn_protocols=[told.protocol])
        configuration.supported_versions = [QUIC_V1]
        if told.case == "v2":
            configuration.supported_versions = [QUIC_V2, QUIC_V1]
            if is_client:
                configuration.original_version = QUIC_V1
        if told.case == "chacha20":
            configuration.cipher_suites = [self.tls.CipherSuite(CHACHA20)]
        if key_log := os.environ.get("SSLKEYLOGFILE"):
            configuration.secrets_log_file = Path(key_log).open("a", buffering=1)  # noqa: SIM115
        if is_client:
            configuration.verify_mode = ssl.CERT_NONE
        else:
            configuration.load_cert_chain(told.certificate, told.key)
        return configuration

    # -- client ------------------------------------------------------------------------------------------------------

    async def run_client(self, told: Surroundings) -> None:
        configuration = self.configure(told, is_client=True)
        if told.case == "multiconnect":
            parts = [[target] for target in told.targets]
        elif told.case in ("resumption", "zerortt"):
            parts = [list(told.targets[:1]), list(told.targets[1:])]
        else:
            parts = [list(told.targets)]
        for number, targets in enumerate(parts):
            await self.download(told, configuration, targets, is_early=told.case == "zerortt" and number == 1)

    async def download(
        self, told: Surroundings, configuration: Any, targets: Sequence[Target], *, is_early: bool
    ) -> None:
        has_ticket = asyncio.Event()

        def keep(ticket: Any) -> None:
            configuration.session_ticket = ticket
            has_ticket.set()

        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                self.client.connect(
                    targets[0].host,
                    targets[0].port,
                    configuration=configuration,
                    create_protocol=self.protocol_class(None),
                    session_ticket_handler=keep if told.case in ("resumption", "zerortt") else None,
                    wait_connected=not is_early,
                )
            )
            if told.case == "keyupdate":
                await client.ping()
                client.request_key_update()
            fetch = client.fetch_h3 if told.protocol == "h3" else client.fetch
            turn = asyncio.Semaphore(STREAMS_AT_ONCE)

            async def fetch_in_turn(target: Target) -> None:
                async with turn:
                    await fetch(target, told.download(target.path))

            await asyncio.gather(*map(fetch_in_turn, targets))
            if told.case in ("resumption", "zerortt") and configuration.session_ticket is None:
                await asyncio.wait_for(has_ticket.wait(), 5)

    # -- server ------------------------------------------------------------------------------------------------------

    async def run_server(self, told: Surroundings) -> None:
        tickets: dict[bytes, Any] = {}
        await self.server.serve(
            told.host or "::",
            told.port,
            configuration=self.configure(told, is_client=False),
            create_protocol=self.protocol_class(told),
            retry=told.case == "retry",
            session_ticket_fetcher=lambda label: tickets.pop(label, None),
            session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
        )
        await asyncio.Event().wait()

    # -- both --------------------------------------------------------------------------------------------------------

    def protocol_class(self, told: Surroundings | None) -> Any:
        """Streams by hand, because the stream interface of both keeps no count of streams that the peer allows."""
        events, h3, h3_events = self.events, self.h3, self.h3_events

        class Protocol(self.asyncio.QuicConnectionProtocol):  # type: ignore[misc, name-defined]
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                self.http: Any = None
                self.requests: dict[int, bytes] = {}
                self.answers: dict[int, tuple[Path, list[bytes], asyncio.Future[None]]] = {}

            def use_h3(self) -> None:
                if self.http is None:
                    self.http = h3.H3Connection(self._quic)

            def quic_event_received(self, event: Any) -> None:
                if isinstance(event, events.ProtocolNegotiated) and event.alpn_protocol == "h3":
                    self.use_h3()
                if isinstance(event, events.ConnectionTerminated):
                    for _, _, done in self.answers.values():
                        if not done.done():
                            done.set_exception(ConnectionError(event.reason_phrase or hex(event.error_code)))
                if self.http is not None:
                    for one in self.http.handle_event(event):
                        self._on_h3(one)
                elif isinstance(event, events.StreamDataReceived):
                    self._on_data(event.stream_id, event.data, event.end_stream)

            def _on_data(self, stream_id: int, data: bytes, is_end: bool) -> None:
                if told is None:
                    self._on_answer(stream_id, data, is_end)
                    return
                request = self.requests[stream_id] = self.requests.get(stream_id, b"") + data
                if is_end or request.endswith(b"\r\n"):
                    found = told.file(request.decode().removeprefix("GET ").strip())
                    if self.requests.pop(stream_id, None) and not is_end:
                        self.requests[stream_id] = b""
                    if request:
                        self._quic.send_stream_data(stream_id, found.read_bytes() if found else b"", True)
                        self.transmit()

            def _on_h3(self, event: Any) -> None:
                if told is None and isinstance(event, h3_events.DataReceived):
                    self._on_answer(event.stream_id, event.data, event.stream_ended)
                elif told is None and isinstance(event, h3_events.HeadersReceived) and event.stream_ended:
                    self._on_answer(event.stream_id, b"", True)
                elif told is not None and isinstance(event, h3_events.HeadersReceived):
                    found = told.file(dict(event.headers)[b":path"].decode())
                    self.http.send_headers(event.stream_id, [(b":status", b"200" if found else b"404")])
                    self.http.send_data(event.stream_id, found.read_bytes() if found else b"", True)
                    self.transmit()

            def _on_answer(self, stream_id: int, data: bytes, is_end: bool) -> None:
                if stream_id not in self.answers:
                    return
                path, parts, done = self.answers[stream_id]
                parts.append(data)
                if is_end and not done.done():
                    path.write_bytes(b"".join(parts))
                    done.set_result(None)

            async def fetch(self, target: Target, to: Path) -> None:
                stream_id = self._quic.get_next_available_stream_id()
                self._quic.send_stream_data(stream_id, f"GET {target.path}\r\n".encode(), True)
                await self._answer(stream_id, to)

            async def fetch_h3(self, target: Target, to: Path) -> None:
                self.use_h3()
                stream_id = self._quic.get_next_available_stream_id()
                names = (
                    (":method", "GET"),
                    (":scheme", "https"),
                    (":authority", target.authority),
                    (":path", target.path),
                )
                self.http.send_headers(stream_id, [(name.encode(), value.encode()) for name, value in names], True)
                await self._answer(stream_id, to)

            async def _answer(self, stream_id: int, to: Path) -> None:
                done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.answers[stream_id] = (to, [], done)
                self.transmit()
                await done

        return Protocol


def main() -> int:
    told = Surroundings.read()
    if told.case not in CASES:
        return UNSUPPORTED
    stack = Stack(sys.argv[1])
    try:
        asyncio.run(stack.run_server(told) if told.role == "server" else stack.run_client(told))
    except (ConnectionError, TimeoutError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast is one bulk transfer over loopback, next to aioquic? (`make bench`)

A server and a client in a process each, one connection, one stream. The clock runs in the process that receives, from
the request to the last byte, so the handshake is not in it and slow start is. Both stacks run in turn, pair by pair,
because a shared machine is faster in one minute than in the next; what counts is the ratio inside one run.

    python benchmarks/bulk.py --pairs 5 --direction download --sizes 64 16

``--sizes`` are megabytes for quicstack and for aioquic: a rate needs no equal sizes, only runs that are long enough.
Both use the same UDP payload size, AES-128-GCM, pacing, and their own asyncio driver; the congestion controller is each
one's default, CUBIC here and Reno in aioquic. CPU time is that of the whole process, start and imports included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import platform
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

CHUNK = bytes(1 << 18)
ALPN = "bulk"
STACKS = ("quicstack", "aioquic")

# A run is one JSON object on the client's last line: {"bytes", "seconds", "cpu"}; the server's CPU time is on its own.


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


async def input_ends() -> None:
    await asyncio.to_thread(sys.stdin.read)


async def answer(reader: Any, writer: Any) -> None:
    """The server's side of a stream, on either stack: the first 9 bytes are the direction and the size."""
    request = await reader(9)
    while len(request) < 9:
        request += await reader(9 - len(request))
    size = int.from_bytes(request[1:])
    if request[:1] == b"d":
        await send(writer, size)
    else:
        started = time.perf_counter()
        await receive(reader, size)
        await writer(json.dumps({"seconds": time.perf_counter() - started}).encode(), True)


async def send(writer: Any, size: int) -> None:
    while size > 0:
        chunk = CHUNK[:size]
        size -= len(chunk)
        await writer(chunk, size == 0)


async def receive(reader: Any, size: int) -> None:
    while size > 0:
        data = await reader(1 << 20)
        if not data:
            raise SystemExit(f"the stream ended {size} bytes early")
        size -= len(data)


async def measure(reader: Any, writer: Any, direction: str, size: int) -> None:
    """The client's side."""
    started = time.perf_counter()
    await writer(direction[:1].encode() + size.to_bytes(8), False)
    if direction == "download":
        await receive(reader, size)
        seconds = time.perf_counter() - started
    else:
        await send(writer, size)
        report = b""
        while chunk := await reader(1 << 16):
            report += chunk
        seconds = json.loads(report)["seconds"]
    say(bytes=size, seconds=seconds, cpu=cpu_seconds())


# --- quicstack


def quicstack_configuration(payload: int, **more: Any) -> Any:
    from quicstack.config import Configuration

    return Configuration(
        alpn_protocols=(ALPN,), max_datagram_size=payload, path_mtu_discovery=False, cipher_suites=(0x1301,), **more
    )


async def quicstack_server(certificate: Path, payload: int) -> None:
    from quicstack.drivers.aio import AsyncConnection, serve
    from quicstack.tls.certificate import CertificateKey, CertificateStore

    async def serve_streams(connection: AsyncConnection) -> None:
        stream = await connection.accept_stream()

        async def writer(data: bytes, end: bool) -> None:
            await stream.write(data)
            if end:
                stream.finish()

        await answer(stream.read, writer)
        await connection.wait_closed()

    store = CertificateStore(CertificateKey.load(certificate / "cert.pem", certificate / "key.pem"))
    configuration = quicstack_configuration(payload, certificates=store)
    async with await serve("127.0.0.1", 0, configuration=configuration, on_connection=serve_streams) as server:
        say(port=server.addresses[0][1])
        await input_ends()
    say(cpu=cpu_seconds())


async def quicstack_client(port: int, payload: int, direction: str, size: int) -> None:
    from quicstack.drivers.aio import connect
    from quicstack.tls.trust import Trust

    configuration = quicstack_configuration(payload, server_name="localhost", trust=Trust.insecure())
    async with await connect("127.0.0.1", port, configuration=configuration) as connection:
        stream = await connection.open_stream()

        async def writer(data: bytes, end: bool) -> None:
            await stream.write(data)
            if end:
                stream.finish()

        await measure(stream.read, writer, direction, size)


# --- aioquic


def aioquic_configuration(payload: int, **more: Any) -> Any:
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.tls import CipherSuite

    return QuicConfiguration(
        alpn_protocols=[ALPN],
        max_datagram_size=payload,
        cipher_suites=[CipherSuite.AES_128_GCM_SHA256],
        **more,
    )


def aioquic_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[Any, Any]:
    async def write(data: bytes, end: bool) -> None:
        writer.write(data)
        if end:
            writer.write_eof()

    return reader.read, write


async def aioquic_server(certificate: Path, payload: int) -> None:
    from aioquic.asyncio.server import serve

    answers = set()

    def on_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers.add(asyncio.get_running_loop().create_task(answer(*aioquic_stream(reader, writer))))

    configuration = aioquic_configuration(payload, is_client=False)
    configuration.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = await serve("127.0.0.1", 0, configuration=configuration, stream_handler=on_stream)
    say(port=server._transport.get_extra_info("sockname")[1])
    await input_ends()
    server.close()
    say(cpu=cpu_seconds())


async def aioquic_client(port: int, payload: int, direction: str, size: int) -> None:
    from aioquic.asyncio.client import connect

    configuration = aioquic_configuration(payload, is_client=True, verify_mode=ssl.CERT_NONE)
    async with connect("127.0.0.1", port, configuration=configuration) as protocol:
        await measure(*aioquic_stream(*await protocol.create_stream()), direction, size)


# --- the runs


def run(stack: str, folder: Path, payload: int, direction: str, size: int) -> dict[str, float]:
    """One transfer in two fresh processes: its rate, and the CPU time of both in microseconds a packet."""
    command = [sys.executable, __file__, "--payload", str(payload)]
    server = subprocess.Popen(
        [*command, "--role", "server", stack, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout
    with contextlib.ExitStack() as stack_of_things:
        stack_of_things.callback(server.kill)
        port = json.loads(server.stdout.readline())["port"]
        client = subprocess.run(
            [*command, "--role", "client", stack, str(port), direction, str(size)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=600,
        )
        if client.returncode:
            raise SystemExit(f"the {stack} client failed")
        result = json.loads(client.stdout.splitlines()[-1])
        server.stdin.close()
        server_cpu = json.loads(server.stdout.readline())["cpu"]
        server.wait(timeout=20)
    packets = size / payload
    return {
        "mbit": size * 8 / result["seconds"] / 1e6,
        "client_cpu": result["cpu"] / packets * 1e6,
        "server_cpu": server_cpu / packets * 1e6,
    }


def make_certificate(folder: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def heading(arguments: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("quicstack", "aioquic", "cryptography"))
    own, other = arguments.sizes
    return "\n".join(
        [
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
            f"Python {platform.python_version()}, {versions}",
            f"{platform.system()} {platform.release()}, {os.cpu_count()} x {processor()},"
            f" load {os.getloadavg()[0]:.2f}",
            f"UDP payload {arguments.payload} bytes, AES-128-GCM, pacing on, one stream, {arguments.direction},"
            f" {own} MB (quicstack) and {other} MB (aioquic)",
        ]
    )


def compare(arguments: argparse.Namespace) -> None:
    print(heading(arguments), "\n")
    print("pair | quicstack Mbit/s | aioquic Mbit/s | ratio | CPU us per packet: quicstack client/server, aioquic")
    print("-----|------------------|----------------|-------|---------------------------------------------------")
    rates: dict[str, list[float]] = {stack: [] for stack in STACKS}
    with tempfile.TemporaryDirectory() as name:
        make_certificate(Path(name))
        for pair in range(1, arguments.pairs + 1):
            results = {}
            for stack, size in zip(STACKS, arguments.sizes, strict=True):
                results[stack] = run(stack, Path(name), arguments.payload, arguments.direction, size * 1_000_000)
                rates[stack].append(results[stack]["mbit"])
            ours, theirs = results["quicstack"], results["aioquic"]
            print(
                f"{pair:4} | {ours['mbit']:16.1f} | {theirs['mbit']:14.1f} | {ours['mbit'] / theirs['mbit']:5.2f} | "
                f"{ours['client_cpu']:.1f}/{ours['server_cpu']:.1f}, "
                f"{theirs['client_cpu']:.1f}/{theirs['server_cpu']:.1f}",
                flush=True,
            )
    medians = {stack: statistics.median(values) for stack, values in rates.items()}
    print(
        f"\nmedian: quicstack {medians['quicstack']:.1f} Mbit/s, aioquic {medians['aioquic']:.1f} Mbit/s, "
        f"ratio of medians {medians['quicstack'] / medians['aioquic']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Bulk transfer over loopback, quicstack and aioquic in turn.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs=2, default=(64, 16), metavar=("OURS", "AIOQUIC"), help="megabytes")
    parser.add_argument("--direction", choices=("download", "upload"), default="download")
    parser.add_argument("--payload", type=int, default=1200, help="UDP payload size of both, in bytes")
    parser.add_argument("--role", choices=("server", "client"), help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role is None:
        compare(arguments)
    elif arguments.role == "server":
        stack, folder = arguments.rest
        serve = {"quicstack": quicstack_server, "aioquic": aioquic_server}[stack]
        asyncio.run(serve(Path(folder), arguments.payload))
    else:
        stack, port, direction, size = arguments.rest
        ask = {"quicstack": quicstack_client, "aioquic": aioquic_client}[stack]
        asyncio.run(ask(int(port), arguments.payload, direction, int(size)))


if __name__ == "__main__":
    main()

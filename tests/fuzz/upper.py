"""Targets for the readers of HTTP/3 and WebTransport: any bytes give a value or the error of their layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from h3.capsule import CapsuleParser
from h3.datagram import read_datagram
from h3.errors import H3Error
from h3.fields import check_capsule_protocol, joined_cookies, validate_request, validate_response, validate_trailers
from h3.frames import VarintReader, read_single_id
from h3.priority import parse_priority, read_priority_update
from h3.qpack import FieldDecoder, FieldEncoder, count_field_lines
from h3.settings import read_settings
from webtransport.capsules import CapsuleError, read_close, read_limit
from webtransport.dialects import DIALECTS
from webtransport.structured_fields import parse_item, parse_list
from webtransport.subprotocols import read_answer, read_offer

__all__ = ["UPPER"]

KNOWN_CAPSULES = {0x2843: 1028, 0x78AE: 0, 0x190B4D3D: 8, 0x190B4D3E: 8, 0x190B4D3F: 8}


def h3_settings(data: bytes) -> None:
    with suppress(H3Error):
        read_settings(data)


def h3_single_id(data: bytes) -> None:
    with suppress(H3Error):
        read_single_id(data, "GOAWAY")


def h3_datagram(data: bytes) -> None:
    with suppress(H3Error):
        stream_id, payload = read_datagram(data)
        assert stream_id % 4 == 0 and len(payload) < len(data)


def h3_priority(data: bytes) -> None:
    with suppress(H3Error):
        parse_priority(data)
        read_priority_update(data)


class Drip:
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, n: int = -1) -> bytes:
        n = min(n if n >= 0 else 3, 3)
        data, self.data = self.data[:n], self.data[n:]
        return data


def h3_varints(data: bytes) -> None:
    reader = VarintReader(Drip(data))
    while reader.next() is not None:
        pass


def capsules(data: bytes) -> None:
    """The first byte says where they are cut; in one piece they have to be the same."""
    cut = data[0] if data else 0
    data = data[1:]
    results = []
    for parts in ((data,), (data[:cut], data[cut:])):
        parser = CapsuleParser(KNOWN_CAPSULES)
        try:
            found = [capsule for part in parts for capsule in parser.feed(part)]
            results.append((found, parser.is_mid_capsule))
        except H3Error as error:
            results.append(([], str(error)))
    assert results[0][1] == results[1][1], results


def qpack(data: bytes) -> None:
    """Pieces for the decoder: by their first byte, encoder instructions or the field section of a stream."""
    decoder = FieldDecoder(capacity=4096, blocked_streams=8, max_section_size=1 << 14)
    with suppress(H3Error):
        for number, piece in pieces(data):
            if number % 3 == 0:
                for stream_id in decoder.receive(piece):
                    decoder.resume(stream_id)
            elif number % 3 == 1:
                decoder.decode(4 * (number % 5), piece)
            else:
                decoder.cancel(4 * (number % 5))
            decoder.take_output()


def qpack_encoder(data: bytes) -> None:
    """Decoder instructions for an encoder that has used its dynamic table."""
    encoder = FieldEncoder()
    encoder.apply_settings(4096)
    encoder.encode(0, [(b"name", b"value"), (b"cookie", b"1" * 50)])
    encoder.encode(4, [(b"name", b"value"), (b"cookie", b"2" * 50)])
    with suppress(H3Error):
        encoder.receive(data)


def field_lines(data: bytes) -> None:
    with suppress(H3Error):
        count_field_lines(data, 100)


def fields(data: bytes) -> None:
    """Names and values cut at zero bytes."""
    cells = data.split(b"\x00")
    found = list(zip(cells[::2], cells[1::2], strict=False))
    for validate in (
        lambda: validate_request(found, extended_connect=True),
        lambda: validate_request(found, extended_connect=False),
        lambda: validate_response(found),
        lambda: validate_trailers(found),
        lambda: check_capsule_protocol(found),
        lambda: joined_cookies(found),
    ):
        with suppress(H3Error):
            validate()


def wt_capsules(data: bytes) -> None:
    with suppress(CapsuleError):
        read_close(data)
    for capsule_type in (0x190B4D3D, 0x190B4D3E, 0x190B4D3F):
        with suppress(CapsuleError):
            read_limit(capsule_type, data)


def structured_fields(data: bytes) -> None:
    text = data.decode("latin-1")
    parse_list(text)
    parse_item(text)


def subprotocols(data: bytes) -> None:
    for dialect in DIALECTS:
        for name, answer in dialect.available_headers:
            read_offer(dialect, [(name.encode(), data)])
            read_answer(dialect, [(answer.encode(), data)])


def pieces(data: bytes) -> list[tuple[int, bytes]]:
    """(first byte, content) of each piece: one byte, two of length, and so many or what is left."""
    found = []
    position = 0
    while position + 3 <= len(data):
        length = int.from_bytes(data[position + 1 : position + 3]) % 4096
        found.append((data[position], data[position + 3 : position + 3 + length]))
        position += 3 + length
    return found


_ALL: tuple[Callable[[bytes], None], ...] = (
    h3_settings,
    h3_single_id,
    h3_datagram,
    h3_priority,
    h3_varints,
    capsules,
    qpack,
    qpack_encoder,
    field_lines,
    fields,
    wt_capsules,
    structured_fields,
    subprotocols,
)
UPPER = {target.__name__: target for target in _ALL}

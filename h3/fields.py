"""What makes a message well-formed (RFC 9114 §4.1.2, §4.2, §4.3, §4.4; RFC 9110 §5; RFC 8441 §4).

The validators raise H3StreamError of type H3_MESSAGE_ERROR. The same ones look at what the application wants to send:
there the error becomes an :class:`InvalidMessage` and nothing leaves.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import malformed
from .qpack import Fields

__all__ = [
    "RequestHead",
    "ResponseHead",
    "check_capsule_protocol",
    "joined_cookies",
    "validate_request",
    "validate_response",
    "validate_trailers",
]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a token of RFC 9110 §5.6.2 without the uppercase letters
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?")  # RFC 9110 §5.5
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*")
_PATH = re.compile(rb"/[^\x00-\x20\x7f#]*")
_AUTHORITY = re.compile(rb"[^\x00-\x20\x7f/?#@\\]+")
_STATUS = re.compile(rb"[1-5][0-9][0-9]")
_DIGITS = re.compile(rb"[0-9]{1,19}")

# RFC 9114 §4.2: fields that describe a hop of HTTP/1.1.
_CONNECTION_SPECIFIC = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
_REQUEST_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_RESPONSE_PSEUDO = frozenset({b":status"})
_NO_PSEUDO: frozenset[bytes] = frozenset()


class RequestHead(NamedTuple):
    """The control data of a request (RFC 9114 §4.3.1), and what its Content-Length field says."""

    method: bytes
    scheme: bytes | None
    authority: bytes | None
    path: bytes | None
    protocol: bytes | None
    content_length: int | None

    @property
    def is_connect(self) -> bool:
        """CONNECT in either form: the stream becomes a tunnel (RFC 9114 §4.4)."""
        return self.method == b"CONNECT"


class ResponseHead(NamedTuple):
    """The control data of a response (RFC 9114 §4.3.2), and what its Content-Length field says."""

    status: int
    content_length: int | None

    @property
    def is_informational(self) -> bool:
        """An interim response: the final one is still to come (RFC 9110 §15.2)."""
        return self.status < 200


def validate_request(fields: Fields, *, extended_connect: bool) -> RequestHead:
    """The head of a request. ``extended_connect`` tells whether :protocol has been negotiated (RFC 9220 §3)."""
    allowed = _REQUEST_PSEUDO | {b":protocol"} if extended_connect else _REQUEST_PSEUDO
    pseudo, content_length, host = _walk(fields, allowed)
    method, protocol = pseudo.get(b":method"), pseudo.get(b":protocol")
    if method is None or not _TOKEN.fullmatch(method):
        raise malformed(":method is missing or not a token")
    scheme, path, authority = pseudo.get(b":scheme"), pseudo.get(b":path"), pseudo.get(b":authority")
    if protocol is not None and (method != b"CONNECT" or not _TOKEN.fullmatch(protocol)):
        raise malformed(":protocol belongs to CONNECT, and is a token")
    if method == b"CONNECT" and protocol is None:
        if scheme is not None or path is not None:
            raise malformed("CONNECT has :scheme or :path")
        if authority is None:
            raise malformed("CONNECT has no :authority")
    else:
        _check_target(method, scheme, path)
    if authority is not None and not _AUTHORITY.fullmatch(authority):
        raise malformed(":authority is empty, or not a host with an optional port")
    if host is not None and authority is not None and host.lower() != authority.lower():
        raise malformed("Host differs from :authority")
    if scheme is not None and scheme.lower() in (b"http", b"https") and not (authority or host):
        raise malformed("neither :authority nor Host")
    return RequestHead(method, scheme, authority or host, path, protocol, content_length)


def _check_target(method: bytes, scheme: bytes | None, path: bytes | None) -> None:
    """RFC 9114 §4.3.1: every request but a plain CONNECT says :scheme and :path."""
    if scheme is None or not _SCHEME.fullmatch(scheme):
        raise malformed(":scheme is missing or invalid")
    if path is None:
        raise malformed(":path is missing")
    if scheme.lower() not in (b"http", b"https"):
        return
    if not _PATH.fullmatch(path) and not (path == b"*" and method == b"OPTIONS"):
        raise malformed(":path does not start with a slash, or holds characters a path cannot have")


def validate_response(fields: Fields) -> ResponseHead:
    """The head of a response, final or informational."""
    pseudo, content_length, _ = _walk(fields, _RESPONSE_PSEUDO)
    status = pseudo.get(b":status")
    if status is None or not _STATUS.fullmatch(status):
        raise malformed(":status is missing or not a status code")
    if status == b"101":
        raise malformed("101 (Switching Protocols) does not exist in HTTP/3")  # RFC 9114 §4.5
    return ResponseHead(int(status), content_length)


def validate_trailers(fields: Fields) -> None:
    """RFC 9114 §4.3: a trailer section has no pseudo-header fields."""
    _walk(fields, _NO_PSEUDO)


def _walk(fields: Fields, allowed_pseudo: frozenset[bytes]) -> tuple[dict[bytes, bytes], int | None, bytes | None]:
    """Check each line; returns pseudo-header fields, Content-Length and Host."""
    pseudo: dict[bytes, bytes] = {}
    content_length: int | None = None
    host: bytes | None = None
    regular_seen = False
    for name, value in fields:
        if not _VALUE.fullmatch(value):
            raise malformed(f"invalid character in the value of {name!r}")
        if name[:1] == b":":
            if name not in allowed_pseudo:
                raise malformed(f"pseudo-header field {name!r} is not defined here")
            if regular_seen:
                raise malformed(f"pseudo-header field {name!r} after a regular field")
            if name in pseudo:
                raise malformed(f"pseudo-header field {name!r} appears twice")
            pseudo[name] = value
            continue
        regular_seen = True
        if not _NAME.fullmatch(name):
            raise malformed(f"field name {name!r} is not a lowercase token")
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
            raise malformed(f"field {name!r} is specific to a connection")
        if name == b"content-length":
            if content_length is not None or not _DIGITS.fullmatch(value):
                raise malformed("content-length is repeated or not a number")
            content_length = int(value)
        elif name == b"host":
            if host is not None or not _AUTHORITY.fullmatch(value):
                raise malformed("host is repeated, empty or invalid")
            host = value
    return pseudo, content_length, host


def check_capsule_protocol(fields: Fields) -> None:
    """RFC 9297 §3.2: what a message whose stream carries capsules must not say."""
    for name, value in fields:
        if name in (b"content-length", b"content-type", b"transfer-encoding"):
            raise malformed(f"field {name!r} on a stream of capsules")
        if name == b":status" and value in (b"204", b"205", b"206"):
            raise malformed(f"status {value.decode()} on a stream of capsules")


def joined_cookies(fields: Fields) -> Fields:
    """The fields with the crumbs of Cookie put together, as a generic application expects it (RFC 9114 §4.2.1)."""
    crumbs = [value for name, value in fields if name == b"cookie"]
    if len(crumbs) < 2:
        return fields
    rest = [field for field in fields if field[0] != b"cookie"]
    return [*rest, (b"cookie", b"; ".join(crumbs))]

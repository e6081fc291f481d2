from __future__ import annotations

from h3.headers import Headers, encode_headers


def test_names_are_lowercase_bytes_on_the_wire() -> None:
    assert encode_headers([("X-A", "\xe4"), (b"X-B", b"c")]) == [(b"x-a", b"\xe4"), (b"x-b", b"c")]


def test_reading() -> None:
    headers = Headers([(b":status", b"200"), (b"set-cookie", b"a"), (b"x", b"\xe4"), (b"set-cookie", b"b")])
    assert list(headers) == [("set-cookie", "a"), ("x", "\xe4"), ("set-cookie", "b")]
    assert (len(headers), headers.get("X"), headers.get("y"), headers.get("y", "z")) == (3, "\xe4", None, "z")
    assert headers.get_all("Set-Cookie") == ["a", "b"]
    assert "x" in headers and "y" not in headers and ":status" not in headers and 1 not in headers
    assert repr(headers) == "Headers([('set-cookie', 'a'), ('x', 'ä'), ('set-cookie', 'b')])"

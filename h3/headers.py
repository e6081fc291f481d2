"""Header fields as applications read them: text, in order, several values for a name allowed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .qpack import Fields

__all__ = ["HeaderItems", "Headers", "encode_headers"]

HeaderItems = Iterable[tuple[str | bytes, str | bytes]]
"""What applications may give where header fields are wanted."""


class Headers:
    """The regular fields of a section; names are lowercase, values decoded as ISO 8859-1 (RFC 9110 §5.5)."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Fields) -> None:
        self._fields = [(name, value) for name, value in fields if name[:1] != b":"]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a field."""
        values = self.get_all(name)
        return values[0] if values else default

    def get_all(self, name: str) -> list[str]:
        """All values of a field, in order."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for field_name, value in self._fields if field_name == wanted]


def encode_headers(items: HeaderItems) -> Fields:
    """Fields as they go on the wire: bytes, names in lowercase (RFC 9114 §4.2)."""
    return [
        (
            (name.encode("latin-1") if isinstance(name, str) else name).lower(),
            value.encode("latin-1") if isinstance(value, str) else value,
        )
        for name, value in items
    ]

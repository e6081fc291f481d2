"""A stream for scripts: calls that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from quicstack.drivers.transfer import give, take
from quicstack.errors import QuicstackError, StreamError
from quicstack.transport.stream import Stream

__all__ = ["BlockingStream"]

T = TypeVar("T")


class StreamOwner(Protocol):
    """What a stream needs of its connection."""

    @property
    def closed(self) -> QuicstackError | None: ...

    def flush(self) -> None: ...

    def until(self, condition: Callable[[], T | None], timeout: float | None) -> T: ...


class BlockingStream:
    """``accepted`` says how many bytes the last ``write`` handed over, also when it timed out."""

    def __init__(self, engine: Stream, connection: StreamOwner) -> None:
        self.engine = engine
        self.accepted = 0
        self._connection = connection

    def __repr__(self) -> str:
        return f"<BlockingStream {self.engine.id}>"

    @property
    def id(self) -> int:
        return self.engine.id

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self, n: int = -1, *, timeout: float | None = None) -> bytes:
        """At least one byte and at most ``n``, or b"" at the end. Raises StreamReset, or what closed the connection."""
        return self._connection.until(lambda: take(self.engine, n, self._connection.closed), timeout)

    def read_all(self, limit: int | None = None, *, timeout: float | None = None) -> bytes:
        """Everything up to the end; ``timeout`` is how long the peer may be silent."""
        parts: list[bytes] = []
        size = 0
        while data := self.read(timeout=timeout):
            size += len(data)
            if limit is not None and size > limit:
                raise StreamError(f"stream {self.id} carries more than {limit} bytes", stream_id=self.id)
            parts.append(data)
        return b"".join(parts)

    def stop_sending(self, code: int = 0) -> None:
        """Read no more: what comes is discarded, and the peer is asked to stop (STOP_SENDING)."""
        self.engine.stop_sending(code)
        self._connection.flush()

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, data: bytes, *, timeout: float | None = None) -> int:
        """Hand over all of ``data``, waiting while the buffer is full. Raises StreamStopped if the peer stops it."""
        return self._write(data, False, timeout)

    def write_all(self, data: bytes, *, timeout: float | None = None, reset_code: int = 0) -> None:
        """``write``, then end the sending side. If it cannot be done in time, the stream is reset."""
        try:
            self._write(data, True, timeout)
        except TimeoutError:
            self.reset(reset_code)
            raise

    def _write(self, data: bytes, fin: bool, timeout: float | None) -> int:
        self.accepted = 0
        return self._connection.until(lambda: self._give(data, fin), timeout)

    def _give(self, data: bytes, fin: bool) -> int | None:
        self.accepted = give(self.engine, data, self.accepted, fin, self._connection.closed)
        return self.accepted if self.accepted == len(data) else None

    def set_priority(self, urgency: int = 3, incremental: bool = True) -> None:
        """When to send what is written here, beside the other streams: ``Stream.set_priority`` of the engine."""
        self.engine.set_priority(urgency, incremental)

    def finish(self) -> None:
        """End the sending side after what was written."""
        self.engine.finish()
        self._connection.flush()

    def reset(self, code: int = 0) -> None:
        """Abandon the sending side (RESET_STREAM)."""
        self.engine.reset(code)
        self._connection.flush()

"""One UDP socket that moves trains: GSO, GRO, ECN, the local address of each datagram, and no fragmentation.

Every feature is tried when the socket is opened. One that the kernel, the route or the device refuses later (EIO,
EINVAL) is dropped for good, and the train at hand is sent again without it. Nothing here raises into an event loop: a
train that cannot leave comes back as a :class:`SendError`, errors of reception are counted.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from dataclasses import asdict
from typing import Any, Final

from quicstack.drivers.control import (
    CONTROL_SPACE,
    IP_PKTINFO,
    IP_RECVTOS,
    IPV6_RECVPKTINFO,
    IPV6_RECVTCLASS,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    ControlReader,
    ControlWriter,
    Item,
    constant,
)
from quicstack.drivers.udp_options import UdpOptions, UdpStats
from quicstack.train import Address, Path, SendError, Train

__all__ = ["SEND_ERRORS", "UdpOptions", "UdpSocket", "UdpStats"]

MAX_DATAGRAM: Final = 65535
MAX_GSO_BYTES: Final = 64000
MAX_GSO_SEGMENTS: Final = 64
"""UDP_MAX_SEGMENTS of the kernel: 64, and 128 since Linux 6.9."""
FEW: Final = 4
"""Datagrams that came alone, after which the next one is expected to be alone as well."""

_SO_RCVBUFFORCE: Final = constant("SO_RCVBUFFORCE", 33)
_SO_SNDBUFFORCE: Final = constant("SO_SNDBUFFORCE", 32)
_IP_RECVERR: Final = constant("IP_RECVERR", 11)
_IPV6_RECVERR: Final = constant("IPV6_RECVERR", 25)
_MSG_ERRQUEUE: Final = constant("MSG_ERRQUEUE", 0x2000)
_MSG_TRUNC: Final = int(socket.MSG_TRUNC)  # the enumeration's own & costs as much as the system call
_ORIGIN_ICMP: Final = (2, 3)  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
_PMTUDISC_PROBE: Final = 3

_NOT_FRAGMENTED: Final[list[tuple[int, int | None, int]]] = [
    # RFC 9000 §14: no fragmentation. PROBE sets DF and ignores the path MTU that ICMP reports, which anybody can forge.
    (socket.IPPROTO_IP, constant("IP_MTU_DISCOVER", 10), _PMTUDISC_PROBE),
    (socket.IPPROTO_IPV6, constant("IPV6_MTU_DISCOVER", 23), _PMTUDISC_PROBE),
]
if not sys.platform.startswith("linux"):
    _NOT_FRAGMENTED[:] = [
        (socket.IPPROTO_IP, constant("IP_DONTFRAG", darwin=28), 1),
        (socket.IPPROTO_IPV6, constant("IPV6_DONTFRAG", darwin=62), 1),
    ]

SEND_ERRORS: Final = {
    errno.EMSGSIZE: SendError.TOO_BIG,
    errno.ECONNREFUSED: SendError.REFUSED,
}
_TOLD_LATE: Final = frozenset({errno.ECONNREFUSED, errno.EMSGSIZE})
"""What an ICMP message says of an older datagram, and this one was not sent for it. Anybody can forge one (RFC 9000
§14.2.1), so only an error that stays is about this datagram."""
_LOST_ON_THE_WAY: Final = frozenset({errno.ENOBUFS, errno.ENOMEM})
"""The host's own queue dropped it: to the peer that is loss like any other."""


_AS_IT_COMES: Final = UdpOptions()


class _OwnedSocket(socket.socket):
    """Closed in silence when its event loop ended first: whoever closes its UDP socket may leave the closing state
    early (RFC 9000 §10.2), so that is no leak."""

    def __del__(self) -> None:
        self.close()


class UdpSocket:
    """Owns a non-blocking UDP socket; ``index`` is its name in :class:`Path`."""

    def __init__(self, sock: socket.socket, options: UdpOptions, *, index: int = 0, client: bool = False) -> None:
        self.socket = sock
        self.index = index
        self.family = sock.family
        self.stats = UdpStats()
        self.options = options
        self.refused: list[Train] = []
        """Datagrams that an ICMP message says nobody wanted (clients on Linux); the driver empties it."""
        self._error_queue = False
        self._read_since = 0
        """Datagrams since it was last known that there is no other."""
        self._alone = 0
        """Datagrams in a row that came alone."""
        self._is_empty = False
        name: Address = sock.getsockname()
        self._is_wildcard = name[0] in ("0.0.0.0", "::")
        self._local: Address | None = None if self._is_wildcard else name
        self._reader = ControlReader(name[1])
        self._writer = ControlWriter(sock.family)
        self._last: tuple[Address, bytes, Path] = ((), b"", Path(()))
        self._has_recvmsg = hasattr(sock, "recvmsg")
        self._ask(options, client)

    # -- opening -------------------------------------------------------------------------------------------------

    @classmethod
    def bind(
        cls, address: Address, *, options: UdpOptions | None = None, index: int = 0, dual_stack: bool = False
    ) -> UdpSocket:
        """A server's socket. ``dual_stack``: ``::`` takes IPv4 too."""
        return cls._open(address, options or _AS_IT_COMES, index, dual_stack=dual_stack, client=False)

    @classmethod
    def towards(
        cls,
        remote: Address,
        *,
        local_address: Address | None = None,
        options: UdpOptions | None = None,
        index: int = 0,
    ) -> UdpSocket:
        """A client's socket, of the family of ``remote`` but not connected to it: servers may move (RFC 9000 §9.6)."""
        any_address: Address = ("::", 0) if ":" in remote[0] else ("0.0.0.0", 0)
        return cls._open(local_address or any_address, options or _AS_IT_COMES, index, dual_stack=False, client=True)

    @classmethod
    def _open(cls, address: Address, options: UdpOptions, index: int, *, dual_stack: bool, client: bool) -> UdpSocket:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = _OwnedSocket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
            if options.reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            return cls(sock, options, index=index, client=client)
        except BaseException:
            sock.close()
            raise

    def _ask(self, options: UdpOptions, client: bool) -> None:
        """Ask the kernel for each feature, and remember what it gave."""
        stats, ipv6 = self.stats, self.family == socket.AF_INET6
        stats.receive_buffer = self._grow(_SO_RCVBUFFORCE, socket.SO_RCVBUF, options.receive_buffer)
        stats.send_buffer = self._grow(_SO_SNDBUFFORCE, socket.SO_SNDBUF, options.send_buffer)
        for level, option, value in _NOT_FRAGMENTED:
            if ipv6 or level == socket.IPPROTO_IP:  # both on IPv6, for IPv4 peers of a dual-stack socket
                self._set(level, option, value)
        if not self._has_recvmsg:
            return
        stats.gro = options.gro and self._set(SOL_UDP, UDP_GRO, 1)
        stats.gso = options.gso and self._has(SOL_UDP, UDP_SEGMENT)
        if options.ecn:
            tos = self._set(socket.IPPROTO_IP, IP_RECVTOS, 1)  # on IPv6 too: for IPv4 peers of a dual-stack socket
            stats.ecn = self._set(socket.IPPROTO_IPV6, IPV6_RECVTCLASS, 1) if ipv6 else tos
        if self._is_wildcard and not client:
            # A client has one local address at a time and lets the kernel choose it; a server answers from the
            # address it was asked at.
            stats.packet_info = (
                self._set(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                if ipv6
                else self._set(socket.IPPROTO_IP, IP_PKTINFO, 1)
            )
        if client:
            # One peer, so an ICMP error can only be about it. On a server, the error that one client caused would
            # surface when sending to another.
            level, option = (socket.IPPROTO_IPV6, _IPV6_RECVERR) if ipv6 else (socket.IPPROTO_IP, _IP_RECVERR)
            self._error_queue = self._set(level, option, 1)

    def make_plain(self) -> None:
        """Give up what only :meth:`receive` can handle, before something else reads from the socket."""
        self._set(SOL_UDP, UDP_GRO, 0)
        self._set(socket.IPPROTO_IP, _IP_RECVERR, 0)
        self._set(socket.IPPROTO_IPV6, _IPV6_RECVERR, 0)
        self._error_queue = False
        self.stats.gso = self.stats.gro = self.stats.ecn = self.stats.packet_info = False

    def _set(self, level: int | None, option: int | None, value: int) -> bool:
        if level is None or option is None:
            return False
        try:
            self.socket.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def _has(self, level: int | None, option: int | None) -> bool:
        if level is None or option is None:
            return False
        try:
            self.socket.getsockopt(level, option)
        except OSError:
            return False
        return True

    def _grow(self, force: int | None, option: int, size: int) -> int:
        """Ask for a buffer, over the administrator's limit if this process may (CAP_NET_ADMIN)."""
        if not self._set(socket.SOL_SOCKET, force, size):
            self._set(socket.SOL_SOCKET, option, size)
        return self.socket.getsockopt(socket.SOL_SOCKET, option)

    # -- addresses -----------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def address(self) -> Address:
        """The address it is bound to."""
        name: Address = self.socket.getsockname()
        return name

    def path_to(self, remote: Address) -> Path:
        """The path of a connection that starts here."""
        return Path(remote, self._local, 0, self.index)

    def snapshot(self) -> dict[str, Any]:
        """The statistics as a plain dictionary."""
        return asdict(self.stats)

    def close(self) -> None:
        self.socket.close()

    # -- receiving -----------------------------------------------------------------------------------------------

    def receive(self) -> Train | None:  # hot path
        """The next train, None if there is none now. A train may be empty: it counts for whoever limits them.

        Where datagrams come one at a time, None is a guess, seven times of eight, that saves a system call: whoever
        watches the socket is told again if there is one more.
        """
        if not self._has_recvmsg:
            return self._receive_plainly()
        if self._is_empty:
            self._is_empty = False
            return None
        try:
            # Faster than recvmsg_into, by one copy: the kernel writes into the bytes object that the engine gets.
            data, items, flags, remote = self.socket.recvmsg(MAX_DATAGRAM, CONTROL_SPACE)
        except (BlockingIOError, InterruptedError):
            self._alone = self._alone + 1 if self._read_since == 1 else 0
            self._read_since = 0
            return None
        except OSError:
            self._receive_failed()
            return None
        stats = self.stats
        stats.trains_received += 1
        stats.bytes_received += len(data)
        segment_size, ecn, info = self._reader.read(items)
        self._read_since += 1
        if self._alone >= FEW and self._read_since == 1 and not segment_size:
            self._alone += 1
            if self._alone & 7:
                self._is_empty, self._read_since = True, 0
        if flags & _MSG_TRUNC:
            stats.truncated += 1
            data = b""
        last_remote, last_info, path = self._last
        if remote != last_remote or info != last_info:
            path = self._path_from(remote, info)
            self._last = (remote, info, path)
        return Train(data, segment_size or len(data), path, ecn)

    def _receive_plainly(self) -> Train | None:
        try:
            data, remote = self.socket.recvfrom(MAX_DATAGRAM)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self._receive_failed()
            return None
        self.stats.trains_received += 1
        self.stats.bytes_received += len(data)
        return Train(data, len(data), self.path_to(remote))

    def _path_from(self, remote: Address, info: bytes) -> Path:
        if not info:
            return self.path_to(remote)
        local, interface = self._reader.local(info)
        return Path(remote, local, interface, self.index)

    def _receive_failed(self) -> None:
        self.stats.receive_errors += 1
        self._read_error_queue()

    def _read_error_queue(self) -> None:
        """Empty the queue of ICMP messages; while one is in it, the socket is always "ready" (ip(7), IP_RECVERR)."""
        if not self._error_queue or _MSG_ERRQUEUE is None:
            return
        with contextlib.suppress(OSError):
            for _ in range(1000):
                data, items, _, remote = self.socket.recvmsg(2048, 512, _MSG_ERRQUEUE)
                if data and remote and any(self._is_refusal(item) for item in items):
                    self.refused.append(Train(data, len(data), self.path_to(remote)))

    @staticmethod
    def _is_refusal(item: Item) -> bool:
        level, kind, value = item
        if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            return False
        code, origin = struct.unpack_from("=IB", value)  # struct sock_extended_err
        return code == errno.ECONNREFUSED and origin in _ORIGIN_ICMP

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, train: Train) -> Train | SendError | None:  # hot path
        """None: it left. A train: what has to wait until the socket is writable. A SendError: it will not leave."""
        data, size, stats = train.data, train.segment_size, self.stats
        length = len(data)
        if length > size and (not stats.gso or length > MAX_GSO_BYTES or length > size * MAX_GSO_SEGMENTS):
            return self._send_in_parts(train)
        try:
            self._transmit(train)
        except (BlockingIOError, InterruptedError):
            stats.send_blocked += 1
            return train
        except OSError as error:
            return self._send_again(train, error)
        stats.trains_sent += 1
        stats.bytes_sent += length
        return None

    def _transmit(self, train: Train) -> None:  # hot path
        path, stats = train.path, self.stats
        items: list[Item] = []
        if len(train.data) > train.segment_size:
            items.append(self._writer.segment(train.segment_size))
        if train.ecn and stats.ecn:
            item = self._writer.ecn(train.ecn, path.remote)
            if item is not None:
                items.append(item)
        if stats.packet_info and path.local is not None:
            item = self._writer.local(path.local)
            if item is not None:
                items.append(item)
        if items:
            self.socket.sendmsg((train.data,), items, 0, path.remote)
        else:
            self.socket.sendto(train.data, path.remote)

    def _send_in_parts(self, train: Train) -> Train | SendError | None:
        """A train longer than the kernel takes at once, or any train without GSO: packet by packet."""
        data, size = train.data, train.segment_size
        step = size * max(1, min(MAX_GSO_SEGMENTS, MAX_GSO_BYTES // size)) if self.stats.gso else size
        for start in range(0, len(data), step):
            left = self.send(Train(data[start : start + step], size, train.path, train.ecn))
            if isinstance(left, Train):
                return Train(left.data + data[start + step :], size, train.path, train.ecn)
            if left is not None:
                return left
        return None

    def _send_again(self, train: Train, error: OSError) -> Train | SendError | None:
        """Find out which feature was refused by sending without it. What the next attempt cures is dropped for good."""
        stats = self.stats
        if self._error_queue:
            self._read_error_queue()
        if error.errno in (errno.EIO, errno.EINVAL):
            if stats.gso and len(train.data) > train.segment_size:
                return self._try_without("gso", train, given_up=error.errno == errno.EIO)
            if stats.ecn and train.ecn:
                return self._try_without("ecn", train, given_up=False)
        elif error.errno in _LOST_ON_THE_WAY:
            stats.dropped_locally += 1
            return None
        elif error.errno in _TOLD_LATE:
            for _ in range(3):
                with contextlib.suppress(OSError):
                    self._transmit(train)
                    stats.trains_sent += 1
                    stats.bytes_sent += len(train.data)
                    return None
                self._read_error_queue()
        stats.send_errors += 1
        return SEND_ERRORS.get(error.errno or 0, SendError.UNREACHABLE)

    def _try_without(self, feature: str, train: Train, *, given_up: bool) -> Train | SendError | None:
        setattr(self.stats, feature, False)
        result = self.send(train)
        if isinstance(result, SendError) and not given_up:
            setattr(self.stats, feature, True)  # not at fault: it fails without the feature too
        return result

"""Real sockets on loopback. Where a kernel has to refuse something, a subclass of ``socket`` refuses in its place."""

from __future__ import annotations

import errno
import select
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quicstack.drivers.udp import UdpOptions, UdpSocket
from quicstack.train import Address, Path, SendError, Train

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="not here: socket options of Linux")

Open = Callable[..., UdpSocket]


class Kernel(socket.socket):
    """A socket whose kernel refuses some messages: ``refuse(ancillary types) -> errno``."""

    refuse: Callable[[set[tuple[int, int]]], int] = staticmethod(lambda kinds: 0)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        code = self.refuse({(level, kind) for level, kind, _ in ancdata})
        if code:
            raise OSError(code, "refused by the test")
        return super().sendmsg(buffers, ancdata, flags, address)

    def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
        code = self.refuse(set())
        if code:
            raise OSError(code, "refused by the test")
        return super().sendto(data, address)


@pytest.fixture
def opened() -> Iterator[list[UdpSocket]]:
    sockets: list[UdpSocket] = []
    yield sockets
    for udp in sockets:
        udp.close()


@pytest.fixture
def bind(opened: list[UdpSocket]) -> Open:
    def bind(host: str = "127.0.0.1", **more: Any) -> UdpSocket:
        udp = UdpSocket.bind((host, 0), **more)
        opened.append(udp)
        return udp

    return bind


@pytest.fixture
def towards(opened: list[UdpSocket]) -> Open:
    def towards(remote: Address, **more: Any) -> UdpSocket:
        udp = UdpSocket.towards(remote, **more)
        opened.append(udp)
        return udp

    return towards


@pytest.fixture
def faulty(opened: list[UdpSocket]) -> Open:
    def faulty(refuse: Callable[[set[tuple[int, int]]], int], **more: Any) -> UdpSocket:
        sock = Kernel(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.refuse = refuse
        sock.bind(("127.0.0.1", 0))
        udp = UdpSocket(sock, UdpOptions(**more))
        opened.append(udp)
        return udp

    return faulty


def receive(udp: UdpSocket) -> Train:
    assert select.select([udp], [], [], 5)[0]
    train = udp.receive()
    assert train is not None
    return train


def receive_all(udp: UdpSocket, datagrams: int) -> list[bytes]:
    got: list[bytes] = []
    while len(got) < datagrams:
        got += receive(udp).datagrams()
    return got


def numbered(count: int, size: int, last: int | None = None) -> bytes:
    data = b"".join(bytes([i]) * size for i in range(count))
    return data if last is None else data + b"\xff" * last


def test_a_train_arrives_as_a_train(bind: Open, towards: Open) -> None:
    server = bind()
    client = towards(server.address)
    if not (client.stats.gso and server.stats.gro):
        pytest.skip("not here: a kernel without UDP GSO and GRO")
    data = numbered(10, 1200, last=7)
    assert client.send(Train(data, 1200, client.path_to(server.address))) is None
    train = receive(server)
    assert (train.data, train.segment_size) == (data, 1200)
    assert train.path.remote[1] == client.address[1]
    assert server.receive() is None


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("gro", [True, False])
def test_the_datagrams_are_the_same_with_each_feature_off(bind: Open, towards: Open, gso: bool, gro: bool) -> None:
    server = bind(options=UdpOptions(gro=gro))
    client = towards(server.address, options=UdpOptions(gso=gso))
    data = numbered(5, 1000, last=300)
    assert client.send(Train(data, 1000, client.path_to(server.address))) is None
    assert receive_all(server, 6) == Train(data, 1000, Path(())).datagrams()
    assert client.stats.bytes_sent == server.stats.bytes_received == len(data)


def test_a_train_longer_than_the_kernel_takes_goes_in_parts(bind: Open, towards: Open) -> None:
    server = bind()
    client = towards(server.address)
    data = numbered(200, 1200)
    assert client.send(Train(data, 1200, client.path_to(server.address))) is None
    assert b"".join(receive_all(server, 200)) == data


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "IPv4"), ("::1", "IPv6")])
@pytest.mark.parametrize("ecn", [0, 1, 2, 3])
def test_the_ecn_mark_arrives(bind: Open, towards: Open, host: str, family: str, ecn: int) -> None:
    server = bind(host)
    client = towards(server.address)
    assert client.stats.ecn and server.stats.ecn
    client.send(Train(b"x" * 10, 10, client.path_to(server.address), ecn))
    assert receive(server).ecn == ecn


def test_without_ecn_no_mark_is_sent_or_seen(bind: Open, towards: Open) -> None:
    server, deaf = bind(), bind(options=UdpOptions(ecn=False))
    for receiver, options in ((server, UdpOptions(ecn=False)), (deaf, UdpOptions())):
        client = towards(receiver.address, options=options)
        client.send(Train(b"x", 1, client.path_to(receiver.address), 2))
        assert receive(receiver).ecn == 0


@pytest.mark.parametrize(
    ("wildcard", "asked", "seen"),
    [
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2", "127.0.0.2"),
        ("::", "::1", "::1"),
        ("::", "127.0.0.2", "::ffff:127.0.0.2"),
    ],
)
def test_a_wildcard_answers_from_where_it_was_asked(
    bind: Open, towards: Open, wildcard: str, asked: str, seen: str
) -> None:
    server = bind(wildcard, dual_stack=True)
    remote = (asked, server.address[1])
    client = towards(remote)
    client.send(Train(b"question", 8, client.path_to(remote), 2))
    question = receive(server)
    assert question.path.local is not None
    assert question.path.local[:2] == (seen, server.address[1])
    assert question.ecn == 2
    assert server.send(Train(b"a" * 3000, 1000, question.path, 1)) is None
    answer = receive(client)
    assert answer.path.remote[:2] == remote
    assert answer.ecn == 1
    assert answer.path.local is None  # one path per client, however the answer came in


def test_paths_of_one_peer_are_equal_and_of_two_are_not(bind: Open, towards: Open) -> None:
    server = bind("0.0.0.0")
    one, two = (towards(("127.0.0.1", server.address[1])) for _ in range(2))
    paths = []
    for client in (one, two, one):
        client.send(Train(b"x", 1, client.path_to(("127.0.0.1", server.address[1]))))
        paths.append(receive(server).path)
    assert paths[0] == paths[2] != paths[1]


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL])
def test_gso_is_dropped_for_good_when_it_is_refused(bind: Open, faulty: Open, code: int) -> None:
    server = bind()
    calls = []

    def refuse(kinds: set[tuple[int, int]]) -> int:
        calls.append(kinds)
        return code if (17, 103) in kinds else 0

    client = faulty(refuse)
    assert client.stats.gso
    for _ in range(2):
        assert client.send(Train(numbered(3, 100), 100, client.path_to(server.address))) is None
        assert receive_all(server, 3) == [bytes([i]) * 100 for i in range(3)]
    assert not client.stats.gso
    assert sum((17, 103) in kinds for kinds in calls) == 1


def test_ecn_is_dropped_for_good_when_it_is_refused(bind: Open, faulty: Open) -> None:
    server = bind()
    client = faulty(lambda kinds: errno.EINVAL if (0, 1) in kinds else 0)
    assert client.send(Train(numbered(3, 100), 100, client.path_to(server.address), 2)) is None
    assert receive_all(server, 3) == [bytes([i]) * 100 for i in range(3)]
    assert not client.stats.ecn


def test_a_feature_that_was_not_at_fault_is_kept(faulty: Open) -> None:
    client = faulty(lambda kinds: errno.EINVAL)
    train = Train(numbered(3, 100), 100, client.path_to(("127.0.0.1", 9)), 2)
    assert client.send(train) is SendError.UNREACHABLE
    assert client.stats.gso and client.stats.ecn


def test_too_big_for_the_device_is_told_not_raised(opened: list[UdpSocket]) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    udp = UdpSocket(sock, UdpOptions())
    opened.append(udp)
    path = udp.path_to(("127.0.0.1", 9))
    assert udp.send(Train(b"x" * 65508, 65508, path)) is SendError.TOO_BIG
    assert sock.getsockopt(socket.IPPROTO_IP, 10) == 3  # IP_MTU_DISCOVER is PROBE: DF set, ICMP not believed
    assert udp.stats.send_errors == 1
    assert udp.stats.gso


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENETUNREACH, SendError.UNREACHABLE),
        (errno.EHOSTUNREACH, SendError.UNREACHABLE),
        (errno.EPERM, SendError.UNREACHABLE),
        (errno.EMSGSIZE, SendError.TOO_BIG),
        (errno.ECONNREFUSED, SendError.REFUSED),
        (errno.ENOBUFS, None),  # the host's queue overflowed: loss, as anywhere on the way
    ],
)
def test_errors_of_sending_are_told(faulty: Open, code: int, error: SendError | None) -> None:
    client = faulty(lambda kinds: code)
    assert client.send(Train(b"x", 1, client.path_to(("127.0.0.1", 9)))) is error


def test_a_full_socket_gives_the_train_back(faulty: Open) -> None:
    client = faulty(lambda kinds: errno.EAGAIN)
    train = Train(b"x", 1, client.path_to(("127.0.0.1", 9)))
    assert client.send(train) is train
    assert client.stats.send_blocked == 1


def test_what_is_left_of_a_train_comes_back_when_the_socket_fills_up(bind: Open, faulty: Open) -> None:
    server = bind()
    room = [2]

    def refuse(kinds: set[tuple[int, int]]) -> int:
        room[0] -= 1
        return 0 if room[0] >= 0 else errno.EAGAIN

    client = faulty(refuse, gso=False)
    left = client.send(Train(numbered(5, 100, last=50), 100, client.path_to(server.address), 1))
    assert isinstance(left, Train)
    assert left.data == numbered(5, 100, last=50)[200:]
    room[0] = 10
    assert client.send(left) is None
    assert len(receive_all(server, 6)) == 6


def test_nobody_listening_is_noticed_and_nothing_is_raised(bind: Open, towards: Open) -> None:
    for host in ("127.0.0.1", "::1"):
        gone = bind(host)
        remote = gone.address
        gone.close()
        client = towards(remote)
        assert client.send(Train(b"anybody?", 8, client.path_to(remote))) is None
        assert select.select([client], [], [], 5)[0]
        assert client.receive() is None
        assert client.stats.receive_errors == 1
        [refused] = client.refused
        assert refused.data == b"anybody?"
        assert refused.path == client.path_to(remote)
        # The queue of errors is empty: the socket does not stay "ready" for ever.
        assert not select.select([client], [], [], 0)[0]
        # An error that is pending must not eat the next train.
        client.send(Train(b"again", 5, client.path_to(remote)))
        assert client.send(Train(b"more", 4, client.path_to(remote))) is None


def test_a_server_is_not_disturbed_by_a_client_that_went_away(bind: Open, towards: Open) -> None:
    server = bind()
    client = towards(server.address)
    client.send(Train(b"x", 1, client.path_to(server.address)))
    path = receive(server).path
    client.close()
    for _ in range(3):
        assert server.send(Train(b"y", 1, path)) is None
    assert server.receive() is None
    assert server.stats.receive_errors == server.stats.send_errors == 0


def test_empty_datagrams_are_seen_as_empty_trains(bind: Open, towards: Open) -> None:
    server = bind()
    client = towards(server.address)
    client.send(Train(b"", 1, client.path_to(server.address)))
    assert receive(server).data == b""


def test_buffers_are_asked_for_and_shown(bind: Open) -> None:
    small = bind(options=UdpOptions(receive_buffer=1 << 16, send_buffer=1 << 16))
    large = bind()
    assert small.stats.receive_buffer < large.stats.receive_buffer
    assert large.snapshot()["receive_buffer"] == large.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_a_system_without_recvmsg_is_served_plainly(opened: list[UdpSocket]) -> None:
    class Plain:
        """The part of a socket that every system has."""

        def __init__(self) -> None:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sock.setblocking(False)
            self.sock.bind(("127.0.0.1", 0))
            for name in ("family", "setsockopt", "getsockopt", "getsockname", "sendto", "recvfrom", "fileno", "close"):
                setattr(self, name, getattr(self.sock, name))

    one, two = (UdpSocket(Plain(), UdpOptions()) for _ in range(2))  # type: ignore[arg-type]
    opened += [one, two]
    assert one.send(Train(numbered(3, 100), 100, one.path_to(two.address), 2)) is None
    trains = [receive(two) for _ in range(3)]
    assert [train.data for train in trains] == [bytes([i]) * 100 for i in range(3)]
    assert two.receive() is None

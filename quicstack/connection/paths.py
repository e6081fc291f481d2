"""The paths of a connection (RFC 9000 §8.2, §9): a few at a time, one in use, and how it comes to be another one.

``state.path`` is in use. ``state.other_paths`` holds those that are being proven, the one to fall back on, and those
left a moment ago, whose congestion state is worth something if the peer comes back.
"""

from __future__ import annotations

import ipaddress

from quicstack.connection.state import APPLICATION, ConnectionState
from quicstack.errors import MigrationRefused
from quicstack.recovery.sent_packet import SentPacket
from quicstack.train import Path
from quicstack.transport.connection_ids import PeerConnectionId
from quicstack.transport.datagram_queue import UNKNOWN
from quicstack.transport.path import MAX_CHALLENGES, Migration, MigrationOutcome, PathState
from quicstack.transport.path_mtu import BASE, PathMtu, largest_datagram
from quicstack.wire.transport_parameters import PreferredAddress

__all__ = [
    "apply_size", "challenge_interval", "check_timeouts", "cid_for", "lower_size", "migrate", "new_path", "note_losses",
    "on_challenge", "on_moved_packet", "on_probe_acked", "on_response", "path_of", "prefer",
]  # fmt: skip

MAX_OTHER_PATHS = 3
"""Paths remembered besides the one in use. A peer that comes from ever new addresses makes us forget old ones."""
ROOM_FOR_CHALLENGE = 96
"""Bytes that hold a packet with a PATH_CHALLENGE, whatever the length of its connection ID."""
REMEMBERED = 10.0
"""Seconds for which the state of a path that was left is still worth something (§9.4)."""


def new_path(state: ConnectionState, address: Path, *, validated: bool) -> PathState:
    """A path about which nothing is known yet."""
    settings = state.configuration
    ceiling = settings.max_probed_datagram_size or largest_datagram(address.remote[0])
    mtu = PathMtu(settings.max_datagram_size, ceiling, enabled=settings.path_mtu_discovery)
    if state.peer_parameters is not None:
        mtu.limit(state.peer_parameters.max_udp_payload_size)
    return PathState(address, mtu, validated=validated)


def path_of(state: ConnectionState, address: Path) -> PathState | None:
    """The path a datagram came on; None if it cannot belong to this connection (§9)."""
    current = state.path
    if address == current.address:
        return current
    for path in state.other_paths:
        if path.address == address:
            return path
    if state.is_client:
        # §9: only clients migrate; the server's addresses are those we chose. Ours may be named differently.
        for path in (current, *state.other_paths):
            if address.remote == path.address.remote and address.socket == path.address.socket:
                return path
        # What the server sent to the address that we have left still counts, but it is no path any more.
        return new_path(state, address, validated=False) if address.remote == current.address.remote else None
    if not state.handshake_complete:
        return None  # §9: no migration before the handshake is confirmed
    return new_path(state, address, validated=False)


def _remember(state: ConnectionState, path: PathState) -> None:
    """Put a path into the table; the one that is worth least makes room."""
    others = state.other_paths
    if path in others or path is state.path:
        return
    if len(others) >= MAX_OTHER_PATHS:
        worst = min(others, key=lambda other: (other is state.fallback, other.migration is not None, other.validated))
        _forget(state, worst)
    others.append(path)


def _forget(state: ConnectionState, path: PathState) -> None:
    """A path is left for good: the peer's ID on it is retired (§5.1.2)."""
    if path in state.other_paths:
        state.other_paths.remove(path)
    if path is state.fallback:
        state.fallback = None
    if path.cid is not None:
        state.peer_cids.release(path.cid)
        path.cid = None
    if path.migration is not None:
        path.migration.outcome = MigrationOutcome.FAILED
        path.migration = None
        state.outbox.state_changed = True


def cid_for(state: ConnectionState, path: PathState) -> bytes | None:
    """The peer's ID for a path that is not in use: one of its own (§9.5), or, for a server without any, the current."""
    if path.cid is None or path.cid not in state.peer_cids.elsewhere:
        path.cid = state.peer_cids.take()
    if path.cid is not None:
        return path.cid.cid
    return None if state.is_client else state.peer_cids.current.cid


# -- from one path to another ------------------------------------------------------------------------------------------


def on_moved_packet(state: ConnectionState, path: PathState, now: float) -> None:
    """§9.3: the newest packet, and no probe, came on another path, so the peer has moved (or its NAT has)."""
    if state.is_client:
        return
    old = state.path
    is_ours = path.address.remote == old.address.remote
    if not path.validated and path.challenge is None:
        path.start_challenge(state.environment.random(8))
    if is_ours and not path.validated:
        path.wants_move = True  # §9.6.2: it sends to another address of ours, which answers when the path is proven
        _remember(state, path)
        return
    if old.validated:
        old.start_challenge(state.environment.random(8))  # §9.3.3: if it is still alive, the change was forged
    fallback = old if old.validated else state.fallback
    _use(state, path, now)
    state.fallback = fallback if fallback is not path else None
    if not old.validated:
        _forget(state, old)


def _use(state: ConnectionState, path: PathState, now: float) -> None:
    """Send on ``path`` from now on. The path before goes into the table with what is known about it."""
    old = state.path
    cids = state.peer_cids
    old.cid = cids.current
    if path.cid is None or path.cid not in cids.elsewhere:
        path.cid = cids.take()
    if path.cid is not None:
        cids.switch(path.cid)
    else:
        old.cid = None  # the peer has supplied no other ID: both paths bear the same
    path.cid = None
    old.recovery, old.left_at = state.recovery.path(), now
    if path in state.other_paths:
        state.other_paths.remove(path)
    if _is_same_way(path.address, old.address):
        path.mtu = old.mtu  # §9.4: a port that changes is most likely a NAT, and the path the same
        state.recovery.ecn.restart()
    else:
        is_fresh = path.recovery is not None and now - path.left_at <= REMEMBERED
        state.recovery.reset_path(now, path.recovery if is_fresh else None)
    path.recovery = None
    state.path = path
    _remember(state, old)
    apply_size(state)
    state.outbox.state_changed = True


def _is_same_way(one: Path, other: Path) -> bool:
    same_local = one.local is None or other.local is None or one.local[0] == other.local[0]
    return one.remote[0] == other.remote[0] and same_local and one.socket == other.socket


def _settle(state: ConnectionState) -> None:
    """The path in use is proven: there is nothing to fall back on, and no need to."""
    fallback = state.fallback
    if fallback is not None:
        state.fallback = None
        fallback.stop_challenge()
        if fallback.cid is not None:
            state.peer_cids.release(fallback.cid)
            fallback.cid = None


def on_challenge(state: ConnectionState, data: bytes) -> None:
    """PATH_CHALLENGE (§8.2.2): the answer goes out where it came from."""
    path = state.rx_path
    if path is None:
        return
    if path is not state.path and path not in state.other_paths:
        if state.is_client:
            return  # on a path that we have left
        _remember(state, path)
    path.on_challenge(data)
    if path is state.path:
        if state.is_client and state.ping is not None:
            state.outbox.push(state.ping)  # §9.3.3: a packet that is no probe tells a move from a forgery
    elif not path.validated and path.challenge is None and path.bytes_received >= BASE:
        path.start_challenge(state.environment.random(8))  # the peer is about to move here: prove it too


def on_response(state: ConnectionState, data: bytes) -> None:
    """PATH_RESPONSE (§8.2.3), on whatever path it came."""
    for path in (state.path, *state.other_paths):
        if path.on_response(data):
            if path.challenge_is_small:  # the address is proven, that a full datagram gets there is not
                path.start_challenge(state.environment.random(8))
            _on_validated(state, path)
            return


def _on_validated(state: ConnectionState, path: PathState) -> None:
    now = state.rx_now
    if path is state.path:
        _settle(state)
    elif path is state.fallback:
        if not state.path.validated:  # §9.3.2: the peer is still where it was; the new address has proven nothing
            _return(state, now)
        else:
            _settle(state)
    elif path.migration is not None or path.wants_move:
        migration, path.migration, path.wants_move = path.migration, None, False
        old = state.path
        if old.address.remote != path.address.remote and state.is_client:
            state.is_at_preferred_address = True
        _use(state, path, now)
        old.validated = False
        old.stop_challenge()
        _forget(state, old)
        if migration is not None:
            migration.outcome = MigrationOutcome.MOVED
            if state.ping is not None:
                state.ping.acked = False
                state.outbox.push(state.ping)  # the peer follows the first packet that is no probe


def _return(state: ConnectionState, now: float) -> None:
    """§9.3.2: back to the last path that is known to be the peer's."""
    failed, fallback = state.path, state.fallback
    assert fallback is not None
    fallback.stop_challenge()
    state.fallback = None
    _use(state, fallback, now)
    _forget(state, failed)


def challenge_interval(state: ConnectionState) -> float:
    """§8.2.4: ``MAX_CHALLENGES`` of these make three times the PTO, and no less than for a path of unknown delay."""
    return max(state.recovery.pto_duration(APPLICATION), 3 * state.configuration.initial_rtt)


def check_timeouts(state: ConnectionState, now: float) -> bool:
    """§8.2.4: repeat challenges, give paths up. False when no path is left."""
    for path in (state.path, *state.other_paths):
        if path.challenge_deadline is None or now < path.challenge_deadline:
            continue
        path.challenge_deadline = None
        if path.challenges_sent < MAX_CHALLENGES:
            path.challenge = state.environment.random(8)  # §8.2.1: so that each response tells what it answers
            if path.budget() < ROOM_FOR_CHALLENGE:  # what was sent there has used it up, but the time runs on
                path.challenges_sent += 1
                path.challenge_deadline = now + challenge_interval(state)
            continue
        path.stop_challenge()
        if path is not state.path:
            _forget(state, path)
        elif state.fallback is not None:
            _return(state, now)
        elif not path.validated:
            return False
    return True


# -- the client moves --------------------------------------------------------------------------------------------------


def migrate(state: ConnectionState, address: Path, now: float) -> Migration:
    """§9.2: prove ``address``, then move there. Raises MigrationRefused where §9 forbids it, or no ID is left."""
    if not state.is_client:
        raise MigrationRefused("only clients migrate")
    if not state.handshake_confirmed:
        raise MigrationRefused("the handshake is not confirmed yet")
    parameters = state.peer_parameters
    if address.remote != state.path.address.remote:
        raise MigrationRefused(f"the server is at {state.path.address.remote}")
    if parameters is not None and parameters.disable_active_migration and not state.is_at_preferred_address:
        raise MigrationRefused("the server forbids it (disable_active_migration)")
    if not state.peer_cids.current.cid:
        raise MigrationRefused("the server uses no connection IDs, so it could not tell who has moved")
    if any(path.migration is not None for path in state.other_paths):
        raise MigrationRefused("another migration is going on")
    if address == state.path.address:
        raise MigrationRefused("this is the path in use")
    cid = state.peer_cids.take()
    if cid is None:
        raise MigrationRefused("the server has supplied no unused connection ID yet")
    return _begin(state, address, cid)


def _begin(state: ConnectionState, address: Path, cid: PeerConnectionId) -> Migration:
    for known in [path for path in state.other_paths if path.address == address]:
        _forget(state, known)
    path = new_path(state, address, validated=False)
    path.bytes_received = 1 << 29  # §8: it is the server that must not be used to flood others
    path.cid = cid
    path.migration = Migration(address)
    path.start_challenge(state.environment.random(8))
    _remember(state, path)
    state.outbox.ring()
    return path.migration


def prefer(state: ConnectionState, now: float) -> None:
    """§9.6.1: the handshake is confirmed; try the address that the server would rather be reached at."""
    preferred = state.peer_parameters.preferred_address if state.peer_parameters is not None else None
    if preferred is None or not state.is_client or not state.configuration.use_preferred_address:
        return
    remote = _preferred_remote(state, preferred)
    cid = state.peer_cids.take(1) if remote is not None else None
    if remote is not None and cid is not None:
        _begin(state, state.path.address._replace(remote=remote), cid)


def _preferred_remote(state: ConnectionState, preferred: PreferredAddress) -> tuple[object, ...] | None:
    """The address of the family in use. §21.5.6: a server of the Internet may not send us to the loopback, nor to what
    lies on our own network.
    """
    current = state.path.address.remote
    is_ipv6 = ":" in str(current[0])
    raw, port = (
        (preferred.ipv6_address, preferred.ipv6_port) if is_ipv6 else (preferred.ipv4_address, preferred.ipv4_port)
    )
    if not port or not any(raw):
        return None
    address = ipaddress.ip_address(raw)
    try:
        known = ipaddress.ip_address(str(current[0]).partition("%")[0])
    except ValueError:
        known = ipaddress.ip_address(0)
    if address.is_multicast or address.is_unspecified or (address.is_loopback and not known.is_loopback):
        return None
    if known.is_global and not address.is_global:
        return None
    return (str(address), port, *((0, 0) if len(current) > 2 else ()))


# -- the size of datagrams ---------------------------------------------------------------------------------------------


def apply_size(state: ConnectionState) -> None:
    """What the path in use carries is what packets are built for (RFC 9002 §7.2)."""
    size = state.path.mtu.current
    if size != state.max_datagram_size:
        state.max_datagram_size = size
        state.datagrams_out.known_to_fit = UNKNOWN
        state.recovery.set_max_datagram_size(size)


def on_probe_acked(state: ConnectionState, mtu: PathMtu, size: int) -> None:
    """RFC 9000 §14.4: nothing but this raises the size."""
    if mtu.on_probe_acked(size) and mtu is state.path.mtu:
        apply_size(state)


def lower_size(state: ConnectionState) -> None:
    """RFC 8899 §4.3: the path has shrunk. What is lost goes out again in packets that fit."""
    if state.path.mtu.lower():
        apply_size(state)


def note_losses(state: ConnectionState, lost: list[SentPacket], acked: list[SentPacket]) -> None:
    """A black hole swallows what is large and lets the rest pass. Called when packets of 1-RTT were lost."""
    mtu = state.path.mtu
    if mtu.current <= BASE:
        return
    if any(packet.size > BASE for packet in acked):
        mtu.suspicion = 0
        return
    large = sum(1 for packet in lost if packet.size > BASE and packet.in_flight and not packet.is_mtu_probe)
    if mtu.on_large_losses(large):
        lower_size(state)

"""The drafts of WebTransport over HTTP/3 that peers speak, a row each, and the choice between them.

Wire images changed with the drafts; browsers still speak -02 and -07 (2026). A draft announces itself by a setting of
its own number, so one endpoint can offer several at once, and the highest one that both offer holds (draft-16 §7.1).
Rows stand for groups of drafts that nothing on the wire tells apart:

========== ================== =============================== ================== ======================
row        ``:protocol``      support setting                 flow control       stream error codes
========== ================== =============================== ================== ======================
draft02    webtransport       ENABLE_WEBTRANSPORT             none               8 bits
draft07    webtransport       WEBTRANSPORT_MAX_SESSIONS       none               32 bits
draft14    webtransport       WT_MAX_SESSIONS                 capsules           32 bits
draft16    webtransport-h3    WT_ENABLED                      capsules           32 bits
========== ================== =============================== ================== ======================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from webtransport.codes import MAX_APPLICATION_ERROR, MAX_APPLICATION_ERROR_DRAFT02

__all__ = [
    "DIALECTS",
    "DRAFT02",
    "DRAFT07",
    "DRAFT14",
    "DRAFT16",
    "PROTOCOL_TOKENS",
    "Dialect",
    "FlowLimits",
    "Setting",
    "choose_for_client",
    "choose_for_server",
    "dialect_named",
    "flow_control_agreed",
    "settings_to_send",
]


class Setting:
    """Numbers of HTTP/3 settings (RFC 9220 §5, RFC 9297 §2.1.1, and the drafts)."""

    ENABLE_CONNECT_PROTOCOL = 0x08
    H3_DATAGRAM = 0x33
    H3_DATAGRAM_DRAFT04 = 0xFFD277
    ENABLE_WEBTRANSPORT = 0x2B603742
    WEBTRANSPORT_MAX_SESSIONS = 0xC671706A
    WT_MAX_SESSIONS = 0x14E9CD29
    WT_ENABLED = 0x2C7CF000
    WT_INITIAL_MAX_DATA = 0x2B61
    WT_INITIAL_MAX_STREAMS_UNI = 0x2B64
    WT_INITIAL_MAX_STREAMS_BIDI = 0x2B65


@dataclass(frozen=True, slots=True)
class FlowLimits:
    """Initial limits of a session's flow control (draft-16 §5.5). All zero: this side does not ask for flow control."""

    max_data: int = 0
    max_streams_bidi: int = 0
    max_streams_uni: int = 0

    @classmethod
    def from_settings(cls, settings: Mapping[int, int]) -> FlowLimits:
        """What an endpoint that sent ``settings`` lets its peer do in a new session."""
        return cls(
            settings.get(Setting.WT_INITIAL_MAX_DATA, 0),
            settings.get(Setting.WT_INITIAL_MAX_STREAMS_BIDI, 0),
            settings.get(Setting.WT_INITIAL_MAX_STREAMS_UNI, 0),
        )

    def __bool__(self) -> bool:
        return bool(self.max_data or self.max_streams_bidi or self.max_streams_uni)


@dataclass(frozen=True, slots=True)
class Dialect:
    """One row. ``name`` is the draft as applications see it in ``session.dialect``."""

    name: str
    protocol: str
    """Value of ``:protocol`` in the extended CONNECT."""
    support_setting: int
    counts_sessions: bool = False
    """Whether the support setting's value is a number of sessions, not a switch."""
    enables_connect: bool = False
    """-02 §3.2: the support setting implies extended CONNECT; later drafts want ENABLE_CONNECT_PROTOCOL too."""
    datagram_settings: tuple[int, ...] = (Setting.H3_DATAGRAM,)
    """Any of these tells that the peer takes datagrams."""
    request_version: tuple[str, str] | None = None
    response_version: tuple[str, str] | None = None
    """-02 §6: the request lists the drafts, the response names the chosen one, in header fields."""
    available_headers: tuple[tuple[str, str], ...] = (("wt-available-protocols", "wt-protocol"),)
    """Header fields of subprotocol negotiation, offer and answer; the first pair is the one that a client sends."""
    tokens_allowed: bool = False
    """-09 to -12 wrote subprotocols as bare tokens, from -13 on only strings count (draft-16 §3.3)."""
    strict_subprotocol: bool = False
    """From -15 on an answer that was not offered ends the session with WT_ALPN_ERROR; before, it is ignored."""
    max_stream_error: int = MAX_APPLICATION_ERROR
    has_drain: bool = True
    has_flow_control: bool = False
    shares_connection_only_with_flow_control: bool = False
    """draft-16 §5.1: without flow control a connection carries one session at a time."""
    needs_reset_stream_at: bool = False
    """Both sides have to announce the transport parameter reset_stream_at (draft-13 §3.1, draft-16 §3.1). -10 to -12
    ask for it too, but share their row with drafts that do not."""
    limits_must_grow: bool = False
    """Whether a limit that repeats the last one ends the session (-16), or only one below it (-13 to -15)."""
    notes: str = field(default="", compare=False)


DRAFT02 = Dialect(
    name="draft-02",
    protocol="webtransport",
    support_setting=Setting.ENABLE_WEBTRANSPORT,
    enables_connect=True,
    datagram_settings=(Setting.H3_DATAGRAM, Setting.H3_DATAGRAM_DRAFT04),
    request_version=("sec-webtransport-http3-draft02", "1"),
    response_version=("sec-webtransport-http3-draft", "draft02"),
    tokens_allowed=True,
    max_stream_error=MAX_APPLICATION_ERROR_DRAFT02,
    has_drain=False,
    notes="-02 to -06. Chromium and Firefox. Subprotocols are not in these drafts, yet Chromium negotiates them.",
)
DRAFT07 = Dialect(
    name="draft-07",
    protocol="webtransport",
    support_setting=Setting.WEBTRANSPORT_MAX_SESSIONS,
    counts_sessions=True,
    available_headers=(
        ("wt-available-protocols", "wt-protocol"),
        ("webtransport-subprotocols-available", "webtransport-subprotocol"),
    ),
    tokens_allowed=True,
    notes="-07 to -12. From -09 on only servers send the setting, so a client without any counts as one of these.",
)
DRAFT14 = Dialect(
    name="draft-14",
    protocol="webtransport",
    support_setting=Setting.WT_MAX_SESSIONS,
    counts_sessions=True,
    has_flow_control=True,
    shares_connection_only_with_flow_control=True,
    needs_reset_stream_at=True,
    notes="-13 and -14. Safari.",
)
DRAFT16 = Dialect(
    name="draft-16",
    protocol="webtransport-h3",
    support_setting=Setting.WT_ENABLED,
    strict_subprotocol=True,
    has_flow_control=True,
    shares_connection_only_with_flow_control=True,
    needs_reset_stream_at=True,
    limits_must_grow=True,
    notes="-15 and -16. A resource that is no WebTransport one is answered with 404 here, as in all drafts before -16.",
)

DIALECTS: tuple[Dialect, ...] = (DRAFT16, DRAFT14, DRAFT07, DRAFT02)
"""Newest first: the order of preference."""

PROTOCOL_TOKENS = frozenset(dialect.protocol for dialect in DIALECTS)


def dialect_named(name: str) -> Dialect:
    """The row called ``name``, such as ``draft-02``."""
    for dialect in DIALECTS:
        if dialect.name == name:
            return dialect
    raise ValueError(f"no dialect is called {name!r}; there are {', '.join(d.name for d in DIALECTS)}")


def settings_to_send(
    *, server: bool, max_sessions: int, limits: FlowLimits, dialects: tuple[Dialect, ...] = DIALECTS
) -> dict[int, int]:
    """SETTINGS that offer ``dialects`` all at once.

    Clients send the same support settings as servers: the drafts from -13 on want it, and older peers ignore it. A
    count above one would promise flow control to a -13 peer (draft-13 §5.1), so without limits it is one.
    """
    settings = {Setting.ENABLE_CONNECT_PROTOCOL: 1, Setting.H3_DATAGRAM: 1}
    for dialect in dialects:
        for datagram_setting in dialect.datagram_settings:
            settings[datagram_setting] = 1
        count = max_sessions if limits or not dialect.has_flow_control else 1
        settings[dialect.support_setting] = count if dialect.counts_sessions else 1
    if limits and any(dialect.has_flow_control for dialect in dialects):
        settings[Setting.WT_INITIAL_MAX_DATA] = limits.max_data
        settings[Setting.WT_INITIAL_MAX_STREAMS_BIDI] = limits.max_streams_bidi
        settings[Setting.WT_INITIAL_MAX_STREAMS_UNI] = limits.max_streams_uni
    if not server:
        del settings[Setting.ENABLE_CONNECT_PROTOCOL]
        if DRAFT07 in dialects:
            settings[Setting.ENABLE_CONNECT_PROTOCOL] = 1  # draft-09 §3.1 asks it of clients as well
    return settings


def _takes_datagrams(dialect: Dialect, settings: Mapping[int, int]) -> bool:
    return any(settings.get(setting) == 1 for setting in dialect.datagram_settings)


def choose_for_client(settings: Mapping[int, int], dialects: tuple[Dialect, ...] = DIALECTS) -> Dialect | None:
    """The newest row that a server with these ``settings`` meets in full (draft-16 §3.1), None if there is none."""
    for dialect in dialects:
        if not settings.get(dialect.support_setting):
            continue
        if not dialect.enables_connect and settings.get(Setting.ENABLE_CONNECT_PROTOCOL) != 1:
            continue
        if _takes_datagrams(dialect, settings):
            return dialect
    return None


def choose_for_server(
    settings: Mapping[int, int], protocol: str, dialects: tuple[Dialect, ...] = DIALECTS
) -> Dialect | None:
    """The row that a client means by ``:protocol`` and its ``settings``; None makes its request malformed.

    The client's own choice is the newest row that both offer, and this is the same rule seen from the other side. Final
    WebTransport will not ask clients for a support setting (draft-16 §3.1), and -09 to -11 did not either: then the
    token and the datagram setting decide.
    """
    candidates = [row for row in dialects if row.protocol == protocol and _takes_datagrams(row, settings)]
    for dialect in candidates:
        if settings.get(dialect.support_setting):
            return dialect
    for dialect in candidates:
        if dialect in (DRAFT16, DRAFT07):
            return dialect
    return None


def flow_control_agreed(dialect: Dialect, local: Mapping[int, int], peer: Mapping[int, int]) -> bool:
    """Whether both sides asked for flow control of sessions (draft-14 §5.1, draft-16 §5.1).

    -13 looked at the session counts alone and nothing tells it from -14, so the later rule serves both.
    """
    if not dialect.has_flow_control:
        return False

    def asks(settings: Mapping[int, int]) -> bool:
        counted = dialect.counts_sessions and settings.get(dialect.support_setting, 0) > 1
        return counted or bool(FlowLimits.from_settings(settings))

    return asks(local) and asks(peer)

"""Any interleaving of what applications, networks and clocks do ends with every byte delivered once and in order, or
with a clean close; and leaves nothing behind.

Hypothesis plays: it looks for the shortest play that breaks this, and prints it. The quick profile is for every day and
plays the same each time, the thorough one runs in ``make test``, the long one by ``make properties``.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from world import CLIENT, HOMES, SERVER, SERVER_ADDRESS, Flight, Flow, World

from quicstack.errors import MigrationRefused
from quicstack.train import Path
from quicstack.wire.version import QUIC_V1, QUIC_V2

EVERYTHING = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
]
QUICK = settings(
    max_examples=16, stateful_step_count=30, deadline=None, derandomize=True, print_blob=True,
    suppress_health_check=EVERYTHING, phases=[Phase.explicit, Phase.generate], database=None,
)  # fmt: skip
THOROUGH = settings(QUICK, max_examples=300, stateful_step_count=60, derandomize=True)
LONG = settings(QUICK, max_examples=int(os.environ.get("EXAMPLES", "5000")), stateful_step_count=80, derandomize=False)

sides = st.sampled_from((CLIENT, SERVER))
sizes = st.one_of(st.integers(0, 40), st.integers(0, 3000), st.integers(0, 40_000))
indices = st.integers(0, 9)


class Pairs(RuleBasedStateMachine):
    """A client and a server, and whatever can happen to them."""

    @initialize(
        seed=st.integers(0, 1000),
        window=st.sampled_from((1 << 20, 20_000, 3_000)),
        streams=st.sampled_from((128, 3, 1)),
        idle=st.sampled_from((600.0, 600.0, 30.0)),
        discovery=st.booleans(),
        carries=st.sampled_from((1500, 1300, 1228)),
        cid_length=st.sampled_from((8, 8, 0, 1, 20)),
        retry=st.sampled_from(("auto", "always")),
        keep_alive=st.sampled_from((None, None, 5.0)),
        versions=st.sampled_from(((QUIC_V1,), (QUIC_V1, QUIC_V2), (QUIC_V2, QUIC_V1))),
        established=st.booleans(),
    )
    def begin(
        self, seed: int, window: int, streams: int, idle: float, discovery: bool, carries: int, cid_length: int,
        retry: str, keep_alive: float | None, versions: tuple[int, ...], established: bool,
    ) -> None:  # fmt: skip
        self.world = World(
            seed,
            client={"connection_id_length": cid_length, "versions": versions[::-1]},
            initial_max_data=window,
            max_connection_window=4 * window,
            initial_max_stream_data_bidi_local=window // 2,
            initial_max_stream_data_bidi_remote=window // 2,
            initial_max_stream_data_uni=window // 2,
            initial_max_streams_bidi=streams,
            initial_max_streams_uni=streams,
            max_idle_timeout=idle,
            handshake_timeout=60.0,
            path_mtu_discovery=discovery,
            retry=retry,
            keep_alive=keep_alive,
            versions=versions,
        )
        self.world.carries = carries
        if established:
            self.world.run(1.0, restless=False)
            assert self.world.both_open()

    # -- applications ------------------------------------------------------------------------------------------------

    def flow(self, index: int) -> Flow:
        flows = list(self.world.flows.values())
        return flows[index % len(flows)]

    @rule(side=sides, unidirectional=st.booleans())
    def open(self, side: int, unidirectional: bool) -> None:
        self.world.open(side, unidirectional=unidirectional)
        self.world.pump()

    has_flows = precondition(lambda self: bool(self.world.flows))

    @has_flows
    @rule(index=indices, size=sizes, fin=st.booleans())
    def write(self, index: int, size: int, fin: bool) -> None:
        self.world.write(self.flow(index), size, fin=fin)
        self.world.pump()

    @has_flows
    @rule(index=indices, lost=st.booleans())
    def finish(self, index: int, lost: bool) -> None:
        """The end of a stream by itself; a packet with nothing else is easily lost."""
        flow = self.flow(index)
        self.world.write(flow, 0, fin=True)
        before = len(self.world.flights[flow.sender])
        self.world.pump()
        if lost:
            del self.world.flights[flow.sender][before:]

    @has_flows
    @rule(index=indices, code=st.integers(0, 1 << 61), keep=st.sampled_from((0.0, 0.0, 0.5, 1.0)))
    def reset(self, index: int, code: int, keep: float) -> None:
        self.world.reset(self.flow(index), code, keep)
        self.world.pump()

    @has_flows
    @rule(index=indices, code=st.integers(0, 100))
    def stop(self, index: int, code: int) -> None:
        self.world.stop(self.flow(index), code)
        self.world.pump()

    @has_flows
    @rule(index=indices, limit=st.sampled_from((-1, 1, 500)))
    def read(self, index: int, limit: int) -> None:
        self.flow(index).read(limit)
        self.world.pump()

    @rule(side=sides, size=st.sampled_from((0, 100, 1000)))
    def datagram(self, side: int, size: int) -> None:
        self.world.datagram(side, size)
        self.world.pump()

    @rule(side=sides)
    def ping(self, side: int) -> None:
        if (connection := self.world.connection(side)) is not None:
            connection.ping()
        self.world.pump()

    @rule(side=sides)
    def update_keys(self, side: int) -> None:
        if (connection := self.world.connection(side)) is not None:
            connection.update_keys(self.world.now)
        self.world.pump()

    @rule(home=st.sampled_from(HOMES))
    def migrate(self, home: tuple[str, int]) -> None:
        if (connection := self.world.connection(CLIENT)) is not None:
            try:
                connection.migrate(Path(SERVER_ADDRESS, home), self.world.now)
            except MigrationRefused:
                pass
        self.world.pump()

    # -- the network and its clocks ----------------------------------------------------------------------------------

    def under_way(self, side: int, index: int, count: int) -> slice:
        """Some of the datagrams under way."""
        flights = self.world.flights[side]
        start = index % len(flights) if flights else 0
        return slice(start, start + count)

    @rule(side=sides, index=st.sampled_from((0, 0, 0, 1, 3)), count=st.integers(1, 12), joined=st.booleans())
    def deliver(self, side: int, index: int, count: int, joined: bool) -> None:
        part = self.under_way(side, index, count)
        flights = self.world.flights[side][part]
        del self.world.flights[side][part]
        if flights:
            (self.world.arrive_as_train if joined else self.world.arrive)(side, flights)

    @rule(side=sides, index=indices, count=st.integers(1, 12))
    def drop(self, side: int, index: int, count: int) -> None:
        del self.world.flights[side][self.under_way(side, index, count)]

    @rule(side=sides, index=indices, count=st.integers(1, 4))
    def duplicate(self, side: int, index: int, count: int) -> None:
        self.world.flights[side].extend(self.world.flights[side][self.under_way(side, index, count)])

    @rule(side=sides, index=indices, position=st.integers(0, 1500), bits=st.integers(1, 255))
    def damage(self, side: int, index: int, position: int, bits: int) -> None:
        flights = self.world.flights[side]
        if flights:
            old = flights[index % len(flights)]
            data = bytearray(old.data)
            data[position % len(data)] ^= bits
            flights[index % len(flights)] = Flight(bytes(data), old.public, old.ecn)

    @rule(seconds=st.sampled_from((0.001, 0.03, 0.3, 3.0, 15.0)), late=st.sampled_from((0.0, 0.0, 0.001, 0.05, 1.0)))
    def wait(self, seconds: float, late: float) -> None:
        self.world.advance(seconds, late)
        self.world.pump()

    @rule(seconds=st.sampled_from((0.1, 1.0)))
    def calm(self, seconds: float) -> None:
        self.world.run(seconds, restless=False)

    @rule(address=st.booleans())
    def rebind(self, address: bool) -> None:
        self.world.rebind(address=address)

    @rule(side=sides)
    def hold(self, side: int) -> None:
        self.world.holding[side] = not self.world.holding[side]
        self.world.pump()

    @rule(carries=st.sampled_from((1500, 1300, 1228)))
    def resize(self, carries: int) -> None:
        self.world.carries = carries

    @rule(side=sides, sure=st.integers(0, 5), code=st.integers(0, 100))
    def close(self, side: int, sure: int, code: int) -> None:
        if sure == 5:
            self.world.close(side, code)
            self.world.pump()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.settle()
        first = len(world.flows) % 2
        world.close(first)
        world.run(5.0, restless=False)
        world.close(1 - first)
        world.die_out()
        world.check_ends()


def play(profile: settings) -> None:
    case = Pairs.TestCase
    case.settings = profile
    case("runTest").runTest()


def test_any_interleaving() -> None:
    play(QUICK)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_any_interleaving_at_length() -> None:
    play(LONG if "EXAMPLES" in os.environ else THOROUGH)

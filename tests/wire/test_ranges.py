"""RangeSet behaves like a set of integers."""

from hypothesis import given
from hypothesis import strategies as st

from quicstack.wire.ranges import RangeSet

SPANS = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 12)), max_size=40)


@given(SPANS, st.integers(0, 70), st.integers(0, 20))
def test_like_a_set(steps: list[tuple[bool, int, int]], start: int, length: int) -> None:
    ranges, model = RangeSet(), set()
    for adds, first, count in steps:
        span = range(first, first + count)
        if adds:
            ranges.add(first, first + count)
            model.update(span)
        else:
            ranges.subtract(first, first + count)
            model.difference_update(span)
        assert [n for a, b in ranges for n in range(a, b)] == sorted(model)
        # Disjoint, sorted, never touching.
        assert all(b < a for b, a in zip(ranges.stops, ranges.starts[1:], strict=False))
    gaps = [n for a, b in ranges.missing(start, start + length) for n in range(a, b)]
    assert gaps == [n for n in range(start, start + length) if n not in model]
    assert all((n in ranges) == (n in model) for n in range(90))


def test_the_common_case_extends_the_last_range() -> None:
    ranges = RangeSet()
    for number in range(1000):
        ranges.add(number, number + 1)
    assert list(ranges) == [(0, 1000)]
    assert ranges.pop_first() == (0, 1000)
    assert not ranges

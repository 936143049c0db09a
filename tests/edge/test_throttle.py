"""Unfinished greetings are rationed, in all and by address, without a clock of its own."""

import pytest

from tallynode.edge.throttle import (
    BURST,
    OPEN_MAX,
    OPEN_PER_SOURCE_MAX,
    RATE_PER_S,
    SOURCES_MAX,
    Throttle,
)


def test_one_address_cannot_hold_all_places() -> None:
    """It gets its share at a time, and a place back for each that has ended."""
    throttle = Throttle()
    taken = [throttle.enter("10.0.0.1", 0.0) for _ in range(OPEN_MAX)]
    assert sum(taken) == OPEN_PER_SOURCE_MAX
    assert throttle.enter("10.0.0.2", 0.0)
    throttle.leave("10.0.0.1")
    assert throttle.enter("10.0.0.1", 0.0)
    assert not throttle.enter("10.0.0.1", 0.0)


def test_all_addresses_together_have_a_bound() -> None:
    """Many sources cannot hold more than there is."""
    throttle = Throttle()
    assert sum(throttle.enter(f"10.0.0.{i}", 0.0) for i in range(OPEN_MAX + 9)) == OPEN_MAX


def test_a_flood_from_one_address_runs_dry_and_recovers() -> None:
    """After a burst it gets so many a second, also where each attempt is over at once."""
    throttle = Throttle()

    def passed(attempts: int, now: float) -> int:
        count = 0
        for _ in range(attempts):
            if throttle.enter("10.0.0.1", now):
                throttle.leave("10.0.0.1")
                count += 1
        return count

    assert passed(500, 0.0) == BURST
    assert passed(500, 1.0) == RATE_PER_S
    assert passed(500, 1000.0) == BURST


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("10.0.0.1", "10.0.0.2", False),
    ],
)
def test_an_ipv6_network_counts_as_one_address(one: str, two: str, same: bool) -> None:
    """Whoever has a /64 has all its addresses."""
    throttle = Throttle()
    for _ in range(OPEN_PER_SOURCE_MAX):
        assert throttle.enter(one, 0.0)
    assert throttle.enter(two, 0.0) is not same


def test_the_table_of_addresses_is_bounded() -> None:
    """A network full of strangers fills neither memory nor, where it has ended, the places."""
    throttle = Throttle()
    assert throttle.enter("10.9.9.9", 0.0)
    for i in range(SOURCES_MAX + 100):
        address = f"10.1.{i // 256}.{i % 256}"
        assert throttle.enter(address, 0.0)
        throttle.leave(address)
    assert len(throttle._sources) == SOURCES_MAX
    throttle.leave("10.9.9.9")  # who still has a greeting open was not forgotten

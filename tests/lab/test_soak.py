"""What a soak makes of its samples."""

import pytest

from tallynode.errors import TallynodeError
from tallynode.lab.soak import Sample, trend


def samples(*, leak_mib_h: float = 0.0, fds: tuple[int, int] = (30, 30)) -> list[Sample]:
    """An hour of looks a minute; memory settles in the first ten minutes."""
    return [
        Sample(
            t_s=60.0 * i,
            rss_mib=(200 if i < 10 else 250) + leak_mib_h * i / 60,
            own_mib=100 + leak_mib_h * i / 60,
            fds=fds[i >= 30] + (2 if i % 7 == 0 else 0),  # a file that is being saved
            threads=7,
            tasks=20,
            rounds=60 * i,
            cpu_s=0.6 * i,
        )
        for i in range(61)
    ]


def test_a_steady_peer_is_flat() -> None:
    """Warm-up and a file that is open now and then are no growth."""
    found = trend("a", samples(), 600)
    assert found.flat
    assert found.slope_mib_h == pytest.approx(0)
    assert found.fds == (30, 30)
    assert (found.rounds, found.cpu_share) == (3000, pytest.approx(0.01))


@pytest.mark.parametrize("leak", [{"leak_mib_h": 1.5}, {"fds": (30, 31)}])
def test_a_leak_is_seen(leak: dict[str, object]) -> None:
    """A slope over 1 MiB an hour, or one descriptor more at the end than at the beginning."""
    found = trend("a", samples(**leak), 600)  # type: ignore[arg-type]
    assert not found.flat
    assert found.slope_mib_h == pytest.approx(leak.get("leak_mib_h", 0))
    assert found.own_slope_mib_h == pytest.approx(found.slope_mib_h)


def test_too_short_a_soak_says_so() -> None:
    """Fewer than four samples after the warm-up make no trend."""
    with pytest.raises(TallynodeError, match="a: too few samples"):
        trend("a", samples(), 3500)

"""How messages fare: late, lost, twice, out of order.

Over TCP a standing link does none of the last three; but a full queue does lose.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tallynode.lab.world.network import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class Climate:
    """Chances that one message meets; times in seconds."""

    latency_s: float
    jitter_s: float  # by which a message may take longer
    lost: float = 0.0
    twice: float = 0.0
    disorder: float = 0.0  # chance of overtaking what was sent before


class Weather:
    """A Travel with faults, until it is calmed.

    Args:
        climate: what may happen.
        draw: chance.
        seen: counts what did happen.
    """

    def __init__(self, climate: Climate, draw: Random, seen: Counter[str]) -> None:
        self._climate = climate
        self._draw = draw
        self._seen = seen
        self.calm = False

    def arrivals(self, link: Link, now: float) -> Sequence[float]:
        """See Travel."""
        climate, draw = self._climate, self._draw
        arrives = now + self.delay_s(link)
        if self.calm:
            return (max(arrives, link.drained),)
        if climate.lost and draw.random() < climate.lost:
            self._seen["message lost"] += 1
            return ()
        if climate.disorder and draw.random() < climate.disorder:
            self._seen["message out of order"] += arrives < link.drained
        else:
            arrives = max(arrives, link.drained)
        if climate.twice and draw.random() < climate.twice:
            self._seen["message twice"] += 1
            return arrives, arrives + self.delay_s(link)
        return (arrives,)

    def delay_s(self, link: Link) -> float:
        """See Travel."""
        return self._climate.latency_s + self._climate.jitter_s * self._draw.random()

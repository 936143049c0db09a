"""The ballots that a peer holds: one an origin and round, bounded; a voter counts once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tallynode.protocol import limits
from tallynode.protocol.coding.ballot import Coding

BALLOTS_MIN = 2  # fewer say nothing that the peer does not know


def summed(given: Mapping[str, np.ndarray]) -> np.ndarray:
    """The float64 sum of one content or more, added in the order of the names."""
    first, *others = (given[name] for name in sorted(given))
    total = first.astype(np.float64)
    for content in others:
        total += content
    return total


@dataclass(frozen=True, slots=True)
class Held:
    """A ballot that was accepted, in the coding in which it came and is passed on."""

    coding: Coding
    coded: bytes
    content: np.ndarray  # votes (n,) uint8 or uint16; in other methods what stands for them
    signature: bytes = b""  # its origin's, over the content
    choice: int = 0  # of its probes, see choosing.py


@dataclass(slots=True)
class BallotBox:
    """Ballots by origin and round.

    Args:
        staleness: rounds by which a usable ballot may be off; 0 where the probes change.
    """

    staleness: int
    _held: dict[str, dict[int, Held]] = field(default_factory=dict)

    def get(self, origin: str, round_: int) -> Held | None:
        """The ballot of one origin and round."""
        return self._held.get(origin, {}).get(round_)

    def put(self, origin: str, round_: int, ballot: Held) -> None:
        """Keep a ballot; of one origin only the latest rounds are held."""
        rounds = self._held.setdefault(origin, {})
        rounds[round_] = ballot
        if len(rounds) > limits.ROUNDS_HELD_MAX:
            del rounds[min(rounds)]

    def up_to(self, origin: str, round_: int) -> list[tuple[int, Held]]:
        """The (round, ballot) pairs of an origin that are held up to a round, oldest first."""
        rounds = self._held.get(origin, {})
        return [(r, rounds[r]) for r in sorted(rounds) if r <= round_]

    def usable(self, round_: int, choice: int = 0) -> tuple[dict[str, np.ndarray], int]:
        """The content that counts in a round, by origin in sorted order; how many are of another.

        Each voter counts once: by its ballot of this round, else by the one of the nearest round
        within `staleness`, a later one before an earlier one. A ballot on other probes than those
        of `choice` does not count.
        """
        contents, late = {}, 0
        for origin, rounds in sorted(self._held.items()):
            same = rounds.get(round_)
            if same is not None and same.choice == choice:
                contents[origin] = same.content
                continue
            near = [
                r
                for r, held in rounds.items()
                if abs(r - round_) <= self.staleness and held.choice == choice
            ]
            if near:
                best = min(near, key=lambda r: (abs(r - round_), -r))
                contents[origin] = rounds[best].content
                late += 1
        return contents, late

    def forget(self, origin: str) -> None:
        """Drop all ballots of an origin."""
        self._held.pop(origin, None)

    def forget_before(self, round_: int) -> None:
        """Drop ballots of rounds so old that they are no longer accepted either."""
        for rounds in self._held.values():
            for old in [r for r in rounds if r < round_]:
                del rounds[old]

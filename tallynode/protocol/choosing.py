"""Which probes to ask again: those on which the last consensus was least sure.

CFD (Sattler et al. 2021, arXiv 2012.00632, section IV-A) lets its server choose the probes by how
unsure its net is of them, by three measures. Here no indices travel: where every peer hears every
other, all hold the last consensus, and each works the same choice out. Half of a round's probes are
the least sure of the round before, the other half is drawn anew from the mesh's seed, as all are
after a round that did not hold everybody's ballot. A ballot's probe tag is that of its choice:
those of a peer that has missed one and chose otherwise are left out, and by the round after next at
the latest all draw and meet again.

Measures are of what was said (votes or mean probabilities, not what a rule believes) and rounded,
so that two machines rank alike.
"""

import hashlib
from collections.abc import Callable

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.parameters import Average
from tallynode.protocol.rounds import probes_of_round
from tallynode.protocol.settings import PeerSettings

MEASURE_DIGITS = 6  # decimals; the last bits of a logarithm differ between machines


def _entropy(shares: np.ndarray) -> np.ndarray:
    logs = np.log(np.where(shares > 0, shares, 1))
    entropy: np.ndarray = -(shares * logs).sum(axis=1)
    return entropy


def _certainty(shares: np.ndarray) -> np.ndarray:
    most: np.ndarray = shares.max(axis=1)
    return -most


def _margin(shares: np.ndarray) -> np.ndarray:
    two = np.sort(shares, axis=1)[:, -2:]
    lead: np.ndarray = two[:, 1] - two[:, 0]
    return -lead


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # (n, classes) -> (n,), larger: unsure
    "entropy": _entropy,
    "certainty": _certainty,
    "margin": _margin,
}


def choose(
    measure: str, shares: np.ndarray, probes: np.ndarray, of: int, seed: int, round_: int
) -> np.ndarray:
    """The probes of a round after the consensus of the one before.

    Args:
        measure: a key of MEASURES.
        shares: (n, classes) of what was said of each probe, rows that sum to one.
        probes: (n,) int64, ascending: which those were.
        of: probes in all.
        seed: of the mesh.
        round_: the round to choose for.

    Returns:
        (n,) int64, ascending.
    """
    unsure = np.round(MEASURES[measure](shares.astype(np.float64)), MEASURE_DIGITS)
    kept = probes[np.argsort(-unsure, kind="stable")[: len(probes) // 2]]
    others = np.setdiff1d(np.arange(of), kept)
    drawn = others[probes_of_round(seed, round_, len(others), len(probes) - len(kept))]
    return np.sort(np.concatenate([kept, drawn]))


class Choice:
    """The probes of each round, as one peer knows them.

    Args:
        settings: this peer's view of the mesh.
    """

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self._next: tuple[int, np.ndarray] | None = None  # a round, and what was chosen for it

    def probes(self, round_: int) -> np.ndarray:
        """(n,) int64, ascending."""
        if self._next and self._next[0] == round_:
            return self._next[1]
        mine = self._settings
        return probes_of_round(mine.seed, round_, mine.probes, mine.per_round)

    def tag(self, round_: int) -> int:
        """32 bits by which peers tell whether they have chosen alike; 0 where nobody chooses."""
        if not self._settings.chooses:
            return 0
        probes = self.probes(round_).astype("<u4").tobytes()
        return int.from_bytes(hashlib.blake2b(probes, digest_size=4).digest())

    def learn(self, round_: int, outcome: Outcome | None, voters: int) -> None:
        """Choose for the round after a consensus, if it holds everybody's ballot."""
        mine, following = self._settings, round_ + 1
        self._next = None
        if outcome and mine.chooses and voters == len(mine.voters) + 1:
            if isinstance(outcome, Average):
                raise LocalError(f"method {mine.method} has no consensus to choose probes by")
            of = (outcome.said, outcome.probes, mine.probes)
            self._next = (following, choose(mine.select, *of, mine.seed, following))

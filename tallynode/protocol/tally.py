"""Ballots in, consensus out: one ballot an identity, counted in integers.

`plurality` is the majority vote of TallyTrain (arXiv 2607.00173): each probe gets the class with
the most votes; a tie goes to the smallest class index, a rule that every peer can recompute.
`reliability` (its own file) weighs the votes first. Both work on the *candidates* alone, the
(probe, class) pairs that somebody voted for, so that cost and memory grow with the ballots and not
with the number of classes. Ballots are taken in the order of the voters' names: any arrival order
gives the same bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol import limits


@dataclass(frozen=True, slots=True)
class Candidates:
    """All votes of a round, and the m different (probe, class) pairs among them.

    Pairs are sorted by probe, then class; probe i's are those from starts[i] to starts[i + 1].
    """

    votes: np.ndarray  # (voters, n) int64, rows in the order of the voters' names
    pair_of: np.ndarray  # (voters, n) int64, the pair that each vote is for
    probe: np.ndarray  # (m,) int64 in [0, n)
    label: np.ndarray  # (m,) int64 in [0, classes)
    count: np.ndarray  # (m,) int64 votes
    starts: np.ndarray  # (n,) int64

    @classmethod
    def of(cls, ballots: Mapping[str, np.ndarray], classes: int) -> "Candidates":
        """Gather the ballots of one round, (n,) int each and all over the same probes."""
        if not ballots:
            raise LocalError("a tally needs at least one ballot")
        votes = np.stack([ballots[name] for name in sorted(ballots)]).astype(np.int64)
        n = votes.shape[1]
        keys = np.arange(n, dtype=np.int64) * classes + votes
        pairs, pair_of, count = np.unique(keys, return_inverse=True, return_counts=True)
        probe = pairs // classes
        starts = np.searchsorted(probe, np.arange(n))
        return cls(votes, pair_of.reshape(votes.shape), probe, pairs % classes, count, starts)

    def winners(self, weight: np.ndarray) -> np.ndarray:
        """(m,) weights -> (n,) indices of the heaviest pair of each probe, ties to the first."""
        best = np.maximum.reduceat(weight, self.starts)[self.probe]
        heaviest = np.flatnonzero(weight == best)
        first = np.unique(self.probe[heaviest], return_index=True)[1]
        return heaviest[first]

    def lead(self, winners: np.ndarray) -> np.ndarray:
        """(n,) votes by which each winner leads the strongest other candidate; may be negative."""
        others = self.count.copy()
        others[winners] = 0
        lead: np.ndarray = self.count[winners] - np.maximum.reduceat(others, self.starts)
        return lead


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """The tallied labels of one round's probes."""

    probes: np.ndarray  # (n,) int64, indices into the probe set, ascending
    labels: np.ndarray  # (n,) int64, the winning class
    confidence: np.ndarray  # (n,) float32 in [0, 1]
    margin: np.ndarray  # (n,) int64, votes by which the winner leads the runner-up
    candidates: Candidates
    classes: int

    @property
    def voters(self) -> int:
        """Ballots that were tallied."""
        return len(self.candidates.votes)

    @property
    def counts(self) -> np.ndarray:
        """(n, classes) int32 votes a class: the paper's histogram, made when it is asked for."""
        n = len(self.probes)
        if n * self.classes > limits.HISTOGRAM_CELLS_MAX:
            raise LocalError(f"a histogram of {n} probes and {self.classes} classes is too large")
        table = np.zeros((n, self.classes), dtype=np.int32)
        table[self.candidates.probe, self.candidates.label] = self.candidates.count
        return table


def plurality(ballots: Mapping[str, np.ndarray], probes: np.ndarray, classes: int) -> Consensus:
    """Tally ballots by majority; confidence is the winner's share of the votes.

    Args:
        ballots: votes of each voter, (n,) int each, all over the same `probes`.
        probes: (n,) int, indices into the probe set.
        classes: number of classes; every vote is in [0, classes).
    """
    candidates = Candidates.of(ballots, classes)
    winners = candidates.winners(candidates.count)
    share = candidates.count[winners] / len(ballots)
    return Consensus(
        probes=probes,
        labels=candidates.label[winners],
        confidence=share.astype(np.float32),
        margin=candidates.lead(winners),
        candidates=candidates,
        classes=classes,
    )

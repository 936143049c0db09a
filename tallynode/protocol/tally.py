"""Ballots in, consensus out: one ballot an identity, counted in integers.

A rule gives every *candidate*, a (probe, class) pair that somebody voted for, its share of belief;
the class with the largest share is the probe's label, a tie going to the smallest class, which
every peer can recompute. The rule of `plurality`, the majority vote of TallyTrain (arXiv
2607.00173), is the share of the votes; the other rules have files of their own. Cost and memory
grow with the ballots and not with the number of classes. Ballots are taken in the order of the
voters' names: any arrival order gives the same bits.

The guard (`byzantine: f`) silences, whatever the rule, each probe on which the label does not lead
all other classes by more than f votes. Let w lead by more than f, and let a of its votes and b of a
rival's come from f voters in all who lie: then w leads the rival by more than f - a + b >= 0 votes
among the honest alone. So f liars, whatever they know and say, can silence a probe, but never give
it another label than the majority of the honest does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol import limits
from tallynode.protocol.worth import worth

SILENT = -1  # the label of a probe that the guard has silenced


@dataclass(frozen=True, slots=True)
class Candidates:
    """All votes of a round, and the m different (probe, class) pairs among them.

    Pairs are sorted by probe, then class; probe i's are those from starts[i] to starts[i + 1].
    """

    voters: tuple[str, ...]  # sorted
    classes: int
    levels: int  # of sureness that a vote may have
    votes: np.ndarray  # (voters, n) int64, rows in the order of the voters' names
    sure: np.ndarray  # (voters, n) int64, the level of each vote
    pair_of: np.ndarray  # (voters, n) int64, the pair that each vote is for
    probe: np.ndarray  # (m,) int64 in [0, n)
    label: np.ndarray  # (m,) int64 in [0, classes)
    count: np.ndarray  # (m,) int64 votes
    starts: np.ndarray  # (n,) int64

    @classmethod
    def of(cls, ballots: Mapping[str, np.ndarray], classes: int, levels: int = 1) -> "Candidates":
        """Gather the ballots of one round, (n,) int each and all over the same probes.

        A vote for class k at level l is the number k * levels + l.
        """
        if not ballots:
            raise LocalError("a tally needs at least one ballot")
        voters = tuple(sorted(ballots))
        said = np.stack([ballots[name] for name in voters]).astype(np.int64)
        votes, sure = np.divmod(said, levels)
        n = votes.shape[1]
        keys = np.arange(n, dtype=np.int64) * classes + votes
        pairs, pair_of, count = np.unique(keys, return_inverse=True, return_counts=True)
        probe = pairs // classes
        starts = np.searchsorted(probe, np.arange(n))
        pair_of = pair_of.reshape(votes.shape)
        label = pairs % classes
        return cls(voters, classes, levels, votes, sure, pair_of, probe, label, count, starts)

    def normalised(self, score: np.ndarray) -> np.ndarray:
        """(m,) log-likelihoods -> (m,) chances that sum to one over each probe's candidates."""
        likelihood = np.exp(score - np.maximum.reduceat(score, self.starts)[self.probe])
        shares: np.ndarray = likelihood / np.add.reduceat(likelihood, self.starts)[self.probe]
        return shares

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


Rule = Callable[[Candidates], np.ndarray]  # -> (m,) shares, one over each probe's candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """The tallied labels of one round's probes."""

    probes: np.ndarray  # (n,) int64, indices into the probe set, ascending
    labels: np.ndarray  # (n,) int64, the winning class, or SILENT
    confidence: np.ndarray  # (n,) float32 in [0, 1]; 0 where silent
    margin: np.ndarray  # (n,) int64, votes by which the winner leads; negative where it trails
    shares: np.ndarray  # (m,) float64, the rule's belief in each candidate
    candidates: Candidates
    standing: np.ndarray | None = None  # (voters, classes) what a vote counts for; None: all alike

    @property
    def voters(self) -> int:
        """Ballots that were tallied."""
        return len(self.candidates.voters)

    @property
    def worth(self) -> float:
        """How much it is to be learnt from, in [0, 1]; see worth.py."""
        return worth(self.candidates.votes, self.candidates.count)

    @property
    def heard(self) -> np.ndarray:
        """(n,) bool, the probes that have a label."""
        heard: np.ndarray = self.labels != SILENT
        return heard

    def agreement(self, own: np.ndarray) -> float | None:
        """Share of the labels that a peer's own ballot confirms; None: there are none."""
        heard = self.heard
        votes = own[: len(heard)][heard] // self.candidates.levels  # holdings may follow
        return float((votes == self.labels[heard]).mean()) if heard.any() else None

    @property
    def counts(self) -> np.ndarray:
        """(n, classes) int32 votes a class: the paper's histogram, made when it is asked for."""
        return self._table(self.candidates.count, np.int32)

    @property
    def weighed(self) -> np.ndarray:
        """(n, classes) float32 votes a class, each worth as much as its voter is on that class."""
        of = self.candidates
        worths = np.repeat(self.skills[:, None], of.votes.shape[1], axis=1)
        if self.standing is not None:
            worths = worths * np.take_along_axis(self.standing, of.votes, axis=1)
        sums = np.bincount(of.pair_of.ravel(), weights=worths.ravel(), minlength=len(of.count))
        return self._table(sums, np.float32)

    @property
    def skills(self) -> np.ndarray:
        """(voters,) float64 in [0, 1]: how far each agrees with the labels, beyond chance."""
        return self.agreements(self.candidates.votes)

    def agreements(self, said: np.ndarray) -> np.ndarray:
        """(rows,) float64 in [0, 1]: how far classes (rows, n) agree with the labels.

        Cohen's kappa (1960), and 0 for what agrees less than chance: classes that are constant, at
        random or contrary are worth nothing.
        """
        heard = self.heard
        votes, labels, n = said[:, heard], self.labels[heard], int(heard.sum())
        if not n:
            return np.zeros(len(said))
        agreed = (votes == labels).mean(axis=1)
        there = np.bincount(labels, minlength=self.candidates.classes)
        chance = np.array([(there[row]).sum() for row in votes]) / (n * n)
        kappa = np.where(chance < 1, (agreed - chance) / np.maximum(1 - chance, 1e-12), 0)
        return np.maximum(kappa, 0)

    @property
    def said(self) -> np.ndarray:
        """(n, classes) shares of the votes, whatever the rule makes of them."""
        shares: np.ndarray = self.counts / self.voters
        return shares

    @property
    def posterior(self) -> np.ndarray:
        """(n, classes) float32 shares, made when they are asked for."""
        return self._table(self.shares, np.float32)

    def _table(self, values: np.ndarray, kind: type) -> np.ndarray:
        n, classes = len(self.probes), self.candidates.classes
        if n * classes > limits.HISTOGRAM_CELLS_MAX:
            raise LocalError(f"a histogram of {n} probes and {classes} classes is too large")
        table: np.ndarray = np.zeros((n, classes), dtype=kind)
        table[self.candidates.probe, self.candidates.label] = values
        return table


def shares_of_votes(candidates: Candidates) -> np.ndarray:
    """The rule of the majority: each candidate's share of its probe's votes."""
    shares: np.ndarray = candidates.count / len(candidates.voters)
    return shares


def tally(
    ballots: Mapping[str, np.ndarray],
    probes: np.ndarray,
    classes: int,
    rule: Rule = shares_of_votes,
    byzantine: int | None = None,
    levels: int = 1,
) -> Consensus:
    """Tally the ballots of one round by a rule.

    Args:
        ballots: votes of each voter, (n,) int each, all over the same `probes`.
        probes: (n,) int, indices into the probe set.
        classes: number of classes; every vote is in [0, classes * levels).
        rule: what each candidate is worth; confidence is the winner's.
        byzantine: liars that no label may depend on; None: no guard.
        levels: of sureness that a vote carries.
    """
    candidates = Candidates.of(ballots, classes, levels)
    shares = rule(candidates)
    winners = candidates.winners(shares)
    labels, confidence = candidates.label[winners], shares[winners].astype(np.float32)
    margin = candidates.lead(winners)
    if byzantine is not None:
        silent = margin <= byzantine
        labels, confidence = np.where(silent, SILENT, labels), np.where(silent, 0, confidence)
    return Consensus(
        probes=probes,
        labels=labels,
        confidence=confidence.astype(np.float32),
        margin=margin,
        shares=shares,
        candidates=candidates,
    )

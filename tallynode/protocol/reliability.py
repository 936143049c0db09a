"""A tally that finds out from the ballots alone whom to believe about what.

Expectation-maximisation after Dawid & Skene ("Maximum Likelihood Estimation of Observer Error-Rates
Using the EM Algorithm", 1979), with a model small enough for few peers and many classes. Peer p
recognises class c with recall r[p, c]; where it does not, it answers as it answers on the whole,
q[p, k] being its vote frequencies:

    P(p votes k | class c) = r[p, c]                              if k = c
                           = (1 - r[p, c]) q[p, k] / (1 - q[p, c])  otherwise

Under label skew that is what happens: a peer knows the classes that it has seen, and calls the rest
by their names. With a uniform class prior the log-posterior of class c on a probe is, up to what is
the same for all classes,

    bias[c] + sum over voters p for c of weight[p, c],
    bias[c]      = sum over p of log(1 - r[p, c]) - log(1 - q[p, c])
    weight[p, c] = log r[p, c] - log(1 - r[p, c]) + log(1 - q[p, c]) - log q[p, c]

so every iteration is one weighted count over the votes. Of r and q only the entries of classes that
a peer does vote for differ from its others: those *terms* are all that is computed, and cost and
memory grow with the ballots, not with the number of classes.

What was learnt of a peer is carried over to the next round as evidence worth at most CARRIED_MAX
probes, halved each round. Where a round has many probes that changes nothing; where it has few, it
is what makes one round's ballots enough, and one bad round does not undo it. Who is new has no
record and is believed less at first; who misses a round keeps its record.
"""

from dataclasses import dataclass, field

import numpy as np

from tallynode.protocol.tally import Candidates

ITERATIONS = 20
SETTLED = 1e-7  # largest change of a posterior after which no further iteration is worth its time
RECALL_PRIOR = (1.0, 1.0)  # pseudo-counts of right and wrong answers a peer and class
VOTE_PRIOR = 1.0  # pseudo-votes spread over the classes, so that no frequency is 0
SURE = 1e-3  # recalls and frequencies stay this far from 0 and 1
CARRIED_SHARE = 0.5  # of the evidence, from one round to the next
CARRIED_MAX = 100.0  # probes' worth of it at most; more would hold on to what peers once were
CARRIED_CLASSES_MAX = 4096  # classes; with more there are too few votes of each to be a record


@dataclass(slots=True)
class Record:
    """What earlier rounds have shown of the voters, in probes that count less by and by."""

    probes: float
    there: np.ndarray  # (classes,) probes of each class, as it was believed
    votes: dict[str, np.ndarray] = field(default_factory=dict)  # (classes,) of each voter
    right: dict[str, np.ndarray] = field(default_factory=dict)  # (classes,) believed votes

    @classmethod
    def empty(cls, classes: int) -> "Record":
        """Nothing is known of anybody."""
        return cls(0.0, np.zeros(classes))

    def of(self, voters: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(voters, classes) votes and right ones, zero for who is new."""
        nothing = np.zeros(len(self.there))
        votes = np.stack([self.votes.get(name, nothing) for name in voters])
        right = np.stack([self.right.get(name, nothing) for name in voters])
        return votes, right

    def add(self, voters: tuple[str, ...], there: np.ndarray, terms: "_Terms", n: int) -> None:
        """Add a round, supposing that the absent would have voted as ever, and let all fade."""
        grown = 1 + np.divide(there, self.there, out=np.zeros_like(there), where=self.there > 0)
        for name in set(self.votes) - set(voters):
            self.votes[name] = self.votes[name] * (1 + n / self.probes)
            self.right[name] = self.right[name] * grown
        shape = (len(voters), len(there))
        votes, right = np.zeros(shape), np.zeros(shape)
        votes[terms.voter, terms.label] = terms.votes
        right[terms.voter, terms.label] = terms.right
        self.votes |= dict(zip(voters, votes, strict=True))
        self.right |= dict(zip(voters, right, strict=True))
        self.there = self.there + there
        self.probes += n
        fade = min(CARRIED_SHARE, CARRIED_MAX / self.probes)
        self.probes *= fade
        self.there = self.there * fade
        for table in (self.votes, self.right):
            for name in table:
                table[name] = table[name] * fade


class Reliability:
    """The rule, with its record of the voters."""

    def __init__(self) -> None:
        self._record = Record.empty(0)

    def __call__(self, candidates: Candidates) -> np.ndarray:
        """(m,) posteriors of the candidates."""
        classes, n = candidates.classes, candidates.votes.shape[1]
        carried = classes <= CARRIED_CLASSES_MAX
        if len(self._record.there) != (classes if carried else 0):
            self._record = Record.empty(classes if carried else 0)
        terms = _Terms(candidates, self._record)
        shares = candidates.count / len(candidates.voters)
        for _ in range(ITERATIONS):
            before, shares = shares, terms.posterior(shares)
            if np.abs(shares - before).max() < SETTLED:
                break
        if carried:
            terms.believe(shares)
            there = np.bincount(candidates.label, weights=shares, minlength=classes)
            self._record.add(candidates.voters, there, terms, n)
        return shares


class _Terms:
    """The (voter, class) pairs that have votes, in this round or on record."""

    def __init__(self, candidates: Candidates, record: Record) -> None:
        self._candidates = candidates
        voters, classes = len(candidates.voters), candidates.classes
        n = candidates.votes.shape[1]
        keys = np.arange(voters)[:, None] * classes + candidates.votes
        known_votes = known_right = np.zeros((voters, 0))
        if record.probes:
            known_votes, known_right = record.of(candidates.voters)
        pairs = np.union1d(keys, np.flatnonzero(known_votes))
        self._of = np.searchsorted(pairs, keys)  # (voters, n) the term of each vote
        self.voter, self.label = pairs // classes, pairs % classes  # (t,) each
        self._before = np.zeros(len(pairs))  # (t,) right votes on record
        self._there_before = np.zeros(classes)
        self.votes = np.bincount(self._of.ravel(), minlength=len(pairs)).astype(float)  # (t,)
        if record.probes:
            self.votes += known_votes[self.voter, self.label]
            self._before = known_right[self.voter, self.label]
            self._there_before = record.there
        self.right = self._before
        total = n + record.probes + VOTE_PRIOR
        self._frequency = np.clip((self.votes + VOTE_PRIOR / classes) / total, *_bounds(classes))
        never = np.clip(VOTE_PRIOR / classes / total, *_bounds(classes))
        self._never = np.log1p(-never)  # of a class that a voter has never voted for
        self._others = voters - np.bincount(self.label, minlength=classes)  # (classes,) such voters

    def believe(self, shares: np.ndarray) -> None:
        """Count the right votes, given (m,) chances of the candidates."""
        weights = shares[self._candidates.pair_of].ravel()
        right = np.bincount(self._of.ravel(), weights=weights, minlength=len(self.label))
        self.right = self._before + right

    def posterior(self, shares: np.ndarray) -> np.ndarray:
        """One iteration: (m,) chances -> recalls -> (m,) chances, over each probe's candidates."""
        of, classes = self._candidates, self._candidates.classes
        self.believe(shares)
        there = np.bincount(of.label, weights=shares, minlength=classes) + self._there_before
        right, wrong = RECALL_PRIOR
        chance = there + right + wrong
        recall = np.clip((self.right + right) / chance[self.label], SURE, 1 - SURE)  # (t,)
        unseen = np.clip(right / chance, SURE, 1 - SURE)  # (classes,) of who never voted for them
        missed = np.log1p(-recall) - np.log1p(-self._frequency)
        weight = np.log(recall) - np.log(self._frequency) - missed
        bias = self._others * (np.log1p(-unseen) - self._never)
        bias += np.bincount(self.label, weights=missed, minlength=classes)
        votes = weight[self._of].ravel()
        heard = np.bincount(of.pair_of.ravel(), weights=votes, minlength=len(of.label))
        return of.normalised(bias[of.label] + heard)


def _bounds(classes: int) -> tuple[float, float]:
    """Where a vote frequency is cut off."""
    return SURE / classes, 1 - SURE

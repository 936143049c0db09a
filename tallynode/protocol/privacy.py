"""Randomised response on votes, and what it costs: local differential privacy, accounted for.

*One vote.* k-ary randomised response (Warner 1965; Kairouz, Bonawitz & Ramage 2016, arXiv
1602.07387) sends the vote with chance e^ε / (e^ε + C - 1), else one of the other C - 1 classes,
each as likely: no answer is more than e^ε times likelier under one vote than under another.

*Many votes.* One private sample may sway all votes of a peer, so a guarantee for private data has
to be paid for every answer that was drawn. What is stated is therefore local: whoever reads all
ballots of this peer, and knows all else, tells any two private data sets of it apart no better than
(ε, δ) allows; one sample more or less is a special case, and is not assumed to be cheaper. For m
answers ε is the lower of

    m ε_vote                                      sequential composition, with δ = 0
    min over α of m D_α + log((α - 1) / α) - (log δ + log α) / (α - 1)

the second being Rényi accounting (Mironov 2017, arXiv 1702.07476; the conversion is Proposition 12
of Canonne, Kamath & Steinke 2020, arXiv 2004.00010). With p the chance of the vote itself and q of
each other class, the Rényi divergence of two answers whose votes differ is

    D_α = log(p^α q^(1-α) + q^α p^(1-α) + (C - 2) q) / (α - 1)

Both hold where a later vote depends on earlier answers. What is not covered: when a ballot is sent,
models that are published (other methods, an exported model), and answers whose account was lost.
"""

import math
from dataclasses import dataclass

import numpy as np

from tallynode.errors import LocalError

DELTA = 1e-5  # chance at most that the stated ε does not hold
_ORDERS = 1 + np.geomspace(1e-3, 1e5, 400)
_HALVINGS = 60  # of an interval of ε: finer than a float tells apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How private the votes are to be: ε of each vote, or of a round's ballot; not both."""

    per_vote: float | None = None
    per_round: float | None = None
    delta: float = DELTA

    def __post_init__(self) -> None:
        given = self.per_round if self.per_vote is None else self.per_vote
        if given is None or not (self.per_vote is None) ^ (self.per_round is None):
            raise LocalError("privacy: either per_vote or per_round")
        if not (0 < given < math.inf and 0 < self.delta < 1):
            raise LocalError("privacy: epsilon and delta are out of range")

    def epsilon_vote(self, classes: int, votes: int) -> float:
        """ε of one vote, where a round has so many."""
        if self.per_vote is not None:
            return self.per_vote
        assert self.per_round is not None
        low, high = 0.0, self.per_round
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if composed(middle, classes, votes, self.delta) <= self.per_round:
                low = middle
            else:
                high = middle
        return low


def lie_chance(epsilon: float, classes: int) -> float:
    """Chance that an answer is another class than the vote."""
    return (classes - 1) / (math.exp(epsilon) + classes - 1)


def composed(epsilon: float, classes: int, answers: int, delta: float) -> float:
    """ε of so many answers of `epsilon` each together, at `delta`."""
    if not answers:
        return 0.0
    losses = answers * _divergences(epsilon, classes)
    spread = np.log1p(-1 / _ORDERS) - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1)
    return min(answers * epsilon, max(0.0, float((losses + spread).min())))


def _divergences(epsilon: float, classes: int) -> np.ndarray:
    """(orders,) Rényi divergences of two answers whose votes differ."""
    log_q = -float(np.logaddexp(epsilon, math.log(classes - 1)))
    log_p = epsilon + log_q
    total = np.logaddexp(
        _ORDERS * log_p + (1 - _ORDERS) * log_q, _ORDERS * log_q + (1 - _ORDERS) * log_p
    )
    if classes > 2:
        total = np.logaddexp(total, math.log(classes - 2) + log_q)
    divergences: np.ndarray = total / (_ORDERS - 1)
    return divergences

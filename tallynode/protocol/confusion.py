"""Dawid and Skene's own model: what each voter says when the right class is another.

"Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", 1979, with a uniform
class prior, over the candidates that somebody voted for:

    P(p votes k | class c) = confusion[p, c, k],  rows towards the diagonal by pseudo-counts

It knows more of a voter than reliability.py does, who lies by a rule for instance, and needs more
votes to know it: classes squared entries a voter, so it takes few classes only.
"""

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol.limits import CONFUSION_CLASSES_MAX
from tallynode.protocol.tally import Candidates

ITERATIONS = 20
SPREAD_PRIOR = 1.0  # pseudo-votes a voter and class, spread over all classes
DIAGONAL_PRIOR = 2.0  # pseudo-votes a voter, spread over the right answers of all classes


def confusion(candidates: Candidates) -> np.ndarray:
    """(m,) posteriors of the candidates."""
    classes = candidates.classes
    if classes > CONFUSION_CLASSES_MAX:
        raise LocalError(f"confusion matrices of {classes} classes")
    shares = candidates.count / len(candidates.voters)
    for _ in range(ITERATIONS):
        shares = _posterior(candidates, _confusions(candidates, shares))
    return shares


def _confusions(of: Candidates, shares: np.ndarray) -> np.ndarray:
    """(voters, classes, classes) chance that a voter says k where the class is c."""
    classes, n = of.classes, of.votes.shape[1]
    table = np.zeros((n, classes))
    table[of.probe, of.label] = shares
    found = np.empty((len(of.voters), classes, classes))
    for voter, votes in enumerate(of.votes):
        for k in range(classes):
            found[voter, :, k] = table[votes == k].sum(axis=0)
    found += SPREAD_PRIOR / classes + np.eye(classes) * (DIAGONAL_PRIOR / classes)
    rows: np.ndarray = found / found.sum(axis=2, keepdims=True)
    return rows


def _posterior(of: Candidates, confusions: np.ndarray) -> np.ndarray:
    logs = np.log(confusions)
    score = np.zeros(len(of.label))
    for voter, votes in enumerate(of.votes):
        score += logs[voter, of.label, votes[of.probe]]
    return of.normalised(score)

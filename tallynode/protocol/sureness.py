"""Reliability for votes that say how sure they are: the same model, one record a voter and level.

A vote may carry a level of sureness, from 0 (the voter's least sure answers) up; levels rank a
voter's answers among themselves, so nobody has to be calibrated and nobody can shout. What a level
is worth is estimated like everything else: recall r[p, l, c] of peer p at level l for class c, its
vote frequencies q[p, l, k] there, and how often it is so sure where the class is c,

    P(p votes k at l | class c) = P(l | c) r[p, l, c]               if k = c
                                = P(l | c) (1 - r[p, l, c]) q[p, l, k] / (1 - q[p, l, c]) else

P(l | c) says the most: a peer that has never seen a class is seldom sure on it, whatever it votes.
"""

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol.limits import SURENESS_CELLS_MAX
from tallynode.protocol.reliability import ITERATIONS, RECALL_PRIOR, SURE, VOTE_PRIOR
from tallynode.protocol.tally import Candidates

LEVEL_PRIOR = 0.5  # pseudo-probes of each level and class
SMOOTHING = 5.0  # probes' worth of a voter's frequencies at all levels, in those at each


def sureness(candidates: Candidates) -> np.ndarray:
    """(m,) posteriors of the candidates."""
    shape = (len(candidates.voters), candidates.levels, candidates.classes)
    if np.prod(shape, dtype=float) > SURENESS_CELLS_MAX:
        raise LocalError(f"tables of {shape} voters, levels and classes")
    frequency = _frequencies(candidates, shape)
    shares = candidates.count / len(candidates.voters)
    for _ in range(ITERATIONS):
        shares = _posterior(candidates, frequency, *_learnt(candidates, shares, shape))
    return shares


def _frequencies(of: Candidates, shape: tuple[int, int, int]) -> np.ndarray:
    """(voters, levels, classes) how often a voter names a class at a level."""
    classes, n = of.classes, of.votes.shape[1]
    said = np.zeros(shape)
    for voter, (votes, levels) in enumerate(zip(of.votes, of.sure, strict=True)):
        counts = np.bincount(levels * classes + votes, minlength=shape[1] * classes)
        said[voter] = counts.reshape(shape[1:])
    overall = (said.sum(axis=1) + VOTE_PRIOR / classes) / (n + VOTE_PRIOR)
    smoothed = said + SMOOTHING * overall[:, None, :]
    shares = smoothed / smoothed.sum(axis=2, keepdims=True)
    clipped: np.ndarray = np.clip(shares, SURE / classes, 1 - SURE)
    return clipped


def _learnt(
    of: Candidates, shares: np.ndarray, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(voters, levels, classes) recalls, and the chance of each level given the class."""
    right, wrong = RECALL_PRIOR
    there, agreed = np.empty(shape), np.empty(shape)
    for voter, (votes, levels) in enumerate(zip(of.votes, of.sure, strict=True)):
        cell = levels[of.probe] * of.classes + of.label  # (m,)
        size = shape[1] * of.classes
        there[voter] = np.bincount(cell, weights=shares, minlength=size).reshape(shape[1:])
        hit = votes[of.probe] == of.label
        found = np.bincount(cell[hit], weights=shares[hit], minlength=size)
        agreed[voter] = found.reshape(shape[1:])
    recall = np.clip((agreed + right) / (there + right + wrong), SURE, 1 - SURE)
    level = (there + LEVEL_PRIOR) / (there + LEVEL_PRIOR).sum(axis=1, keepdims=True)
    return recall, level


def _posterior(
    of: Candidates, frequency: np.ndarray, recall: np.ndarray, level: np.ndarray
) -> np.ndarray:
    missed = np.log1p(-recall) - np.log1p(-frequency) + np.log(level)
    weight = np.log(recall) - np.log(frequency) - np.log1p(-recall) + np.log1p(-frequency)
    score = np.zeros(len(of.label))
    for voter, (votes, levels) in enumerate(zip(of.votes, of.sure, strict=True)):
        sure = levels[of.probe]
        score += missed[voter, sure, of.label]
        score += np.where(votes[of.probe] == of.label, weight[voter, sure, of.label], 0.0)
    return of.normalised(score)

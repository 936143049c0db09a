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

so every iteration is one weighted count over the votes, and nothing grows with classes squared.
"""

from collections.abc import Mapping

import numpy as np

from tallynode.protocol.tally import Candidates, Consensus

ITERATIONS = 20
RECALL_PRIOR = (1.0, 1.0)  # pseudo-counts of right and wrong answers a peer and class
VOTE_PRIOR = 1.0  # pseudo-votes spread over the classes, so that no frequency is 0
SURE = 1e-3  # recalls and frequencies stay this far from 0 and 1


def reliability(ballots: Mapping[str, np.ndarray], probes: np.ndarray, classes: int) -> Consensus:
    """Tally ballots by estimated reliability; confidence is the winner's posterior.

    Args: as of `plurality`. The margin is in votes and may be negative, where a few reliable
    voters outweigh many others.
    """
    candidates = Candidates.of(ballots, classes)
    posterior = candidates.count / len(ballots)
    frequency = _frequencies(candidates, classes)
    for _ in range(ITERATIONS):
        recall = _recalls(candidates, posterior, classes)
        posterior = _posterior(candidates, recall, frequency)
    winners = candidates.winners(posterior)
    return Consensus(
        probes=probes,
        labels=candidates.label[winners],
        confidence=posterior[winners].astype(np.float32),
        margin=candidates.lead(winners),
        candidates=candidates,
        classes=classes,
    )


def _frequencies(of: Candidates, classes: int) -> np.ndarray:
    """(voters, classes) share of each class among a peer's votes."""
    counts = _by_voter_and_class(of, np.ones(of.votes.shape), classes)
    shares = (counts + VOTE_PRIOR / classes) / (of.votes.shape[1] + VOTE_PRIOR)
    clipped: np.ndarray = np.clip(shares, SURE / classes, 1 - SURE)
    return clipped


def _recalls(of: Candidates, posterior: np.ndarray, classes: int) -> np.ndarray:
    """(voters, classes) chance that a peer names a class where it is the right one."""
    right, wrong = RECALL_PRIOR
    agreed = _by_voter_and_class(of, posterior[of.pair_of], classes)
    there = np.bincount(of.label, weights=posterior, minlength=classes)  # (classes,)
    recalls: np.ndarray = np.clip((agreed + right) / (there + right + wrong), SURE, 1 - SURE)
    return recalls


def _posterior(of: Candidates, recall: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """(m,) posterior of each candidate, normalised over its probe's candidates."""
    missed = np.log1p(-recall) - np.log1p(-frequency)  # (voters, classes)
    weight = np.log(recall) - np.log(frequency) - missed
    voter = np.arange(len(of.votes))[:, None]
    heard = np.bincount(
        of.pair_of.ravel(), weights=weight[voter, of.votes].ravel(), minlength=len(of.label)
    )
    score = missed.sum(axis=0)[of.label] + heard
    score -= np.maximum.reduceat(score, of.starts)[of.probe]
    likelihood = np.exp(score)
    normalised: np.ndarray = likelihood / np.add.reduceat(likelihood, of.starts)[of.probe]
    return normalised


def _by_voter_and_class(of: Candidates, weights: np.ndarray, classes: int) -> np.ndarray:
    """(voters, n) weights of votes -> (voters, classes) sums."""
    voters = len(of.votes)
    keys = np.arange(voters)[:, None] * classes + of.votes
    sums = np.bincount(keys.ravel(), weights=weights.ravel(), minlength=voters * classes)
    return sums.reshape(voters, classes)

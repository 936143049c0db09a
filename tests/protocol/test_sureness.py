"""Votes that say how sure they are: the model against its formula, and what a level is worth."""

import numpy as np
import pytest

from tallynode.errors import LocalError
from tallynode.protocol import limits
from tallynode.protocol.reliability import ITERATIONS, RECALL_PRIOR, SURE, VOTE_PRIOR, Reliability
from tallynode.protocol.sureness import LEVEL_PRIOR, SMOOTHING, sureness
from tallynode.protocol.tally import tally


def dense_twin(votes: np.ndarray, sure: np.ndarray, levels: int, classes: int) -> np.ndarray:
    """The module's formula over all classes at once; only those that were voted for may win."""
    n = votes.shape[1]
    said, level = np.eye(classes)[votes], np.eye(levels)[sure]  # (p, n, c), (p, n, l)
    candidates, post = said.sum(axis=0) > 0, said.mean(axis=0)
    overall = (said.sum(axis=1) + VOTE_PRIOR / classes) / (n + VOTE_PRIOR)
    q = np.einsum("pnl,pnc->plc", level, said) + SMOOTHING * overall[:, None]
    q = np.clip(q / q.sum(axis=2, keepdims=True), SURE / classes, 1 - SURE)
    for _ in range(ITERATIONS):
        agreed = np.einsum("nc,pnc,pnl->plc", post, said, level)
        there = np.einsum("nc,pnl->plc", post, level)
        r = (agreed + RECALL_PRIOR[0]) / (there + sum(RECALL_PRIOR))
        r = np.clip(r, SURE, 1 - SURE)
        chance = (there + LEVEL_PRIOR) / (there + LEVEL_PRIOR).sum(axis=1, keepdims=True)
        other = np.log(1 - r) - np.log(1 - q)
        score = np.einsum("plc,pnl->nc", np.log(chance) + other, level)
        score += np.einsum("plc,pnc,pnl->nc", np.log(r) - np.log(q) - other, said, level)
        score = np.where(candidates, score, -np.inf)
        post = np.exp(score - score.max(axis=1, keepdims=True))
        post /= post.sum(axis=1, keepdims=True)
    return post


def test_it_is_the_formula() -> None:
    """Sparse candidates give the posteriors that full tables give."""
    rng = np.random.default_rng(3)
    votes, sure = rng.integers(4, size=(5, 60)), rng.integers(2, size=(5, 60))
    ballots = {f"p{i}": row for i, row in enumerate(votes * 2 + sure)}
    found = tally(ballots, np.arange(60), 4, sureness, levels=2)
    assert found.posterior == pytest.approx(dense_twin(votes, sure, 2, 4), abs=1e-6)
    assert found.agreement(ballots["p0"]) == (votes[0] == found.labels).mean()


def test_a_peer_that_is_sure_of_what_it_knows_is_heard() -> None:
    """Voters that know four classes of ten and guess the rest unsurely: a bit a vote tells."""
    gains = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = rng.integers(10, size=1000)
        votes, sure = [], []
        for _ in range(8):
            known = rng.permutation(10)[:4]
            knows = np.isin(truth, known) & (rng.random(1000) < 0.8)
            votes.append(np.where(knows, truth, known[rng.integers(4, size=1000)]))
            sure.append((knows & (rng.random(1000) < 0.8)) | (rng.random(1000) < 0.1))
        plain = {f"p{i}": row for i, row in enumerate(votes)}
        both = {f"p{i}": v * 2 + s for i, (v, s) in enumerate(zip(votes, sure, strict=True))}
        alone = tally(plain, np.arange(1000), 10, Reliability()).labels == truth
        told = tally(both, np.arange(1000), 10, sureness, levels=2).labels == truth
        gains.append(told.mean() - alone.mean())
    assert np.mean(gains) > 0.05


def test_tables_that_would_be_too_large_are_our_own_bug() -> None:
    """The configuration refuses them first."""
    ballots = {f"p{i}": np.zeros(1, dtype=np.int64) for i in range(65)}
    classes = limits.SURENESS_CELLS_MAX // 128
    with pytest.raises(LocalError, match="tables of"):
        tally(ballots, np.arange(1), classes, sureness, levels=2)

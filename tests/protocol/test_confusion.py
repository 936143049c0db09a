"""Dawid and Skene's tally against its formula, and where it knows more than the others."""

import numpy as np
import pytest

from tallynode.errors import LocalError
from tallynode.protocol.confusion import DIAGONAL_PRIOR, ITERATIONS, SPREAD_PRIOR, confusion
from tallynode.protocol.tally import tally


def dense_twin(votes: np.ndarray, classes: int) -> np.ndarray:
    """The formula over all classes, of which only those that were voted for may win."""
    said = np.eye(classes)[votes]  # (voters, n, classes)
    candidates = said.sum(axis=0) > 0
    post = said.mean(axis=0)
    for _ in range(ITERATIONS):
        matrices = np.einsum("nc,pnk->pck", post, said)
        matrices += SPREAD_PRIOR / classes + np.eye(classes) * DIAGONAL_PRIOR / classes
        matrices /= matrices.sum(axis=2, keepdims=True)
        score = np.einsum("pck,pnk->nc", np.log(matrices), said)
        score = np.where(candidates, score, -np.inf)
        post = np.exp(score - score.max(axis=1, keepdims=True))
        post /= post.sum(axis=1, keepdims=True)
    return post


def test_it_is_the_formula() -> None:
    """Sparse candidates give the posteriors that full tables give."""
    rng = np.random.default_rng(0)
    votes = rng.integers(4, size=(5, 40))
    found = tally({f"p{i}": row for i, row in enumerate(votes)}, np.arange(40), 4, confusion)
    assert found.posterior == pytest.approx(dense_twin(votes, 4), abs=1e-6)


def test_who_lies_by_a_rule_tells_the_truth() -> None:
    """A voter that always names the next class is as good a witness as any other."""
    rng = np.random.default_rng(1)
    truth = rng.integers(4, size=500)
    honest = {
        f"h{i}": np.where(rng.random(500) < 0.6, truth, rng.integers(4, size=500)) for i in range(5)
    }
    alone = (tally(honest, np.arange(500), 4, confusion).labels == truth).mean()
    liars = {f"l{i}": (truth + 1) % 4 for i in range(2)}
    together = (tally(honest | liars, np.arange(500), 4, confusion).labels == truth).mean()
    assert alone < 0.95
    assert together > 0.99


def test_too_many_classes_are_our_own_bug() -> None:
    """The configuration refuses them first."""
    with pytest.raises(LocalError, match="confusion matrices of 65 classes"):
        tally({"a": np.zeros(2, dtype=np.int64)}, np.arange(2), 65, confusion)

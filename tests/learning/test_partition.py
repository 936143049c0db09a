"""The deal of one pool to many peers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.learning.partition import partition


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=60),
    peers=st.integers(1, 9),
    alpha=st.sampled_from([None, 0.01, 0.1, 1.0, 100.0]),
    seed=st.integers(0, 2**32),
)
def test_every_sample_is_dealt_once_in_equal_parts(
    labels: list[int], peers: int, alpha: float | None, seed: int
) -> None:
    """Any pool, skew and number of peers: equal sizes, nothing lost, nothing twice."""
    pool = np.repeat(np.array(labels), peers)
    parts = partition(pool, peers, alpha, np.random.default_rng(seed))
    assert [len(part) for part in parts] == [len(labels)] * peers
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(pool)))


def test_the_same_seed_deals_the_same_and_another_differs() -> None:
    """Every peer computes the same deal from the mesh's seed."""
    labels = np.arange(800) % 10
    deal = [partition(labels, 8, 0.1, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(deal[0], deal[1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(deal[0], deal[2], strict=True))


def test_small_alpha_gives_a_peer_few_classes_and_large_alpha_all() -> None:
    """The skew follows alpha: the share of a peer's commonest class falls as alpha grows."""

    def commonest(alpha: float) -> float:
        labels = np.arange(4000) % 10
        parts = partition(labels, 8, alpha, np.random.default_rng(3))
        return float(np.mean([np.bincount(labels[part]).max() / len(part) for part in parts]))

    shares = [commonest(alpha) for alpha in (0.1, 1.0, 100.0)]
    assert shares[0] > 0.4 > shares[1] > 0.15 > shares[2]


def test_parts_that_cannot_be_equal_are_refused() -> None:
    """A pool that does not divide is a caller's mistake, not a silent remainder."""
    with pytest.raises(ValueError, match="7 samples do not divide among 2 peers"):
        partition(np.zeros(7, dtype=np.int64), 2, None, np.random.default_rng(0))

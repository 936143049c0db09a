"""The tallies against dumb twins in plain Python, and in any order of arrival."""

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol import limits
from tallynode.protocol.reliability import (
    ITERATIONS,
    RECALL_PRIOR,
    SURE,
    VOTE_PRIOR,
    reliability,
)
from tallynode.protocol.tally import Consensus, plurality

Ballots = dict[str, np.ndarray]


@st.composite
def rounds(draw: st.DrawFn, max_voters: int = 7) -> tuple[Ballots, int]:
    """The ballots of a round and the number of classes."""
    classes = draw(st.integers(2, 6))
    probes = draw(st.integers(1, 12))
    voters = draw(st.integers(1, max_voters))
    vote = st.integers(0, classes - 1)
    ballots = {
        f"p{i}": np.array(draw(st.lists(vote, min_size=probes, max_size=probes)))
        for i in range(voters)
    }
    return ballots, classes


def probes_of(ballots: Ballots) -> np.ndarray:
    """Indices of the probes that were voted on."""
    return np.arange(len(next(iter(ballots.values())))) * 2


@given(rounds())
def test_plurality_and_twin(given_round: tuple[Ballots, int]) -> None:
    """Labels, confidence, margin and counts are what counting by hand gives."""
    ballots, classes = given_round
    consensus = plurality(ballots, probes_of(ballots), classes)
    assert consensus.voters == len(ballots)
    for i in range(len(consensus.labels)):
        votes = Counter(int(v[i]) for v in ballots.values())
        counts = [votes[c] for c in range(classes)]
        ranked = sorted(range(classes), key=lambda c: (-counts[c], c))
        assert consensus.labels[i] == ranked[0]
        assert consensus.counts[i].tolist() == counts
        assert consensus.margin[i] == counts[ranked[0]] - counts[ranked[1]]
        assert consensus.confidence[i] == np.float32(counts[ranked[0]] / len(ballots))


@given(rounds(), st.randoms(use_true_random=False), st.sampled_from([plurality, reliability]))
def test_any_arrival_order_gives_the_same_bits(
    given_round: tuple[Ballots, int], order: random.Random, rule: object
) -> None:
    """Both rules are deaf to the order in which ballots came."""
    assert callable(rule)
    ballots, classes = given_round
    names = list(ballots)
    order.shuffle(names)
    one: Consensus = rule(ballots, probes_of(ballots), classes)
    other: Consensus = rule({n: ballots[n] for n in names}, probes_of(ballots), classes)
    for field in ("labels", "confidence", "margin", "counts"):
        assert getattr(one, field).tobytes() == getattr(other, field).tobytes()


def twin_posterior(ballots: Ballots, classes: int) -> list[dict[int, float]]:
    """The expectation-maximisation of reliability.py, written from its formulas, slowly."""
    voters = sorted(ballots)
    n = len(ballots[voters[0]])

    def clip(x: float, low: float) -> float:
        return min(max(x, low), 1 - SURE)

    q = {
        p: [
            clip(
                (sum(int(v) == k for v in ballots[p]) + VOTE_PRIOR / classes) / (n + VOTE_PRIOR),
                SURE / classes,
            )
            for k in range(classes)
        ]
        for p in voters
    }
    posterior = []
    for i in range(n):
        votes = Counter(int(ballots[p][i]) for p in voters)
        posterior.append({c: k / len(voters) for c, k in sorted(votes.items())})
    right, wrong = RECALL_PRIOR
    for _ in range(ITERATIONS):
        r = {
            (p, c): clip(
                (sum(posterior[i].get(c, 0.0) for i in range(n) if ballots[p][i] == c) + right)
                / (sum(posterior[i].get(c, 0.0) for i in range(n)) + right + wrong),
                SURE,
            )
            for p in voters
            for c in range(classes)
        }
        for i in range(n):
            score = {}
            for c in posterior[i]:
                total = 0.0
                for p in voters:
                    k = int(ballots[p][i])
                    chance = r[p, c] if k == c else (1 - r[p, c]) * q[p][k] / (1 - q[p][c])
                    total += math.log(chance)
                score[c] = total
            top = max(score.values())
            norm = sum(math.exp(s - top) for s in score.values())
            posterior[i] = {c: math.exp(s - top) / norm for c, s in score.items()}
    return posterior


@given(rounds(max_voters=4))
def test_reliability_and_twin(given_round: tuple[Ballots, int]) -> None:
    """The posterior of the winner is that of a slow twin, and no candidate has a higher one."""
    ballots, classes = given_round
    consensus = reliability(ballots, probes_of(ballots), classes)
    assert np.isfinite(consensus.confidence).all()
    for i, posterior in enumerate(twin_posterior(ballots, classes)):
        label = int(consensus.labels[i])
        assert consensus.confidence[i] == pytest.approx(posterior[label], abs=1e-5)
        assert posterior[label] == pytest.approx(max(posterior.values()), abs=1e-6)


def test_reliability_believes_the_peers_that_know_a_class() -> None:
    """Two peers that know classes 2 and 3 outweigh three that call them by names they know."""
    truth = np.arange(200) % 4
    rng = np.random.default_rng(7)
    ballots = {f"blind{i}": np.where(truth < 2, truth, rng.integers(0, 2, 200)) for i in range(3)}
    ballots |= {f"seeing{i}": np.where(truth >= 2, truth, 2 + truth) for i in range(2)}
    probes = np.arange(200)
    by_count = (plurality(ballots, probes, 4).labels == truth).mean()
    by_trust = (reliability(ballots, probes, 4).labels == truth).mean()
    assert by_trust > by_count


def test_a_tie_goes_to_the_smallest_class() -> None:
    """One vote each for classes 2 and 1 makes 1, with margin 0."""
    ballots = {"a": np.array([2]), "b": np.array([1])}
    consensus = plurality(ballots, np.array([0]), 3)
    assert (consensus.labels[0], consensus.margin[0]) == (1, 0)


def test_no_ballots_are_our_own_bug() -> None:
    """A tally of nothing raises instead of inventing labels."""
    with pytest.raises(LocalError, match="at least one ballot"):
        plurality({}, np.arange(3), 3)


def test_a_histogram_too_large_for_the_machine_is_refused() -> None:
    """The table of votes by class is bounded; the tally itself is not bothered by many classes."""
    probes = np.arange(limits.HISTOGRAM_CELLS_MAX // 65_536 + 1)
    consensus = plurality({"a": np.zeros(len(probes), dtype=np.int64)}, probes, 65_536)
    assert consensus.labels.sum() == 0
    with pytest.raises(LocalError, match="too large"):
        _ = consensus.counts

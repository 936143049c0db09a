"""What a tally is worth: nothing where votes are noise, all where all agree, and by a dumb twin."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.protocol.tally import tally
from tallynode.protocol.worth import DOUBT, worth

PROBES, CLASSES = 500, 10


def worth_of(votes: np.ndarray) -> float:
    """Of votes (voters, n), by way of a tally."""
    ballots = {f"{i:02d}": row for i, row in enumerate(votes)}
    return tally(ballots, np.arange(votes.shape[1]), CLASSES).worth


def twin(votes: np.ndarray) -> float:
    """Pair by pair, as the definition says."""
    voters, n = votes.shape
    pairs = list(combinations(votes, 2))
    agreement = np.mean([(a == b).mean() for a, b in pairs])
    chance = np.mean(
        [sum((a == k).mean() * (b == k).mean() for k in range(CLASSES)) for a, b in pairs]
    )
    if chance > 1 - 1e-9:
        return 0.0
    error = (chance / ((1 - chance) * n * len(pairs))) ** 0.5
    kappa = max(0.0, (agreement - chance) / (1 - chance) - DOUBT * error)
    return float(voters * kappa / (1 + (voters - 1) * kappa))


@given(st.integers(2, 6), st.integers(1, 40), st.integers(2, CLASSES), st.integers(0, 2**32))
def test_it_is_its_twin_within_bounds_and_in_any_order(
    voters: int, n: int, classes: int, seed: int
) -> None:
    """Votes half drawn at random, half the same for all; the voters' order changes nothing."""
    rng = np.random.default_rng(seed)
    same = rng.random((voters, n)) < rng.random()
    votes = np.where(same, np.arange(n) % classes, rng.integers(classes, size=(voters, n)))
    found = worth_of(votes)
    assert found == pytest.approx(twin(votes), abs=1e-9)
    assert 0 <= found <= 1
    assert found == pytest.approx(worth_of(votes[::-1]), abs=1e-12)


@pytest.mark.parametrize("voters", [2, 5, 10, 20])
@pytest.mark.parametrize("skewed", [False, True])
def test_noise_is_worth_next_to_nothing(voters: int, skewed: bool) -> None:
    """Also where every voter has favourites, the same for all: that is no agreement on a probe."""
    rng = np.random.default_rng(voters)
    shares = rng.dirichlet([0.3] * CLASSES) if skewed else np.full(CLASSES, 1 / CLASSES)
    found = [worth_of(rng.choice(CLASSES, (voters, PROBES), p=shares)) for _ in range(40)]
    assert np.mean([value == 0 for value in found]) >= 0.85
    assert max(found) < 0.2


def test_voters_that_say_the_same_of_everything_are_worth_nothing() -> None:
    """All agree, and nobody has looked."""
    assert worth_of(np.full((5, PROBES), 3)) == 0


def test_one_voter_is_worth_nothing() -> None:
    """It agrees with itself."""
    assert worth(np.arange(10)[None], np.ones(10, dtype=np.int64)) == 0


def test_agreement_is_worth_more_the_more_voters_show_it() -> None:
    """Voters that are right on a third of the probes: weak alone, worth most of all together."""
    rng = np.random.default_rng(1)
    truth = np.arange(PROBES) % CLASSES
    knows = rng.random((20, PROBES)) < 0.4
    votes = np.where(knows, truth, rng.integers(CLASSES, size=knows.shape))
    few, many = worth_of(votes[:3]), worth_of(votes)
    assert 0.1 < few < many
    assert many > 0.7
    assert worth_of(np.tile(truth, (4, 1))) > 0.95

"""Plurality against a dumb twin in plain Python, and both tallies in any order of arrival."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol import limits
from tallynode.protocol.confusion import confusion
from tallynode.protocol.reliability import Reliability
from tallynode.protocol.tally import shares_of_votes, tally

Ballots = dict[str, np.ndarray]


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Ballots, int]:
    """The ballots of a round and the number of classes."""
    classes = draw(st.integers(2, 6))
    probes = draw(st.integers(1, 12))
    voters = draw(st.integers(1, 7))
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
    consensus = tally(ballots, probes_of(ballots), classes)
    assert consensus.voters == len(ballots)
    for i in range(len(consensus.labels)):
        votes = Counter(int(v[i]) for v in ballots.values())
        counts = [votes[c] for c in range(classes)]
        ranked = sorted(range(classes), key=lambda c: (-counts[c], c))
        assert consensus.labels[i] == ranked[0]
        assert consensus.counts[i].tolist() == counts
        assert consensus.margin[i] == counts[ranked[0]] - counts[ranked[1]]
        assert consensus.confidence[i] == np.float32(counts[ranked[0]] / len(ballots))


RULES = {
    "plurality": lambda: shares_of_votes,
    "reliability": Reliability,
    "dawid-skene": lambda: confusion,
}


@given(rounds(), st.randoms(use_true_random=False), st.sampled_from(sorted(RULES)))
def test_any_arrival_order_gives_the_same_bits(
    given_round: tuple[Ballots, int], order: random.Random, rule: str
) -> None:
    """All rules are deaf to the order in which ballots came."""
    ballots, classes = given_round
    names = list(ballots)
    order.shuffle(names)
    one = tally(ballots, probes_of(ballots), classes, RULES[rule]())
    reordered = {n: ballots[n] for n in names}
    other = tally(reordered, probes_of(ballots), classes, RULES[rule]())
    for field in ("labels", "confidence", "margin", "counts"):
        assert getattr(one, field).tobytes() == getattr(other, field).tobytes()


def test_a_tie_goes_to_the_smallest_class() -> None:
    """One vote each for classes 2 and 1 makes 1, with margin 0."""
    ballots = {"a": np.array([2]), "b": np.array([1])}
    consensus = tally(ballots, np.array([0]), 3)
    assert (consensus.labels[0], consensus.margin[0]) == (1, 0)


def test_no_ballots_are_our_own_bug() -> None:
    """A tally of nothing raises instead of inventing labels."""
    with pytest.raises(LocalError, match="at least one ballot"):
        tally({}, np.arange(3), 3)


def test_a_histogram_too_large_for_the_machine_is_refused() -> None:
    """The table of votes by class is bounded; the tally itself is not bothered by many classes."""
    probes = np.arange(limits.HISTOGRAM_CELLS_MAX // 65_536 + 1)
    consensus = tally({"a": np.zeros(len(probes), dtype=np.int64)}, probes, 65_536)
    assert consensus.labels.sum() == 0
    with pytest.raises(LocalError, match="too large"):
        _ = consensus.counts


def test_votes_weigh_what_their_voters_are_worth() -> None:
    """By Cohen's kappa: constant, random and contrary votes count for nothing."""
    truth = np.arange(400) % 4
    draw = np.random.default_rng(1)
    half = np.where(draw.random(400) < 0.5, truth, draw.integers(0, 4, 400))
    voters = {**dict.fromkeys("abchi", truth), "d": half}
    liars = {"e": np.zeros(400), "f": draw.integers(0, 4, 400), "g": (truth + 1) % 4}
    consensus = tally({**voters, **liars}, np.arange(400), 4)
    assert (consensus.labels == truth).all()
    skills = dict(zip("abcdefghi", consensus.skills, strict=True))
    assert [skills[name] for name in "abchieg"] == [1, 1, 1, 1, 1, 0, 0]
    chance = np.bincount(half, minlength=4).dot(np.full(4, 100)) / 400**2
    assert skills["d"] == pytest.approx(((half == truth).mean() - chance) / (1 - chance))
    assert skills["f"] < 0.1
    weighed = consensus.weighed
    assert weighed.sum(axis=1) == pytest.approx(np.full(400, sum(skills.values())))
    for probe in (0, 7, 399):
        by_hand = np.zeros(4)
        for name, said in {**voters, **liars}.items():
            by_hand[int(said[probe])] += skills[name]
        assert weighed[probe] == pytest.approx(by_hand, abs=1e-6)


def test_a_round_that_is_silent_has_no_worthy_voter() -> None:
    """With nothing to agree with nobody is weighed, and nothing is divided by nought."""
    ballots = {"a": np.array([0, 1]), "b": np.array([1, 0])}
    consensus = tally(ballots, np.arange(2), 2, byzantine=1)
    assert consensus.skills.tolist() == [0, 0]
    assert consensus.weighed.sum() == 0

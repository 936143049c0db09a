"""Randomised responses: as noisy as stated, standing for an epoch, paid for once."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tallynode.errors import DataError
from tallynode.learning.data import load_peer_data
from tallynode.learning.settings import DataSettings, TrainSettings
from tallynode.methods.private import PrivateTallyMethod
from tallynode.methods.responses import Responses
from tallynode.protocol.privacy import Budget, composed, lie_chance

COUNT = 20_000
ALL = np.arange(COUNT)


def responses(epsilon: float, *, classes: int = 10, secret: bytes = b"own") -> Responses:
    """One peer's, for COUNT probes that are all voted on."""
    budget = Budget(per_vote=epsilon)
    return Responses(budget, classes=classes, probes=COUNT, voted=COUNT, secret=secret)


@settings(deadline=None, max_examples=15)
@given(st.floats(0.1, 6), st.integers(2, 12), st.data())
def test_an_answer_is_the_vote_as_often_as_stated_else_any_other_alike(
    epsilon: float, classes: int, data: st.DataObject
) -> None:
    """Counts of every class lie within five deviations of the formula, whatever the vote."""
    vote = data.draw(st.integers(0, classes - 1))
    said = responses(epsilon, classes=classes).answer(1, ALL, np.full(COUNT, vote))
    lie = lie_chance(epsilon, classes)
    for label, count in enumerate(np.bincount(said, minlength=classes)):
        chance = 1 - lie if label == vote else lie / (classes - 1)
        assert abs(count - COUNT * chance) < 5 * math.sqrt(COUNT * chance * (1 - chance)) + 1


def test_answers_stand_while_an_epoch_lasts_even_where_votes_change() -> None:
    """Rounds 4 to 7 say the same, round 8 draws anew: no change of a vote shows in between."""
    of, rng = responses(1.0), np.random.default_rng(0)
    said = {r: of.answer(r, ALL, rng.integers(10, size=COUNT)) for r in range(4, 9)}
    assert all(np.array_equal(said[4], said[r]) for r in (5, 6, 7))
    assert not np.array_equal(said[4], said[8])


def test_each_epoch_and_each_peer_has_noise_of_its_own() -> None:
    """Of equal votes, answers of two epochs or two secrets agree as often as two draws do."""
    votes, lie = np.zeros(COUNT, dtype=np.int64), lie_chance(1.0, 10)
    alike = (1 - lie) ** 2 + lie**2 / 9
    one, other = responses(1.0), responses(1.0, secret=b"other")
    first, second = one.answer(1, ALL, votes), one.answer(2, ALL, votes)
    for twin in (second, other.answer(1, ALL, votes)):
        assert (first == twin).mean() == pytest.approx(alike, abs=0.02)
    assert np.array_equal(first, responses(1.0).answer(1, ALL, votes))


def test_only_fresh_answers_are_paid_for() -> None:
    """By hand: 30 probes in round 2, ten of them and ten more in 3, all again in 4."""
    of = responses(0.1)
    votes = np.zeros(COUNT, dtype=np.int64)
    spent = []
    for round_, probes in ((2, ALL[:30]), (3, ALL[20:40]), (3, ALL[:40]), (4, ALL[:40])):
        of.answer(round_, probes, votes[probes])
        spent.append(of.spent())
    assert [each["answers"] for each in spent] == [30, 40, 40, 80]
    rounds = [composed(0.1, 10, fresh, 1e-5) for fresh in (30, 10, 0, 40)]
    assert [each["round"] for each in spent] == pytest.approx(rounds)
    assert [each["probe"] for each in spent] == pytest.approx([0.1, 0.1, 0.1, 0.2])
    assert spent[-1]["total"] == composed(0.1, 10, 80, 1e-5)


def test_a_restart_repeats_the_answers_and_keeps_the_account() -> None:
    """With another secret, in the same epoch, loaded answers are said again for nothing."""
    of, other = responses(1.0), responses(1.0, secret=b"after the restart")
    votes = np.arange(COUNT) % 10
    said = of.answer(2, ALL, votes)
    other.load(of.state())
    assert other.spent() == of.spent()
    assert np.array_equal(other.answer(3, ALL, votes), said)
    assert other.spent()["total"] == of.spent()["total"]


def test_an_account_of_something_else_is_refused() -> None:
    """No account, other probes, another ε: nothing is carried on that was not paid for."""
    of = responses(1.0)
    with pytest.raises(DataError, match="no account"):
        of.load({})
    with pytest.raises(DataError, match="ε = 2, now 1"):
        of.load(responses(2.0).state())
    other = Responses(Budget(per_vote=1.0), classes=10, probes=7, voted=7, secret=b"")
    with pytest.raises(DataError, match="other probes"):
        of.load(other.state())


def test_a_private_peer_says_its_answers_and_reports_their_cost() -> None:
    """The method sends what the responses make of its votes, and its state holds the account."""
    data = load_peer_data(DataSettings(source="digits", share=(0, 4), per_peer=50, probes=60))
    budget, probes = Budget(per_round=8.0), np.arange(60)

    def peer(index: int = 0) -> PrivateTallyMethod:
        own = Responses(budget, classes=10, probes=60, voted=60, secret=b"own")
        return PrivateTallyMethod(data, TrainSettings(), own, classes=10, seed=1, index=index)

    one, two = peer(), peer()
    said = one.train(1, probes)
    assert said.shape == (60,)
    privacy = one.learn(1, None).privacy
    assert privacy is not None
    assert privacy["round"] == privacy["total"] == pytest.approx(8.0, rel=1e-3)
    two.load(one.state())
    assert np.array_equal(two.train(1, probes), said)
    assert torch.equal(two.state()["responses"], one.state()["responses"])

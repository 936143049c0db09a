"""The account of private votes: against hand-computed values, and an exact twin that is slow."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol.privacy import Budget, composed, lie_chance

EPSILONS = st.floats(0.01, 8)
DELTA = 1e-5


def delta_of(total: float, epsilon: float, classes: int, answers: int) -> float:
    """The exact δ at which `answers` votes that all differ hold ε = `total`.

    The privacy loss of one answer is ε, -ε or 0 with chances p, q and (C - 2) q; that of many is
    the sum, whose distribution is counted out.
    """
    q = 1 / (math.exp(epsilon) + classes - 1)
    one = np.array([q, (classes - 2) * q, 1 - (classes - 1) * q])
    chances = np.ones(1)
    for _ in range(answers):
        chances = np.convolve(chances, one)
    losses = epsilon * np.arange(-answers, answers + 1)
    worse = losses > total
    return float((chances[worse] * -np.expm1(total - losses[worse])).sum())


def test_a_vote_is_kept_as_often_as_the_formula_says() -> None:
    """By hand: ε = ln 9 keeps half of ten classes' votes and nine tenths of two classes'."""
    assert lie_chance(math.log(9), 10) == pytest.approx(0.5)
    assert lie_chance(math.log(9), 2) == pytest.approx(0.1)
    assert lie_chance(100.0, 10) > 0


@given(EPSILONS, st.integers(2, 1000))
def test_no_answer_is_likelier_than_the_guarantee_allows(epsilon: float, classes: int) -> None:
    """The two extreme chances of one answer stand as e^ε to one."""
    lie = lie_chance(epsilon, classes)
    assert (1 - lie) / (lie / (classes - 1)) == pytest.approx(math.exp(epsilon))


@settings(deadline=None, max_examples=60)
@given(EPSILONS, st.integers(2, 100), st.integers(1, 80))
def test_the_account_is_never_below_the_exact_one(
    epsilon: float, classes: int, answers: int
) -> None:
    """At the ε that is stated, the exact chance that it does not hold is no more than δ."""
    stated = composed(epsilon, classes, answers, DELTA)
    assert 0 <= stated <= answers * epsilon
    assert delta_of(stated, epsilon, classes, answers) <= DELTA * (1 + 1e-6)


@pytest.mark.parametrize(("epsilon", "answers"), [(0.1, 500), (0.5, 100), (1.0, 500)])
def test_the_account_is_not_much_above_the_exact_one(epsilon: float, answers: int) -> None:
    """A quarter less would be a promise that is not kept: the bound is worth having."""
    stated = composed(epsilon, 10, answers, DELTA)
    assert stated < answers * epsilon / 2
    assert delta_of(0.75 * stated, epsilon, 10, answers) > DELTA


def test_a_few_sure_answers_cost_their_sum() -> None:
    """By hand: with δ next to nought three answers of ε = 0.5 cost 1.5; none cost nothing."""
    assert composed(0.5, 10, 3, 1e-300) == pytest.approx(1.5)
    assert composed(0.5, 10, 0, DELTA) == 0


@settings(deadline=None)
@given(EPSILONS, st.integers(2, 20), st.integers(1, 10_000))
def test_a_budget_of_a_round_is_kept_and_used(per_round: float, classes: int, votes: int) -> None:
    """The votes of a round cost no more than was stated, and a hundredth more each would."""
    epsilon = Budget(per_round=per_round).epsilon_vote(classes, votes)
    more = composed(1.01 * epsilon, classes, votes, DELTA) > per_round
    assert more or epsilon == pytest.approx(per_round)
    assert composed(epsilon, classes, votes, DELTA) <= per_round
    assert Budget(per_vote=per_round).epsilon_vote(classes, votes) == per_round


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"per_vote": 1.0, "per_round": 1.0},
        {"per_vote": 0.0},
        {"per_round": math.inf},
        {"per_vote": 1.0, "delta": 0.0},
    ],
)
def test_a_budget_is_one_positive_number(stated: dict[str, float]) -> None:
    """Nothing, two units at once, nought, no bound at all and δ = 0 are slips."""
    with pytest.raises(LocalError, match="privacy: "):
        Budget(**stated)

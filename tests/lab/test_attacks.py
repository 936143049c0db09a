"""Liars against the guard: what it promises holds for any votes, by property and by example."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallynode.lab.attacks import ATTACKS, under_attack
from tallynode.protocol.contents.votes import RULES
from tallynode.protocol.tally import SILENT, tally


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(RULES)))
def test_no_label_depends_on_as_many_liars_as_the_guard_allows_for(
    data: st.DataObject, rule: str
) -> None:
    """Whatever f liars say, a label that is left is the one of the honest majority."""
    classes, n = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 6))
    vote = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n).map(np.array)
    honest = {f"h{i}": data.draw(vote) for i in range(data.draw(st.integers(1, 6)))}
    liars = {f"a{i}": data.draw(vote) for i in range(data.draw(st.integers(0, 3)))}
    probes = np.arange(n)
    labels = tally(honest | liars, probes, classes, RULES[rule](), len(liars)).labels
    majority = tally(honest, probes, classes).labels
    assert (majority == labels)[labels != SILENT].all()


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_an_attack_is_measured_with_and_without_the_guard(attack: str) -> None:
    """Five that know the truth and two liars: no wrong label, and most of the labels stay."""
    truth = np.random.default_rng(1).integers(5, size=200)
    ballots = {f"p{i}": truth for i in range(7)}
    for found in under_attack(ballots, truth, 5, 2, attack).values():
        assert (found["unharmed"], found["attacked"], found["right"]) == (1.0, 1.0, 1.0)
        assert found["wrong labels"] == 0
        assert found["labelled"] > 0.7


def test_the_runner_up_attack_flips_a_majority_without_the_guard() -> None:
    """Four against three, and two that join the three: it is the lie to measure with."""
    ballots = {f"p{i}": np.array([int(i >= 4)]) for i in range(7)} | {
        f"q{i}": np.array([0]) for i in range(2)
    }
    found = under_attack(ballots, np.array([0]), 2, 2, "runner-up")["plurality"]
    assert (found["unharmed"], found["attacked"], found["labelled"]) == (1.0, 0.0, 0.0)

"""The reliability tally against a dense twin, and against what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallynode.protocol.reliability import ITERATIONS, RECALL_PRIOR, SURE, VOTE_PRIOR, Reliability
from tallynode.protocol.tally import Consensus, tally


def reliability(ballots: dict[str, np.ndarray], probes: np.ndarray, classes: int) -> Consensus:
    """Tally by the rule, nothing being known of the voters."""
    return tally(ballots, probes, classes, Reliability())


def dense_twin(ballots: dict[str, np.ndarray], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The module's formula written out over every class, loop by loop: (labels, posteriors)."""
    votes = [ballots[name] for name in sorted(ballots)]
    n, candidates = len(votes[0]), [{int(v[i]) for v in votes} for i in range(len(votes[0]))]
    post = np.zeros((n, classes))
    for i in range(n):
        for v in votes:
            post[i, v[i]] += 1 / len(votes)
    q = np.array(
        [
            [(np.sum(v == c) + VOTE_PRIOR / classes) / (n + VOTE_PRIOR) for c in range(classes)]
            for v in votes
        ]
    )
    q = np.clip(q, SURE / classes, 1 - SURE)
    for _ in range(ITERATIONS):
        r = np.array(
            [
                [
                    (post[v == c, c].sum() + RECALL_PRIOR[0])
                    / (post[:, c].sum() + sum(RECALL_PRIOR))
                    for c in range(classes)
                ]
                for v in votes
            ]
        )
        r = np.clip(r, SURE, 1 - SURE)
        for i in range(n):
            score = {
                c: sum(
                    np.log(r[p, c])
                    if v[i] == c
                    else np.log((1 - r[p, c]) * q[p, v[i]] / (1 - q[p, c]))
                    for p, v in enumerate(votes)
                )
                for c in candidates[i]
            }
            top = max(score.values())
            total = sum(np.exp(s - top) for s in score.values())
            post[i] = 0
            for c, s in score.items():
                post[i, c] = np.exp(s - top) / total
    return post.argmax(axis=1), post.max(axis=1)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[dict[str, np.ndarray], int]:
    """Ballots of 1 to 5 voters on 1 to 12 probes."""
    classes, n = draw(st.integers(2, 5)), draw(st.integers(1, 12))
    vote = st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)
    voters = draw(st.integers(1, 5))
    return {f"p{i}": np.array(draw(vote)) for i in range(voters)}, classes


@settings(max_examples=60, deadline=None)
@given(rounds())
def test_it_is_the_formula(case: tuple[dict[str, np.ndarray], int]) -> None:
    """Weights over candidates alone give the posteriors of the formula over all classes."""
    ballots, classes = case
    found = reliability(ballots, np.arange(len(ballots["p0"])), classes)
    labels, posterior = dense_twin(ballots, classes)
    assert found.confidence == pytest.approx(posterior, abs=1e-6)
    clear = posterior > 0.5 + 1e-6
    assert (found.labels == labels)[clear].all()


@settings(max_examples=60, deadline=None)
@given(rounds(), st.randoms())
def test_order_does_not_matter(case: tuple[dict[str, np.ndarray], int], random: object) -> None:
    """Any arrival order gives the same bits."""
    ballots, classes = case
    names = list(ballots)
    random.shuffle(names)  # type: ignore[attr-defined]
    probes = np.arange(len(ballots["p0"]))
    one = reliability(ballots, probes, classes)
    other = reliability({name: ballots[name] for name in names}, probes, classes)
    assert np.array_equal(one.labels, other.labels)
    assert one.confidence.tobytes() == other.confidence.tobytes()


def skewed(
    voters: int, n: int, classes: int, knows: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Voters that know some classes each, and call everything else by one of those names."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=n)
    ballots = {}
    for p in range(voters):
        known = rng.permutation(classes)[:knows]
        guess = known[rng.integers(knows, size=n)]
        sure = np.isin(truth, known) & (rng.random(n) < 0.9)
        ballots[f"p{p}"] = np.where(sure, truth, guess)
    return ballots, truth


def test_it_finds_whom_to_believe() -> None:
    """Where voters know four classes of ten, it is right a tenth more often than a majority."""
    gains = []
    for seed in range(5):
        ballots, truth = skewed(10, 2000, 10, 4, seed)
        probes = np.arange(len(truth))
        majority = (tally(ballots, probes, 10).labels == truth).mean()
        gains.append((reliability(ballots, probes, 10).labels == truth).mean() - majority)
    assert np.mean(gains) > 0.1


def test_unanimous_voters_are_followed() -> None:
    """If all say the same, so does the tally, and its margin is everybody."""
    votes = np.array([0, 1, 2, 1])
    found = reliability({f"p{i}": votes for i in range(4)}, np.arange(4), 3)
    assert np.array_equal(found.labels, votes)
    assert (found.margin == 4).all()


def test_many_classes_cost_no_more_memory_than_the_ballots() -> None:
    """50,000 classes and 32 voters: nothing of classes squared is ever allocated."""
    ballots, _ = skewed(32, 500, 50_000, 1_000, seed=5)
    found = reliability(ballots, np.arange(500), 50_000)
    assert len(found.labels) == 500
    assert len(found.candidates.label) <= 32 * 500


def test_a_record_makes_small_rounds_better_and_forgets_a_bad_one() -> None:
    """With 20 probes a round, a rule that remembers beats one that does not, also right after a
    round in which a voter said nothing but nonsense."""
    gains = []
    for seed in range(6):
        ballots, truth = skewed(10, 400, 10, 4, seed)
        rng, remembers = np.random.default_rng(seed), Reliability()
        for number, probes in enumerate(np.split(rng.permutation(400), 20)):
            said = {name: votes[probes] for name, votes in ballots.items()}
            if number == 10:
                said["p0"] = np.full(len(probes), 3)
            kept = (tally(said, probes, 10, remembers).labels == truth[probes]).mean()
            fresh = (tally(said, probes, 10, Reliability()).labels == truth[probes]).mean()
            gains.append(kept - fresh)
    assert np.mean(gains) > 0.03


def test_the_record_of_who_misses_a_round_is_kept() -> None:
    """A reliable voter that was away for some rounds is believed like one that was there."""
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=(6, 50))
    remembers = Reliability()
    for number, right in enumerate(truth):
        said = {f"noise-{i}": rng.integers(4, size=50) for i in range(2)} | {"a": right, "b": right}
        if 2 <= number < 5:
            del said["b"]
        found = tally(said, np.arange(50), 4, remembers)
    assert (found.labels == truth[-1]).mean() > 0.95


def test_another_number_of_classes_starts_a_new_record() -> None:
    """And with very many classes none is kept, so that it cannot grow."""
    rule, one = Reliability(), {"a": np.array([1]), "b": np.array([2])}
    for classes in (3, 5, 50_000, 3):
        assert len(tally(one, np.arange(1), classes, rule).labels) == 1

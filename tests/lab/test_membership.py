"""The attack's arithmetic by hand, and an attack that finds what is there and nothing else."""

import itertools
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from rich.console import Console

from tallynode.config import Mesh
from tallynode.lab import membership, pool
from tallynode.lab.membership import Candidates, Scores
from tallynode.learning.data import load_peer_data
from tallynode.learning.samples import Samples
from tallynode.learning.settings import DataSettings


def mesh(**method: object) -> Mesh:
    """Three peers of 30 digits that overfit in four rounds."""
    return Mesh.model_validate(
        {
            "mesh": "small",
            "peers": 3,
            "graph": "complete",
            "task": {"probes": {"count": 200}, "partition": {"per_peer": 30}},
            "rounds": {"count": 4, "local_epochs": 15},
            "method": method,
        }
    )


def mean_auc(scores: list[Scores]) -> float:
    """Over the peers."""
    return sum(of.auc() for of in scores) / len(scores)


def test_auc_and_advantage_by_hand() -> None:
    """Members 3, 2, 2 against 2, 1, 0: of nine pairs seven are won and two are ties."""
    scores = Scores(np.array([3.0, 2.0, 2.0]), np.array([2.0, 1.0, 0.0]))
    assert scores.auc() == pytest.approx(8 / 9)
    assert scores.best_threshold() == 2.0
    assert scores.advantage(2.0) == pytest.approx(1 - 1 / 3)
    assert scores.advantage(3.0) == pytest.approx(1 / 3)
    assert Scores.pooled([scores, scores]).auc() == scores.auc()


def test_candidates_are_members_and_as_many_others_of_each_class() -> None:
    """Classes that the test set lacks are left out on both sides, so that no class tells."""
    data = load_peer_data(DataSettings(source="digits", share=(0, 4), per_peer=100))
    keep = data.test.y < 3
    few = replace(data, test=Samples(data.test.x[keep], data.test.y[keep]))
    asked = Candidates.of([data, few])
    ends = 2 * np.cumsum([0, *asked.counts])
    for start, end in itertools.pairwise(ends):
        members, others = asked.samples.y[start:end].reshape(2, -1)
        assert torch.equal(members, others)
    assert asked.counts[1] < asked.counts[0] <= 100
    assert int(asked.samples.y[ends[1] :].max()) == 2


def test_scores_are_cut_by_peer_and_set_off_by_the_others() -> None:
    """By hand: two peers of one candidate each way; each row loses the other's."""
    samples = Samples(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    table = np.array([[5.0, 1.0, 2.0, 2.0], [1.0, 1.0, 4.0, 0.0]])
    found = Candidates(samples, (1, 1)).attacked(table)
    assert [(*of.members, *of.others) for of in found["plain"]] == [(5, 1), (4, 0)]
    assert [(*of.members, *of.others) for of in found["calibrated"]] == [(4, 0), (2, -2)]


def test_answers_of_overfitting_peers_tell_and_noise_does_not() -> None:
    """Soft labels tell most, votes something, votes at ε = 0.01 nothing beyond chance."""
    soft = membership.from_answers(mesh(name="fd"))
    votes = membership.from_answers(mesh())
    noise = membership.from_answers(mesh(privacy={"per_vote": 0.01}))
    where = "candidates among the probes"
    assert mean_auc(soft[where]["plain"]) > mean_auc(votes[where]["plain"]) > 0.52
    assert mean_auc(soft["a surrogate"]["plain"]) > 0.55
    assert abs(mean_auc(noise[where]["plain"]) - 0.5) < 0.1


def test_parameters_tell_and_nothing_tells_nothing() -> None:
    """Set off by the others' models, a peer's own betrays its samples; the control finds none."""
    found = membership.from_parameters(mesh(name="fedavg"))["the model"]
    assert mean_auc(found["calibrated"]) > 0.6
    assert abs(mean_auc(membership.from_nothing(mesh())["a surrogate"]["plain"]) - 0.5) < 0.1


def test_attacks_of_a_bench_are_remembered(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was attacked once is read again, to the same figures; a further seed is attacked."""
    bench = script("bench_privacy")
    few = {"peers": [{"name": "a"}, {"name": "b"}], "task.probes.count": 40, "rounds.count": 1}
    monkeypatch.setattr(bench, "ATTACKED", {**bench.ATTACKED, **few, "rounds.local_epochs": 1})
    monkeypatch.setattr(
        bench, "SENT", {of: bench.SENT[of] for of in ("nothing (control)", "votes")}
    )
    of = Namespace(data=["digits"], seeds=[1], jobs=2, folder=tmp_path)
    rows = bench.leak(of, Console(quiet=True))
    assert [(row["sent"], row["score"]) for row in rows][:2] == [
        ("nothing (control)", "plain"),
        ("votes", "plain"),
    ]
    monkeypatch.setattr(pool, "_Running", None)
    assert bench.leak(of, Console(quiet=True)) == rows
    of.seeds = [1, 2]
    with pytest.raises(TypeError):  # it would be run
        bench.leak(of, Console(quiet=True))

"""What equal peers of one process would all do is done once, and nothing else is taken for it."""

import numpy as np
import pytest
from torch import Tensor, nn

from tallynode.config import Mesh
from tallynode.lab.study import run_case
from tallynode.learning import evaluate
from tallynode.methods import fedavg, feddf
from tallynode.methods.once import Once

PLAIN = {
    "mesh": "once",
    "graph": "complete",
    "peers": 4,
    "task": {"test": 200, "probes": {"count": 100}, "partition": {"per_peer": 100}},
    "rounds": {"count": 3},
}


def test_a_result_is_used_again_only_if_all_that_it_follows_from_is_the_same() -> None:
    """Another array, text, or cut between them calls the work again."""
    once: Once[int] = Once()
    called = []

    def work() -> int:
        called.append(0)
        return len(called)

    a, b = np.arange(4.0), np.arange(4.0) + 1
    assert [once.of(work, "x", a), once.of(work, "x", a.copy())] == [1, 1]
    assert once.of(work, "x", b) == 2
    assert once.of(work, "y", b) == 3
    assert once.of(work, "x", a) == 4
    assert [once.of(work, "ab", "c"), once.of(work, "a", "bc")] == [5, 6]


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "feddf"])
def test_sharing_work_changes_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mesh comes to the same as one whose peers do everything themselves, with fewer calls."""
    mesh = Mesh.model_validate({**PLAIN, "method": {"name": name, "hops": 1}})
    counted = []
    votes = evaluate.votes

    def counting(net: nn.Module, x: Tensor) -> np.ndarray:
        counted[-1] += 1
        return votes(net, x)

    monkeypatch.setattr(evaluate, "votes", counting)
    counted.append(0)
    shared = run_case(mesh)
    for module, kept in ((fedavg, "_answers"), (feddf, "_taught")):
        alone = Once[np.ndarray]()
        monkeypatch.setattr(alone, "of", lambda work, *_: work())
        monkeypatch.setattr(module, kept, alone)
    counted.append(0)
    assert run_case(mesh) == shared
    assert counted == [3, 12]

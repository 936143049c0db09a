"""A short form of the checks against published figures, which take hours each."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tallynode.learning import idx


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_few_rounds_of_few_samples_are_on_the_way(
    script: Callable[[str], ModuleType], method: str, tmp_path: Path
) -> None:
    """A twentieth of the samples and four rounds come past 60 %, where chance is 10 %."""
    idx.find("fashion-mnist", None, lambda _: pytest.skip("Fashion-MNIST is not installed"))
    of = Namespace(rounds=4, local_epochs=10, per_peer=300, seed=7, test=500, device="cpu")
    lines = tmp_path / "rounds.jsonl"
    bench = script("bench_published")
    assert bench.run(bench.mesh_of(method, "iid", of), lines, jobs=2) > 60
    assert len(lines.read_text().splitlines()) == 4 * 10

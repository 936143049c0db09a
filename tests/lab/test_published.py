"""A short form of the checks against published figures, which take hours each."""

from argparse import Namespace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from tallynode.learning import idx

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_published"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    loader = SourceFileLoader("bench_published", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_few_rounds_of_few_samples_are_on_the_way(
    script: ModuleType, method: str, tmp_path: Path
) -> None:
    """A twentieth of the samples and four rounds come past 60 %, where chance is 10 %."""
    idx.find("fashion-mnist", None, lambda _: pytest.skip("Fashion-MNIST is not installed"))
    of = Namespace(rounds=4, local_epochs=10, per_peer=300, seed=7, test=500, device="cpu")
    lines = tmp_path / "rounds.jsonl"
    assert script.run(script.mesh_of(method, "iid", of), lines, jobs=2) > 60
    assert len(lines.read_text().splitlines()) == 4 * 10

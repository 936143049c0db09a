"""The checks against published figures, which take hours each: a short form, and their options."""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tallynode.config import Mesh
from tallynode.errors import EX_OK, DataError
from tallynode.lab.bench import changed
from tallynode.learning import idx

Asked = Callable[..., Namespace]


@pytest.fixture
def bench(script: Callable[[str], ModuleType]) -> ModuleType:
    """The script."""
    return script("bench_published")


@pytest.fixture
def asked(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """Reads a command line that ends with these words."""

    def ask(*words: str) -> Namespace:
        argv = ["bench_published", str(tmp_path), "averaging", *words]
        monkeypatch.setattr(sys, "argv", argv)
        found: Namespace = bench.arguments_of()
        return found

    return ask


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["fedavg", "fedprox"])
def test_few_rounds_of_few_samples_are_on_the_way(
    bench: ModuleType, method: str, tmp_path: Path
) -> None:
    """A twentieth of the samples and four rounds come past 60 %, where chance is 10 %."""
    idx.find("fashion-mnist", None, lambda _: pytest.skip("Fashion-MNIST is not installed"))
    of = Namespace(rounds=4, local_epochs=10, per_peer=300, seed=7, test=500, device="cpu")
    lines = tmp_path / "rounds.jsonl"
    assert bench.run(bench.mesh_of(method, "iid", of), lines, 2) > 60
    assert len(lines.read_text().splitlines()) == 4 * 10


def test_another_run_in_the_same_folder_costs_the_first_nothing(
    bench: ModuleType, tmp_path: Path
) -> None:
    """It is refused before the lines of the finished run are touched."""
    task = {"probes": {"count": 10}, "partition": {"per_peer": 20}, "test": 20}
    own = {"graph": "complete", "rounds": {"count": 1}, "method": {"name": "fedavg", "hops": 1}}
    mesh = Mesh.model_validate({"mesh": "m", "peers": 2, "task": task, **own})
    lines = tmp_path / "m.jsonl"
    bench.run(mesh, lines, 1)
    before = lines.read_text()
    with pytest.raises(DataError, match="holds another run"):
        bench.run(changed(mesh, {"seed": 8}), lines, 1)
    assert lines.read_text() == before
    assert len(before.splitlines()) == 2


@pytest.mark.parametrize(
    "words", [("--alpha", "0.3"), ("--methods", "fedavg,fd"), ("--jobs", "0"), ("--test", "0")]
)
def test_what_was_not_published_is_refused_at_once(asked: Asked, words: tuple[str, ...]) -> None:
    """A figure that nothing can be compared with, and numbers that mean nothing."""
    with pytest.raises(SystemExit):
        asked(*words)


@pytest.mark.parametrize("words", [("--test", "100"), ("--seed", "8"), ("--rounds", "2")])
def test_only_the_run_that_was_published_gets_a_verdict(
    bench: ModuleType,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    """What is near in a shorter one says nothing, and what is far is no failure."""
    monkeypatch.setattr(bench, "run", lambda *_: 40.0)
    assert bench.averaging(asked(*words)) == EX_OK
    assert "two points" not in capsys.readouterr().out
    assert bench.averaging(asked()) == bench.EX_DIFFERS
    assert capsys.readouterr().out.count("NOT within two points") == 4

"""A study runs what it has not run yet, and remembers it."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from tallynode.config import Mesh
from tallynode.lab import pool
from tallynode.lab.bench import changed
from tallynode.lab.pool import Case
from tallynode.lab.study import study


@pytest.fixture
def small() -> Mesh:
    """A small mesh, and a round more than gossip takes to find its tree."""
    return Mesh.model_validate(
        {
            "mesh": "small",
            "peers": 4,
            "graph": "ring",
            "task": {"probes": {"count": 100}, "partition": {"dirichlet": 0.3, "per_peer": 40}},
            "rounds": {"count": 4},
        }
    )


def test_a_study_goes_on_where_it_was_stopped(
    small: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call runs nothing, a line that was cut off is run again."""
    file, console = tmp_path / "runs.jsonl", Console(quiet=True)
    cases = [Case(label=("a",), mesh=small), Case(label=("b",), mesh=changed(small, {"seed": 2}))]
    first = study(cases, file, jobs=1, console=console)
    assert first.keys() == {("a",), ("b",)}
    (result,) = first["a",]
    assert result.worst <= result.accuracy == result.by_round[-1]
    assert result.copies == pytest.approx(1.0)
    assert len(result.tally) == len(small.peers)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", None)
    assert study(cases, file, jobs=1, console=console) == first
    monkeypatch.undo()
    lines = file.read_text().splitlines()
    file.write_text(lines[0] + "\n" + lines[1][:40])
    again = study(cases, file, jobs=1, console=console)
    assert again == first
    assert json.loads(file.read_text().splitlines()[-1])["accuracy"] == first["b",][0].accuracy

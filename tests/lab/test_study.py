"""A study runs what it has not run yet, and remembers it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tallynode.config import Mesh
from tallynode.errors import DataError, LocalError
from tallynode.lab import pool
from tallynode.lab.bench import changed
from tallynode.lab.pool import Case, in_pool
from tallynode.lab.study import run_case, study


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
    monkeypatch.setattr(pool, "_Running", None)
    assert study(cases, file, jobs=1, console=console) == first
    monkeypatch.undo()
    lines = file.read_text().splitlines()
    file.write_text(lines[0] + "\n" + lines[1][:40])
    again = study(cases, file, jobs=1, console=console)
    assert again == first
    assert json.loads(file.read_text().splitlines()[-1])["accuracy"] == first["b",][0].accuracy


def test_results_of_other_code_are_taken_and_that_is_said(small: Mesh, tmp_path: Path) -> None:
    """Once, with how many they are; a line that lacks what a result has today is run again."""
    file, said = tmp_path / "runs.jsonl", io.StringIO()
    console = Console(file=said, width=200)
    cases = [Case(label=(seed,), mesh=changed(small, {"seed": seed})) for seed in (1, 2, 3)]
    first = study(cases, file, jobs=1, console=console)
    assert "other code" not in said.getvalue()
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    lines[0]["code"] = "old"
    del lines[1]["code"]  # as those that were written before it was
    del lines[2]["worst"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert study(cases, file, jobs=1, console=console) == first
    assert said.getvalue().count(f"2 of 2 runs are of other code; remove {file} to run") == 1
    assert len(file.read_text().splitlines()) == 4


def test_a_run_whose_process_dies_is_named(small: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the kernel ran out of memory: nobody waits for a result that cannot come."""
    start = pool._Running.__init__

    def start_and_kill(one: pool._Running[object], *of: Any) -> None:
        start(one, *of)
        one.process.kill()

    monkeypatch.setattr(pool._Running, "__init__", start_and_kill)
    case = Case(label=("digits", 4), mesh=small)
    with pytest.raises(LocalError, match="digits 4: its process ended with -9"):
        in_pool([case, case], run_case, lambda *_: None, jobs=2, console=Console(quiet=True))


def test_what_a_run_raises_is_raised_here(small: Mesh) -> None:
    """The mesh asks for more images than there are: the same error as without a pool."""
    case = Case(label=("many",), mesh=changed(small, {"task": {"partition": {"per_peer": 900}}}))
    with pytest.raises(DataError, match="digits has"):
        in_pool([case], run_case, lambda *_: None, jobs=1, console=Console(quiet=True))

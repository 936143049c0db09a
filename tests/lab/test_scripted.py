"""Votes that are written for who casts them: lies, and only the honest are counted; the truth."""

from pathlib import Path

import pytest
from rich.console import Console

from tallynode.config import Mesh
from tallynode.lab.pool import Case
from tallynode.lab.scripted import LIES, all_right, among_liars
from tallynode.lab.study import Result, run_case, study

SMALL = Mesh.model_validate(
    {
        "mesh": "small",
        "peers": 4,
        "graph": "complete",
        "task": {"probes": {"count": 100}, "partition": {"per_peer": 60}},
        "rounds": {"count": 3},
        "method": {"hops": 1, "tally": "plurality"},
    }
)


@pytest.mark.parametrize("lie", sorted(LIES))
def test_where_three_of_four_lie_alike_the_honest_one_is_told_the_lie(lie: str) -> None:
    """What is tallied is the lie, or less than before where it is noise; one peer is counted."""
    honest = run_case(SMALL).tally_accuracy
    assert honest is not None
    assert honest > 0.35  # chance: 0.1
    found = among_liars(SMALL, liars=3, lie=lie)
    assert found.tally_accuracy is not None
    assert found.tally_accuracy < (honest - 0.05 if lie == "noise" else 0.2)
    assert found.worst == found.accuracy


def test_without_liars_it_is_any_run() -> None:
    """The same bits, so that figures with and without can be compared."""
    assert among_liars(SMALL, liars=0, lie="constant") == run_case(SMALL)


def test_where_all_votes_are_right_so_is_the_tally() -> None:
    """And who learns from it ends higher than who learns from what peers know."""
    found = all_right(SMALL)
    assert found.tally_accuracy == 1
    assert found.accuracy > run_case(SMALL).accuracy


def test_a_study_remembers_another_way_to_run_a_mesh(tmp_path: Path) -> None:
    """What is given as `run` makes the results."""
    never = run_case(SMALL)
    case = Case(label=("small",), mesh=SMALL)
    found = study(
        [case],
        tmp_path / "runs.jsonl",
        jobs=1,
        console=Console(quiet=True),
        run=_three_lie,
    )
    assert found["small",][0] != never
    again = study(
        [case], tmp_path / "runs.jsonl", jobs=1, console=Console(quiet=True), run=_never_called
    )
    assert again == found


def _three_lie(mesh: Mesh) -> Result:
    return among_liars(mesh, liars=3, lie="constant")


def _never_called(mesh: Mesh) -> Result:
    raise AssertionError(mesh)

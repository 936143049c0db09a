"""The benchmarks' shared parts: changed meshes, figures over seeds, runs."""

import json
from pathlib import Path

import pytest

from tallynode.config import Mesh, default_mesh
from tallynode.errors import DataError, TallynodeError, UsageError
from tallynode.lab.bench import changed, keep_part, start_simulate, summary_of, virtual_run
from tallynode.lab.figures import Figure
from tallynode.lab.virtual import accuracy_alone

SMALL = {"peers": 3, "rounds.count": 2, "task.probes.count": 60, "task.partition.per_peer": 40}


@pytest.fixture
def small() -> Mesh:
    """Three peers, two rounds."""
    return changed(default_mesh(), SMALL)


def test_changes_reach_their_sections_and_leave_the_rest(small: Mesh) -> None:
    """A dotted key changes one value; its neighbours keep theirs."""
    mesh = changed(small, {"task.partition.dirichlet": 0.5, "seed": 3, "task.test": 50})
    assert (mesh.task.partition.dirichlet, mesh.task.partition.per_peer) == (0.5, 40)
    assert (mesh.data_settings(0).partition_seed, mesh.task.test) == (3, 50)


def test_a_change_that_does_not_fit_names_its_key(small: Mesh) -> None:
    """A wrong value is the user's, and is told like one in a file."""
    with pytest.raises(UsageError, match=r"method\.tally: .*plurality"):
        changed(small, {"method.tally": "majority"})


def test_a_figure_is_the_mean_and_the_sample_deviation() -> None:
    """Over several seeds with ±, over one without."""
    assert Figure.over([0.7, 0.8, 0.9]).text(100) == "80.0 ± 10.0"
    assert Figure.over([0.7]).text(100) == "70.0"


def test_a_part_of_a_benchmark_leaves_the_others(tmp_path: Path) -> None:
    """A later call replaces its own parts; figures are written with their deviation."""
    file = tmp_path / "bench.json"
    keep_part(file, "grid", [{"accuracy": Figure.over([0.5])}], {"seeds": [1]})
    keep_part(file, "scale", [{"seconds": 2}], {"seeds": [1]})
    keep_part(file, "scale", [{"seconds": 1}], {"seeds": [2]})
    grid = [{"accuracy": {"mean": 0.5, "deviation": None}}]
    assert json.loads(file.read_text()) == {
        "grid": {"seeds": [1], "rows": grid},
        "scale": {"seeds": [2], "rows": [{"seconds": 1}]},
    }
    file.write_text("{")
    with pytest.raises(DataError, match="is not what a benchmark writes"):
        keep_part(file, "grid", [], {})


def test_a_virtual_run_is_the_same_again_and_counts_what_was_published(small: Mesh) -> None:
    """The same seed gives the same figures; a ballot of 60 probes has at least its 30 bytes."""
    ran = virtual_run(small)
    assert virtual_run(small) == ran
    assert ran.payload_bytes > 30
    assert 0 < ran.accuracy <= 1


def test_alone_knows_no_tally(small: Mesh) -> None:
    """The baseline has a figure for each peer, and no rule of the tally changes it."""
    alone = accuracy_alone(small)
    assert set(alone) == set(small.names)
    assert accuracy_alone(changed(small, {"method.tally": "plurality"})) == alone


def test_a_simulation_that_fails_is_quoted(small: Mesh, tmp_path: Path) -> None:
    """The last line of what the command said is the reason."""
    endless = changed(small, {"rounds.count": 0})
    process = start_simulate(endless, tmp_path)
    process.wait(60)
    with pytest.raises(TallynodeError, match=r"simulate of ring-8 failed: .*rounds\.count is 0"):
        summary_of(endless, process, tmp_path)

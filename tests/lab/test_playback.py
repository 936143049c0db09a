"""A run that was killed and goes on: the same records, and nothing trained a second time."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tallynode.assemble import Parts
from tallynode.config import Mesh
from tallynode.errors import DataError
from tallynode.lab.playback import Memory, Remembered
from tallynode.lab.virtual import run_virtual
from tallynode.lab.work import Worker
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev

SMALL = {
    "mesh": "small",
    "peers": 3,
    "graph": "complete",
    "task": {"probes": {"count": 100}, "partition": {"dirichlet": 0.3, "per_peer": 60}},
    "rounds": {"count": 5},
}
METHODS: dict[str, dict[str, Any]] = {
    "votes": {"hops": 1},
    "a bridge": {"hops": 1, "bridge": {"every": 2, "density": 0.1}},
    "fedprox": {"name": "fedprox", "hops": 1},
}


class Killed(Exception):
    """What ends a run in its middle."""


class Mortal:
    """A worker that counts what it is asked, and dies in a round."""

    def __init__(self, worker: Worker, asked: list[str], dies_in: int | None) -> None:
        self._worker, self._asked, self._dies_in = worker, asked, dies_in

    def train(self, job: ef.Train) -> ev.Trained:
        """Count."""
        self._asked.append(f"train {job.round}")
        return self._worker.train(job)

    def learn(self, job: ef.Learn) -> ev.Learned:
        """Count, or die."""
        if job.round == self._dies_in and self._asked[-1].startswith("learn"):
            raise Killed  # the second of three, when one has this round and another has not
        self._asked.append(f"learn {job.round}")
        return self._worker.learn(job)


def run(
    mesh: Mesh,
    folder: Path | None,
    asked: list[str],
    dies_in: int | None = None,
    key: str = "one",
    code: str = "new",
) -> list[Mapping[str, Any]]:
    """The records, as they are written, of a mesh that is remembered in a folder, or nowhere."""
    lines: list[Mapping[str, Any]] = []

    def disguise(parts: Parts, worker: Worker) -> Worker:
        mortal = Mortal(worker, asked, dies_in)
        if folder is None:
            return mortal
        return Remembered(mortal, parts.method, folder / parts.settings.name, key, code)

    run_virtual(mesh, lines.append, disguise)
    written: list[Mapping[str, Any]] = json.loads(json.dumps(lines))
    return written


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_killed_run_goes_on_where_it_was(method: str, tmp_path: Path) -> None:
    """Twice: the records are those of a run that nobody stopped; whole rounds are not redone."""
    mesh = Mesh.model_validate({**SMALL, "method": METHODS[method]})
    whole = run(mesh, None, [])
    for dies_in in (2, 4):
        with pytest.raises(Killed):
            run(mesh, tmp_path, [], dies_in)
    asked: list[str] = []
    assert run(mesh, tmp_path, asked) == whole
    assert sorted(asked) == sorted(["learn 4"] * 2 + ["train 4"] * 2 + ["learn 5", "train 5"] * 3)
    asked.clear()
    assert run(mesh, tmp_path, asked) == whole
    assert not asked


def test_another_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """A changed configuration is an error that names the folder, and nothing is overwritten."""
    mesh = Mesh.model_validate({**SMALL, "rounds": {"count": 1}})
    run(mesh, tmp_path, [])
    with pytest.raises(DataError, match="peer-1: holds another run"):
        run(mesh, tmp_path, [], key="two")
    assert run(mesh, tmp_path, [])


def test_rounds_of_other_code_are_known_as_such(tmp_path: Path) -> None:
    """Also where the rounds after them are of this one."""
    mesh = Mesh.model_validate({**SMALL, "rounds": {"count": 3}})
    memory = Memory(tmp_path, "one", "new")
    assert not memory.of_other_code()
    with pytest.raises(Killed):
        run(mesh, tmp_path, [], dies_in=2)
    assert not memory.of_other_code()
    assert Memory(tmp_path, "one", "newer").of_other_code()
    run(mesh, tmp_path, [], code="newer")
    assert Memory(tmp_path, "one", "newer").of_other_code()


def test_a_round_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A damaged file is not trained around: what follows would not fit what is covered."""
    mesh = Mesh.model_validate({**SMALL, "rounds": {"count": 2}})
    run(mesh, tmp_path, [])
    for name in ("round-00001", "state"):
        (tmp_path / "peer-2" / name).write_bytes(b"")
        with pytest.raises(DataError, match=f"peer-2/{name}: .*cannot be read"):
            run(mesh, tmp_path, [])

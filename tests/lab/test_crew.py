"""A virtual mesh that trains in several processes: the same records, and no process left over."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tallynode.assemble import Parts
from tallynode.config import Mesh
from tallynode.errors import DataError, LocalError
from tallynode.lab.playback import Memory
from tallynode.lab.virtual import accuracy_alone, run_virtual
from tallynode.lab.work import Disguise, Worker, themselves
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev

SMALL = {
    "mesh": "small",
    "peers": 5,
    "task": {"probes": {"count": 100}, "partition": {"dirichlet": 0.3, "per_peer": 60}},
    "rounds": {"count": 4},
}
METHODS: dict[str, dict[str, Any]] = {
    "votes on a ring": {},
    "a bridge": {"hops": 1, "bridge": {"every": 2, "density": 0.1}},
    "fedavg": {"name": "fedavg", "hops": 1},
    "centralised": {"name": "centralised", "hops": 1},
}


def mesh_of(method: Mapping[str, Any]) -> Mesh:
    """Five peers and four rounds."""
    graph = "ring" if not method else "complete"
    return Mesh.model_validate({**SMALL, "graph": graph, "method": method})


def records(mesh: Mesh, disguise: Disguise = themselves, jobs: int = 1) -> list[Mapping[str, Any]]:
    """Every record of a mesh, as it is written."""
    lines: list[Mapping[str, Any]] = []
    run_virtual(mesh, lines.append, disguise, jobs)
    written: list[Mapping[str, Any]] = json.loads(json.dumps(lines))
    return written


def left_over() -> list[psutil.Process]:
    """Processes that this one began and that still run, but for the two that serve all forks."""
    mine = psutil.Process().children(recursive=True)
    ends = [p for p in mine if "forkserver" in " ".join(p.cmdline())]
    return [p for p in ends if p.parent().pid != os.getpid()]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_records_do_not_depend_on_how_many_processes_train(method: str) -> None:
    """The same bits with one, with two that have two or three peers, with more than peers."""
    mesh = mesh_of(METHODS[method])
    here = records(mesh)
    assert records(mesh, jobs=2) == here
    assert records(mesh, jobs=9) == here
    assert not left_over()


def test_peers_that_are_alone_come_to_the_same() -> None:
    """The baseline of a simulation, too."""
    mesh = mesh_of({})
    assert accuracy_alone(mesh, jobs=2) == accuracy_alone(mesh)


def test_what_one_process_remembers_another_number_goes_on_from(tmp_path: Path) -> None:
    """The folders are of peers: a run that is stopped on two cores may go on on one."""
    mesh = mesh_of({})
    whole = records(mesh, Memory(tmp_path, "one"), jobs=2)
    assert records(mesh, Memory(tmp_path, "one")) == whole
    (tmp_path / "peer-4" / "state").write_bytes(b"")
    with pytest.raises(DataError, match="peer-4/state: "):
        records(mesh, Memory(tmp_path, "one"), jobs=2)
    assert not left_over()


@dataclass(frozen=True)
class Ends:
    """A disguise under which a peer's process meets an end in its second round."""

    how: str

    def __call__(self, parts: Parts, worker: Worker) -> Worker:
        """One of five."""
        return _Ending(worker, self.how) if parts.settings.name == "peer-3" else worker


class _Ending:
    def __init__(self, worker: Worker, how: str) -> None:
        self._worker, self._how = worker, how

    def train(self, job: ef.Train) -> ev.Trained:
        if job.round == 2 and self._how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.round == 2:
            raise DataError("the disk is gone")
        return self._worker.train(job)

    def learn(self, job: ef.Learn) -> ev.Learned:
        return self._worker.learn(job)


def test_an_error_of_a_peer_is_the_mesh_s() -> None:
    """It comes out as it was raised, and the other processes end."""
    with pytest.raises(DataError, match="the disk is gone"):
        records(mesh_of({}), Ends("raises"), jobs=3)
    assert not left_over()


ENDLESS = """\
import time

from rich.console import Console

from tallynode.config import default_mesh
from tallynode.lab.pool import Case, in_pool
from tallynode.lab.virtual import run_virtual


class Busy:
    def train(self, job):
        print("busy", flush=True)
        time.sleep(600)


def busy(parts, worker):
    return Busy()


def work(mesh):
    Busy().train(None)


if __name__ == "__main__":
    mesh = default_mesh()
"""
BUSY = {
    "crew": "run_virtual(mesh, print, busy, jobs=1 + 1)",
    "pool": 'in_pool([Case(label=("a",), mesh=mesh)], work, print, jobs=1, console=Console())',
}


@pytest.mark.parametrize("what", sorted(BUSY))
def test_nothing_outlives_a_main_process_that_is_killed(what: str, tmp_path: Path) -> None:
    """Who gets SIGKILL can end nobody: who works for it sees that it is gone."""
    (tmp_path / "endless.py").write_text(f"{ENDLESS}    {BUSY[what]}\n")
    command = [sys.executable, str(tmp_path / "endless.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        assert "busy" in main.stdout.readline()
        family = psutil.Process(main.pid).children(recursive=True)
        main.kill()
    assert family
    _, alive = psutil.wait_procs(family, timeout=20)
    for process in alive:
        process.kill()
    assert not alive


def test_a_process_that_is_killed_is_named_by_its_peers() -> None:
    """As when memory runs out: an error, not a wait without end."""
    with pytest.raises(LocalError, match="peer-3: their process ended with -9"):
        records(mesh_of({}), Ends("killed"), jobs=3)
    assert not left_over()

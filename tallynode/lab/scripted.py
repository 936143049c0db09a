"""A running mesh in which what peers vote is written for them: lies, or nothing but the truth.

They train and gossip as anybody does, and only their votes are another thing. Lies are the attacks
of attacks.py, told by the last peers in every round; each liar is on its own and cannot know what
the others are about to say, but it knows the truth and takes that for what the honest say. A mesh
whose votes are all right says how far any tally of any votes could get it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from tallynode.assemble import Parts
from tallynode.config import Mesh
from tallynode.errors import LocalError
from tallynode.lab.attacks import ATTACKS
from tallynode.lab.study import Result, run_case
from tallynode.lab.work import Worker
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev

LIES = ("constant", "noise", "next class")  # who knows the truth alone has no runner-up
Script = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]  # of right classes, how many


class _Scripted:
    """A worker that does all of its job, and then says what is written for it."""

    def __init__(self, parts: Parts, worker: Worker, script: Script) -> None:
        if parts.data.probe_labels is None:
            raise LocalError("what is written of probes needs probes whose classes are known")
        self._worker = worker
        self._script = script
        self._truth = parts.data.probe_labels.numpy()
        self._classes = parts.settings.classes
        self._name = parts.settings.name

    def train(self, job: ef.Train) -> ev.Trained:
        answer = self._worker.train(job)
        rng = np.random.default_rng([job.round, *self._name.encode()])
        said = self._script(self._truth[job.probes], self._classes, rng)
        content = answer.content.copy()
        content[: len(said)] = said  # what follows is what the peer holds of each class
        return replace(answer, content=content)

    def learn(self, job: ef.Learn) -> ev.Learned:
        return self._worker.learn(job)


def among_liars(mesh: Mesh, *, liars: int, lie: str) -> Result:
    """Run a mesh of votes whose last peers tell a lie of `LIES`; what the honest came to."""
    honest = mesh.names[: len(mesh.names) - liars]
    script = partial(_lie, lie)

    def disguise(parts: Parts, worker: Worker) -> Worker:
        return worker if parts.settings.name in honest else _Scripted(parts, worker, script)

    return run_case(mesh, honest, disguise)


def all_right(mesh: Mesh) -> Result:
    """Run a mesh of votes in which all say the right class of every probe, in every round."""
    return run_case(mesh, disguise=partial(_Scripted, script=_truth))


def _lie(lie: str, truth: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    (said,) = ATTACKS[lie]({"": truth}, 1, classes, rng).values()
    return said


def _truth(truth: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    return truth

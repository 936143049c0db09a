"""A running mesh whose last peers lie in every round: what that does to those who are honest.

The liars train and gossip as anybody does, and only what they vote is another thing: the attacks
of attacks.py. Each is on its own and cannot know what the others are about to say, but it knows the
truth and takes that for what the honest say.
"""

from dataclasses import replace

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


class _Liar:
    """A worker whose votes are a lie."""

    def __init__(self, worker: Worker, parts: Parts, lie: str) -> None:
        if parts.data.probe_labels is None:
            raise LocalError("a lie is told of probes whose classes are known")
        self._worker = worker
        self._attack = ATTACKS[lie]
        self._truth = parts.data.probe_labels.numpy()
        self._classes = parts.settings.classes
        self._name = parts.settings.name

    def train(self, job: ef.Train) -> ev.Trained:
        answer = self._worker.train(job)
        rng = np.random.default_rng([job.round, *self._name.encode()])
        (lie,) = self._attack({"": self._truth[job.probes]}, 1, self._classes, rng).values()
        return replace(answer, content=lie.astype(answer.content.dtype))

    def learn(self, job: ef.Learn) -> ev.Learned:
        return self._worker.learn(job)


def among_liars(mesh: Mesh, *, liars: int, lie: str) -> Result:
    """Run a mesh of votes whose last peers tell a lie of `LIES`; what the honest came to."""
    honest = mesh.names[: len(mesh.names) - liars]

    def disguise(parts: Parts, worker: Worker) -> Worker:
        return worker if parts.settings.name in honest else _Liar(worker, parts, lie)

    return run_case(mesh, honest, disguise)

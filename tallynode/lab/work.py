"""Who does the jobs of a virtual mesh's peers: their own methods, or whoever stands in for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from tallynode import assemble
from tallynode.assemble import Parts
from tallynode.config import Mesh
from tallynode.layout import Layout
from tallynode.learning.idx import reading_once
from tallynode.methods.jobs import learned, trained
from tallynode.methods.method import Method
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev


class Worker(Protocol):
    """Does the jobs of one peer."""

    def train(self, job: ef.Train) -> ev.Trained:
        """Train for a round and say what is sent."""

    def learn(self, job: ef.Learn) -> ev.Learned:
        """Learn from what a round came to."""


Disguise = Callable[[Parts, Worker], Worker]  # a peer's own worker -> who works in its place


@dataclass(frozen=True, slots=True)
class Itself:
    """A peer's method does its jobs, as in the daemon."""

    method: Method

    def train(self, job: ef.Train) -> ev.Trained:
        """See Worker."""
        return trained(self.method, job)

    def learn(self, job: ef.Learn) -> ev.Learned:
        """See Worker."""
        return learned(self.method, job)


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker of this process, whose jobs are done when their answers are due."""

    worker: Worker

    def train(self, job: ef.Train) -> Callable[[], ev.Trained]:
        """What trains, and gives the answer."""
        return partial(self.worker.train, job)

    def learn(self, job: ef.Learn) -> Callable[[], ev.Learned]:
        """What learns, and gives the answer."""
        return partial(self.worker.learn, job)


def themselves(_: Parts, worker: Worker) -> Worker:
    """Nobody stands in for anybody."""
    return worker


def employ(
    mesh: Mesh, names: Sequence[str], disguise: Disguise
) -> Mapping[str, tuple[Parts, Worker]]:
    """Build these peers of a mesh; each with who does its jobs.

    Private votes are not private here: their noise follows from the seed, so that a run repeats.
    """
    layout = Layout.of(mesh)
    parts: dict[str, Parts] = {}
    with reading_once():
        for name in names:
            if parts and mesh.method.name == "centralised":  # one pool, one net for all
                one = parts[names[0]]
                parts[name] = replace(one, settings=replace(one.settings, name=name))
                continue
            secret = f"{mesh.seed}/{name}".encode()
            parts[name] = assemble.parts(mesh, name, layout=layout, secret=secret)
    return {name: (of, disguise(of, Itself(of.method))) for name, of in parts.items()}

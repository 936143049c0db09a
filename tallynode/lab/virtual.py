"""The virtual mesh: the daemon's peers and learning, over a clock and a network that are made up.

One process, no chance and no real time: two runs of one seed make the same ballots, tallies and
records. Links come up at once, messages take LATENCY_S, training takes TRAIN_S, and the outboxes
keep their retained messages as real brokers do.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tallynode import assemble
from tallynode.assemble import Parts
from tallynode.config import Mesh
from tallynode.lab.world.clock import Clock
from tallynode.lab.world.host import Host, Trainer
from tallynode.lab.world.network import Calm, Network
from tallynode.layout import Layout, edgeless
from tallynode.learning.idx import reading_once
from tallynode.methods.jobs import learned, trained
from tallynode.methods.method import Method
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev

TRAIN_S = 1.0  # seconds of made-up time that training, or learning, takes

Emit = Callable[[Mapping[str, Any]], None]
Watch = Callable[[str, ef.Effect], None]
Disguise = Callable[[Parts, Trainer], Trainer]  # a peer's own trainer -> who answers in its place


def themselves(_: Parts, trainer: Trainer) -> Trainer:
    """Nobody stands in for anybody."""
    return trainer


def run_virtual(mesh: Mesh, emit: Emit, disguise: Disguise = themselves) -> None:
    """Build every peer of the mesh and run them to their end; the rest as in VirtualMesh.

    Private votes are not private here: their noise follows from the seed, so that a run repeats.
    """
    layout = Layout.of(mesh)
    parts: dict[str, Parts] = {}
    with reading_once():
        for name in mesh.names:
            if parts and mesh.method.name == "centralised":  # one pool, one net for all
                one = parts[mesh.names[0]]
                parts[name] = replace(one, settings=replace(one.settings, name=name))
                continue
            secret = f"{mesh.seed}/{name}".encode()
            parts[name] = assemble.parts(mesh, name, layout=layout, secret=secret)
    VirtualMesh(parts, emit, disguise=disguise).run()


def accuracy_alone(mesh: Mesh) -> dict[str, float]:
    """Accuracy of the same peers without any exchange: the same mesh, its graph without edges."""
    last: dict[str, float] = {}

    def emit(record: Mapping[str, Any]) -> None:
        last[record["peer"]] = record["accuracy"]

    run_virtual(edgeless(mesh), emit)
    return last


class VirtualMesh:
    """A mesh whose whole world is this object.

    Args:
        parts: the peers, by name.
        emit: takes each line of rounds.jsonl.
        watch: sees each effect of each peer, by name, before it is executed.
        disguise: who answers in a trainer's place.
    """

    def __init__(
        self,
        parts: Mapping[str, Parts],
        emit: Emit,
        watch: Watch = lambda name, effect: None,
        disguise: Disguise = themselves,
    ) -> None:
        self._clock = Clock()
        self._network = Network(self._clock, Calm(), self._deliver)
        self._hosts = {
            name: _Learner(
                of, disguise(of, _Timed(of.method)), (self._clock, self._network), emit, watch
            )
            for name, of in parts.items()
        }

    def run(self) -> None:
        """Run until every peer has finished."""
        for name, host in self._hosts.items():
            host.start()
            for neighbour in host.settings.neighbours:
                self._network.connect(name, neighbour)
        while self._clock.tick():
            pass

    def _deliver(self, reader: str, event: ev.Event) -> None:
        self._hosts[reader].take(event)


class _Timed:
    """Real learning that takes TRAIN_S of made-up time."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def train(self, job: ef.Train) -> tuple[float, ev.Trained]:
        return TRAIN_S, trained(self._method, job)

    def learn(self, job: ef.Learn) -> tuple[float, ev.Learned]:
        return TRAIN_S, learned(self._method, job)


class _Learner(Host):
    """A host whose rounds become records."""

    def __init__(
        self,
        parts: Parts,
        trainer: Trainer,
        world: tuple[Clock, Network],
        emit: Emit,
        watch: Watch,
    ) -> None:
        super().__init__(parts.settings, trainer, *world)
        self._emit = emit
        self._watch = watch

    def do(self, effect: ef.Effect) -> None:
        """Show an effect, then execute it."""
        self._watch(self.name, effect)
        super().do(effect)

    def report(self, fields: Mapping[str, object]) -> None:
        """Emit a line of rounds.jsonl, with nothing in it that differs between two runs."""
        self._emit(
            {
                "peer": self.name,
                "t_s": self.now,
                **fields,
                "wire_bytes": {"sent": 0, "received": 0, "source": "none"},
                "rss_mib": 0.0,
                "lateness_ms": 0.0,
                "tasks": 0,
                "troubles": [],
            }
        )

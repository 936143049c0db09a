"""The virtual mesh: the daemon's peers and learning, over a clock and a network that are made up.

No chance and no real time: two runs of one seed make the same ballots, tallies and records. Links
come up at once, messages take LATENCY_S, training takes TRAIN_S, and the outboxes keep their
retained messages as real brokers do.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

from tallynode.config import Mesh
from tallynode.lab.crew import Member, crew
from tallynode.lab.records import Record
from tallynode.lab.work import Begun, Disguise, employ, themselves
from tallynode.lab.world.clock import Clock
from tallynode.lab.world.host import Host, Trainer
from tallynode.lab.world.network import Calm, Network
from tallynode.layout import edgeless
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol.settings import PeerSettings

TRAIN_S = 1.0  # seconds of made-up time that training, or learning, takes

Emit = Callable[[Mapping[str, Any]], None]
Watch = Callable[[str, ef.Effect], None]


def run_virtual(
    mesh: Mesh, emit: Emit, disguise: Disguise = themselves, jobs: int = 1
) -> dict[str, Mapping[str, object]]:
    """Build every peer of the mesh and run them to their end; what each had counted by then.

    Args:
        mesh: the mesh.
        emit: takes each line of rounds.jsonl.
        disguise: who does a peer's jobs in its place; picklable where there are several processes.
        jobs: processes that train side by side; with one, everything is done in this one.
    """
    size = max(1, min(jobs, len(mesh.names)))
    if size == 1 or mesh.method.name == "centralised":  # which has one net for all
        built = employ(mesh, mesh.names, disguise)
        here = {name: (parts.settings, Begun(of)) for name, (parts, of) in built.items()}
        return VirtualMesh(here, emit).run()
    with crew(mesh, disguise, size) as members:
        there = {name: (member.settings, member) for name, member in members.items()}
        return VirtualMesh(there, emit).run()


def records_of(mesh: Mesh, disguise: Disguise = themselves, jobs: int = 1) -> list[Record]:
    """Run a mesh to its end; all its records, which do not tell of what peers say when done."""
    records: list[Record] = []
    run_virtual(mesh, lambda record: records.append(cast(Record, record)), disguise, jobs)
    return records


def accuracy_alone(mesh: Mesh, jobs: int = 1) -> dict[str, float]:
    """Accuracy of the same peers without any exchange: the same mesh, its graph without edges."""
    scores = [(r["peer"], r["accuracy"]) for r in records_of(edgeless(mesh), jobs=jobs)]
    return {peer: score for peer, score in scores if score is not None}  # the last one stays


class VirtualMesh:
    """A mesh whose whole world is this object.

    Args:
        peers: settings of each, and who does its jobs, by name.
        emit: takes each line of rounds.jsonl.
        watch: sees each effect of each peer, by name, before it is executed.
    """

    def __init__(
        self,
        peers: Mapping[str, tuple[PeerSettings, Begun | Member]],
        emit: Emit,
        watch: Watch = lambda name, effect: None,
    ) -> None:
        self._clock = Clock()
        self._network = Network(self._clock, Calm(), self._deliver)
        self._hosts = {
            name: _Learner(settings, _Timed(of), (self._clock, self._network), emit, watch)
            for name, (settings, of) in peers.items()
        }

    def run(self) -> dict[str, Mapping[str, object]]:
        """Run until every peer has finished; the bytes that each has counted."""
        for name, host in self._hosts.items():
            host.start()
            for neighbour in host.settings.neighbours:
                self._network.connect(name, neighbour)
        while self._clock.tick():
            pass
        peers = {name: host.peer for name, host in self._hosts.items()}
        return {name: peer.counters.fields() for name, peer in peers.items() if peer}

    def _deliver(self, reader: str, event: ev.Event) -> None:
        self._hosts[reader].take(event)


class _Timed:
    """Real learning, wherever it is done, that takes TRAIN_S of made-up time."""

    def __init__(self, begin: Begun | Member) -> None:
        self._begin = begin

    def train(self, job: ef.Train) -> tuple[float, Callable[[], ev.Trained]]:
        return TRAIN_S, self._begin.train(job)

    def learn(self, job: ef.Learn) -> tuple[float, Callable[[], ev.Learned]]:
        return TRAIN_S, self._begin.learn(job)


class _Learner(Host):
    """A host whose rounds become records, and whose steps can be watched."""

    def __init__(
        self,
        settings: PeerSettings,
        trainer: Trainer,
        world: tuple[Clock, Network],
        emit: Emit,
        watch: Watch,
    ) -> None:
        super().__init__(settings, trainer, *world)
        self._emit = emit
        self._watch = watch

    def do(self, effect: ef.Effect) -> None:
        """Execute one effect, once it has been seen."""
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

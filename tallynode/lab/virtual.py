"""The virtual mesh: the daemon's peers and learning, over a clock and a network that are made up.

One process, one heap of future events, no chance and no real time: two runs of one seed make the
same ballots, tallies and records. Links come up at once, messages take LATENCY_S, training takes
TRAIN_S, and the outboxes keep their retained messages as real brokers do.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from tallynode import assemble
from tallynode.assemble import Parts
from tallynode.config import Mesh
from tallynode.errors import LocalError
from tallynode.layout import Layout, edgeless
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol.peer import Peer

LATENCY_S = 0.005  # seconds a message takes over one edge
TRAIN_S = 1.0  # seconds of made-up time that training, or learning, takes

Emit = Callable[[Mapping[str, Any]], None]


def run_virtual(mesh: Mesh, emit: Emit) -> None:
    """Build every peer of the mesh and run them to their end; `emit` as in VirtualMesh."""
    layout = Layout.of(mesh)
    parts = {name: assemble.parts(mesh, name, layout=layout) for name in mesh.names}
    VirtualMesh(parts, emit).run()


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
    """

    def __init__(self, parts: Mapping[str, Parts], emit: Emit) -> None:
        self._parts = parts
        self._emit = emit
        self.peers = {name: Peer(of.settings) for name, of in parts.items()}
        self._retained: dict[str, dict[str, bytes]] = {name: {} for name in parts}
        self._readers: dict[tuple[str, str], list[str]] = {}  # (outbox, topic) -> who reads it
        self._heap: list[tuple[float, int, str, ev.Event]] = []
        self._order = itertools.count()
        self._ticks: dict[str, float] = {}
        self.now = 0.0

    def run(self) -> None:
        """Run until every peer has finished."""
        for name, peer in self.peers.items():
            self._at(0.0, name, ev.Started())
            for neighbour in peer.settings.neighbours:
                self._at(LATENCY_S, name, ev.LinkUp(neighbour=neighbour))
        while self._heap:
            self.now, _, name, event = heapq.heappop(self._heap)
            peer = self.peers[name]
            for effect in peer.step(event, self.now):
                self._do(name, effect)
            deadline = peer.deadline()
            if deadline is not None and self._ticks.get(name) != deadline:
                self._ticks[name] = deadline
                self._at(max(deadline, self.now), name, ev.Tick())

    def _at(self, when: float, name: str, event: ev.Event) -> None:
        heapq.heappush(self._heap, (when, next(self._order), name, event))

    def _do(self, name: str, effect: ef.Effect) -> None:
        method = self._parts[name].method
        match effect:
            case ef.Train(round=round_, probes=probes):
                trained = ev.Trained(round=round_, content=method.train(round_, probes))
                self._at(self.now + TRAIN_S, name, trained)
            case ef.Learn(round=round_, outcome=outcome):
                metrics = asdict(method.learn(round_, outcome))
                self._at(self.now + TRAIN_S, name, ev.Learned(round=round_, metrics=metrics))
            case ef.Publish(topic=topic, data=data, retain=retain):
                if retain:
                    self._retained[name][topic] = data
                self._deliver(self._readers.get((name, topic), ()), name, topic, data)
            case ef.Subscribe(neighbour=neighbour, topics=topics):
                for topic in topics:
                    self._readers.setdefault((neighbour, topic), []).append(name)
                    if topic in self._retained[neighbour]:
                        self._deliver((name,), neighbour, topic, self._retained[neighbour][topic])
            case ef.Unsubscribe(neighbour=neighbour, topics=topics):
                for topic in topics:
                    self._readers[neighbour, topic].remove(name)
            case ef.Report(fields=fields):
                self._emit(self._record(name, fields))
            case ef.Log(level="error", event=what, fields=fields):
                raise LocalError(f"{name}: {what} {dict(fields)} in a mesh without faults")
            case ef.Save() | ef.Log():
                pass  # nothing is lost here, and there is nobody to tell
            case ef.Finish():
                for neighbour in self.peers[name].settings.neighbours:
                    self._at(self.now + LATENCY_S, neighbour, ev.LinkDown(neighbour=name))

    def _deliver(self, readers: Iterable[str], outbox: str, topic: str, data: bytes) -> None:
        for reader in readers:
            event = ev.Received(neighbour=outbox, topic=topic, data=data)
            self._at(self.now + LATENCY_S, reader, event)

    def _record(self, name: str, fields: Mapping[str, object]) -> Mapping[str, object]:
        """A line of rounds.jsonl, with nothing in it that differs between two runs."""
        return {
            "peer": name,
            "t_s": self.now,
            **fields,
            "wire_bytes": {"sent": 0, "received": 0, "source": "none"},
            "rss_mib": 0.0,
            "lateness_ms": 0.0,
            "tasks": 0,
            "troubles": [],
        }

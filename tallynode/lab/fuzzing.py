"""Damaged messages, as a hostile neighbour would send them, into a peer that runs.

A small pinned mesh of real peers and real keys, without training and without a network, says
everything that peers say to each other: ballots signed and not, answers to one that comes late, a
proof against one that votes twice. Mutations of all that are then fed to one of its peers. Whatever
comes, it answers with effects: any exception is a bug, of which `step` would not recover.
"""

import random
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tallynode.edge.admission import Admission
from tallynode.edge.identity import load_or_make
from tallynode.edge.signer import DeviceSigner
from tallynode.errors import LocalError
from tallynode.lab.mutation import mutant, pick
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, wire
from tallynode.protocol.messages import Ballot
from tallynode.protocol.peer import Peer
from tallynode.protocol.settings import BridgeSettings, PeerSettings, RoundSettings

EDGES = graph.of_pairs([("a", "b"), ("b", "c"), ("c", "d")])
NAMES = ("a", "b", "c", "d")
TARGET, SENDER = "b", "c"  # who is fed, and whose outbox it comes from
LATE, LIAR = "d", "a"  # who comes late and asks, and who votes twice
PROBES, CLASSES = 200, 10
ROUNDS_BEFORE, ROUNDS_AFTER = 6, 6  # of the others, before and after the late one starts
STEP_S = 0.01  # seconds of made-up time that a message takes
RENEW_EACH = 1000  # inputs to one peer: it must meet them in the state in which they matter
PAUSE_S = 120.0  # seconds between two damaged messages: each is heard, none is one too many
DIGEST = bytes(range(8))
CALLED = {
    "h": "hello",
    "v": "ballot",
    "a": "answer",
    "q": "ask",
    "k": "key",
    "x": "proof",
    "d": "piece",
}
SIGNED = (CALLED["v"], CALLED["a"])  # kinds that are fuzzed with a signature and without one


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was said, by kind: (topic, bytes) as the target would hear them."""

    messages: Mapping[str, list[tuple[str, bytes]]]


class SmallTalk:
    """A mesh in which everything is heard at once, in order.

    Args:
        signers: the keys of the peers; None: they are not pinned.
    """

    def __init__(self, signers: Mapping[str, DeviceSigner] | None) -> None:
        self.peers: dict[str, Peer] = {}
        self.said: list[tuple[str, bytes]] = []
        self.now = 0.0
        self._signers = signers
        self._retained: dict[str, dict[str, bytes]] = {name: {} for name in NAMES}
        self._readers: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._queue: deque[tuple[str, ev.Event]] = deque()

    def start(self, name: str) -> None:
        """Bring a peer up, and link it to its neighbours that are up."""
        signer = None if self._signers is None else self._signers[name]
        self.peers[name] = Peer(settings_of(name), signer=signer)
        self._queue.append((name, ev.Started()))
        for other in graph.adjacency(NAMES, EDGES)[name]:
            if other in self.peers:
                self._queue.append((name, ev.LinkUp(neighbour=other)))
                self._queue.append((other, ev.LinkUp(neighbour=name)))

    def run(self, round_: int) -> None:
        """Go on until the target is in a round."""
        while self.peers[TARGET].round < round_:
            if not self._queue:
                self.now += 1.0
                self._queue.extend((name, ev.Tick()) for name in self.peers)
            self.step(*self._queue.popleft())

    def step(self, name: str, event: ev.Event) -> None:
        """Hand a peer an event, and do what it asks."""
        self.now += STEP_S
        for effect in self.peers[name].step(event, self.now):
            self._do(name, effect)

    def _do(self, name: str, effect: ef.Effect) -> None:
        match effect:
            case ef.Train(round=round_, probes=probes, bridge=bridge):
                delta = round_.to_bytes(2) if bridge else b""  # nobody here decodes it
                votes = votes_of(name, round_)[probes]
                trained = ev.Trained(round=round_, content=votes, delta=delta)
                self._queue.append((name, trained))
            case ef.Learn(round=round_):
                self._queue.append((name, ev.Learned(round=round_, metrics={})))
            case ef.Publish(topic=topic, data=data, retain=retain):
                self.said.append((topic, data))
                if retain:
                    self._retained[name][topic] = data
                for reader in sorted(self._readers[name, topic]):
                    self._deliver(reader, name, topic, data)
            case ef.Subscribe(neighbour=neighbour, topics=topics):
                for topic in topics:
                    self._readers[neighbour, topic].add(name)
                    if topic in self._retained[neighbour]:
                        self._deliver(name, neighbour, topic, self._retained[neighbour][topic])
            case ef.Unsubscribe(neighbour=neighbour, topics=topics):
                for topic in topics:
                    self._readers[neighbour, topic].discard(name)

    def _deliver(self, reader: str, outbox: str, topic: str, data: bytes) -> None:
        if reader in self.peers:
            event = ev.Received(neighbour=outbox, topic=topic, data=data)
            self._queue.append((reader, event))


def settings_of(name: str) -> PeerSettings:
    """The view of one peer, which votes and merges."""
    neighbours = graph.adjacency(NAMES, EDGES)
    return PeerSettings(
        mesh="fuzzed",
        name=name,
        reach=graph.reach(name, neighbours, len(NAMES)),
        hops=len(NAMES),
        classes=CLASSES,
        probes=PROBES,
        per_round=None,
        probe_digest=DIGEST,
        method="tally",
        seed=1,
        rounds=RoundSettings(count=0),
        bridge=BridgeSettings(every=2, merges=neighbours[name], model=9, bytes_max=100),
    )


def votes_of(name: str, round_: int) -> np.ndarray:
    """(probes,) votes that change a little from round to round, as a witness's do."""
    draw = np.random.default_rng(NAMES.index(name))
    votes = draw.integers(0, CLASSES, PROBES)
    for _ in range(round_):
        new = draw.integers(0, CLASSES, PROBES)
        votes = np.where(draw.random(PROBES) < 0.1, new, votes)
    return votes


def signers_in(folder: Path) -> dict[str, DeviceSigner]:
    """Real keys, each pinned by all."""
    devices = {name: load_or_make(folder / name) for name in NAMES}
    pins = {name: device.id for name, device in devices.items()}
    return {
        name: DeviceSigner(
            Admission(device, {n: p for n, p in pins.items() if n != name}, folder, me=name)
        )
        for name, device in devices.items()
    }


def talk(signers: Mapping[str, DeviceSigner] | None) -> SmallTalk:
    """A mesh that has said all that it can say."""
    mesh = SmallTalk(signers)
    for name in NAMES:
        if name != LATE:
            mesh.start(name)
    mesh.run(ROUNDS_BEFORE)
    mesh.start(LATE)
    mesh.run(ROUNDS_BEFORE + ROUNDS_AFTER)
    return mesh


def record(signers: Mapping[str, DeviceSigner]) -> Recorded:
    """Everything that is said in a mesh with keys and in one without."""
    found: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for mesh in (talk(signers), talk(None)):
        if mesh.peers[TARGET].hearing.signatures.used:
            _vote_twice(mesh, signers)
        for topic, data in mesh.said:
            found[_kind_of(topic, data)].append((topic, data))
    return Recorded(found)


def _vote_twice(mesh: SmallTalk, signers: Mapping[str, DeviceSigner]) -> None:
    """Let the liar's outbox say something else than before."""
    topic = wire.ballot_topic(LIAR)
    data = next(d for t, d in reversed(mesh.said) if t == topic)
    ballot = wire.decode(data, LIAR, "fuzzed", DIGEST)
    if not isinstance(ballot, Ballot):
        raise LocalError("a ballot was expected")
    liar = Peer(settings_of(LIAR), signer=signers[LIAR]).hearing
    votes = (votes_of(LIAR, ballot.round) + 1) % CLASSES
    held = liar.contents.encode(ballot.round, votes)
    signature = liar.signatures.sign(ballot.round, held.content)
    other = replace(ballot, coding=held.coding, body=held.coded, signature=signature)
    data = wire.encode_ballot(other, "fuzzed", DIGEST)
    mesh.step(TARGET, ev.Received(neighbour=LIAR, topic=topic, data=data))


def _kind_of(topic: str, data: bytes) -> str:
    """A message's kind, as a person calls it."""
    called = CALLED[topic[0]]
    return f"{called} signed" if called in SIGNED and data[0] == 0x98 else called


@dataclass(slots=True)
class Fed:
    """How damaged messages of one kind were taken."""

    inputs: int = 0
    refused: int = 0  # with the one error that there is for that
    slowest_ms: float = 0.0  # of processor time, for one message

    @property
    def passed(self) -> int:
        """Messages that were not refused: still true, or of no consequence."""
        return self.inputs - self.refused


def fuzz(
    recorded: Recorded, signers: Mapping[str, DeviceSigner], kind: str, inputs: int, seed: int
) -> Fed:
    """Feed a running peer so many damaged messages of a kind; what it raises comes out of here."""
    of_kind, draw, fed = recorded.messages[kind], random.Random(seed), Fed()
    keys = None if kind in SIGNED else signers
    while fed.inputs < inputs:
        peer = _prepared(recorded, keys, newcomer=kind.startswith(CALLED["a"]))
        _feed(peer, of_kind, min(RENEW_EACH, inputs - fed.inputs), draw, fed)
    return fed


def _feed(
    peer: Peer, of_kind: Sequence[tuple[str, bytes]], count: int, draw: random.Random, fed: Fed
) -> None:
    """Feed one peer."""
    seeds, now, name = [data for _, data in of_kind], 1e6, peer.settings.name
    said = [topic for topic, _ in of_kind]
    any_ = sorted({*said, *(f"{letter}/{n}" for letter in CALLED for n in NAMES)})
    before, clock = peer.counters.refused, time.thread_time
    for _ in range(count):
        topic = pick(said if draw.random() < 0.9 else any_, draw)
        if topic[0] in "aq":
            topic = f"{topic[0]}/{name}"
        event = ev.Received(neighbour=SENDER, topic=topic, data=mutant(seeds, draw))
        now += PAUSE_S
        began = clock()
        try:
            peer.step(event, now)
        except Exception as error:
            error.add_note(f"on {topic}: {event.data.hex()}")
            raise
        fed.slowest_ms = max(fed.slowest_ms, 1000 * (clock() - began))
    fed.inputs += count
    fed.refused += peer.counters.refused - before


def _prepared(
    recorded: Recorded, signers: Mapping[str, DeviceSigner] | None, *, newcomer: bool
) -> Peer:
    """A peer that has the first ballots of all; or late ones, and asked for what led there."""
    name = LATE if newcomer else TARGET
    peer = Peer(settings_of(name), signer=signers[name] if signers else None)
    peer.step(ev.Started(), 0.0)
    peer.step(ev.LinkUp(neighbour=SENDER), 0.0)
    if not newcomer:
        peer.step(ev.Tick(), peer.settings.rounds.start_within_s)
    said = recorded.messages["ballot signed" if signers else "ballot"]
    ballots = dict(said if newcomer else reversed(said))  # of each topic the last one, or the first
    for topic, data in [*recorded.messages["key"], *ballots.items()]:
        peer.step(ev.Received(neighbour=SENDER, topic=topic, data=data), 100.0)
    return peer

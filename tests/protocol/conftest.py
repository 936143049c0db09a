"""A mesh on paper: real peers, a made-up clock and network, every message in a known order.

Plays are written with it: start, let it run, kill, cut, mend, restart, and read what each peer did.
Whatever the play, it checks after each step that time never stands still: a peer that was woken at
its deadline has moved on or asks to be woken later.
"""

import hashlib
import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import settings

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, snapshot, wire
from tallynode.protocol.messages import Ballot
from tallynode.protocol.peer import Peer
from tallynode.protocol.rounds import Phase
from tallynode.protocol.settings import PeerSettings, RoundSettings

LATENCY_S = 0.01  # of a message over one edge
DIGEST = bytes(range(8))
E = TypeVar("E")

settings.register_profile("tallynode", deadline=None)  # machines are shared: no test is timed
settings.load_profile("tallynode")


Votes = Callable[[int, int, np.ndarray], np.ndarray]  # of peer number, round, probes


def settings_for(
    name: str,
    neighbours: Mapping[str, Sequence[str]],
    hops: int,
    rounds: RoundSettings,
    **overrides: Any,
) -> PeerSettings:
    """The view of one peer of a mesh called `play`."""
    fields: dict[str, Any] = {
        "mesh": "play",
        "name": name,
        "reach": graph.reach(name, neighbours, hops),
        "hops": hops,
        "classes": 3,
        "probes": 12,
        "per_round": None,
        "probe_digest": DIGEST,
        "method": "tally",
        "seed": 7,
        "rounds": rounds,
    }
    return PeerSettings(**(fields | overrides))


class PaperSigner:
    """Keys that follow from names: all that the protocol asks of a signer, and no secrets."""

    def __init__(self, name: str) -> None:
        self.public_key = key_of(name)

    def sign(self, message: bytes) -> bytes:
        """64 bytes that only this name's key makes, on paper."""
        return _signature(self.public_key, message)

    def verify(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """Whether they are those of a key."""
        return signature == _signature(public_key, message)

    def owns(self, origin: str, public_key: bytes) -> bool:
        """Everybody is pinned by the key that follows from the name."""
        return public_key == key_of(origin)


def key_of(name: str) -> bytes:
    """The public key of a name."""
    return hashlib.blake2b(name.encode(), digest_size=32).digest()


def _signature(public_key: bytes, message: bytes) -> bytes:
    return hashlib.blake2b(message, key=public_key, digest_size=64).digest()


class Play:
    """Peers, their outboxes and the wires between them.

    Args:
        edges: the graph.
        hops: edges that ballots travel; None: to everyone.
        rounds: settings of all peers.
        train_s: how long a peer trains, for those that differ from 0.1 s.
        latency_s: of a message from one peer's outbox to another peer, where not LATENCY_S.
        overrides: further peer settings, by peer name, or for all under "*".
        pinned: whether the peers have keys, and sign what travels.
    """

    def __init__(
        self,
        edges: graph.Edges,
        *,
        hops: int | None = None,
        rounds: RoundSettings | None = None,
        train_s: Mapping[str, float] | None = None,
        latency_s: Mapping[tuple[str, str], float] | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        pinned: bool = False,
    ) -> None:
        self.names = sorted({name for edge in edges for name in edge})
        self.neighbours = graph.adjacency(self.names, edges)
        rounds = rounds or RoundSettings()
        travel = hops or max(1, len(self.names) - 1)
        chosen = overrides or {}
        self.settings = {}
        for name in self.names:
            own = {**chosen.get("*", {}), **chosen.get(name, {})}
            self.settings[name] = settings_for(name, self.neighbours, travel, rounds, **own)
        self.votes: Votes = lambda index, _, probes: vote_of(index, probes)
        self.now = 0.0
        self.peers: dict[str, Peer] = {}
        self.pinned = pinned
        self.kept: dict[str, dict[str, bytes]] = {name: {} for name in self.names}
        self.saved: dict[str, bytes] = {}  # the last state on each peer's disk
        self.effects: list[tuple[str, ef.Effect]] = []  # everything that anyone did, in order
        self.received: list[tuple[str, ev.Received]] = []
        self._train_s = train_s or {}
        self._latency_s = latency_s or {}
        self._retained: dict[str, dict[str, bytes]] = {name: {} for name in self.names}
        self._reading: dict[tuple[str, str], set[str]] = {}  # (reader, outbox) -> topics
        self._cut: set[frozenset[str]] = set()
        self._lives: dict[str, int] = dict.fromkeys(
            self.names, 0
        )  # events of a former life are lost
        self._heap: list[tuple[float, int, str, int, ev.Event]] = []
        self._order = itertools.count()
        self._wakes: dict[str, float] = {}  # when each peer asked to be woken

    def start(self, *names: str) -> None:
        """Bring peers up (all, if none is named), each from what its disk holds."""
        for name in names or self.names:
            restored = None
            if name in self.saved:
                restored = snapshot.decode(self.saved[name])
            signer = PaperSigner(name) if self.pinned else None
            kept = dict(self.kept[name])
            self.peers[name] = Peer(self.settings[name], restored, signer=signer, kept=kept)
            self._retained[name].clear()
            self._at(0.0, name, ev.Started())
            for other in self.neighbours[name]:
                if other in self.peers and self.peers[other].phase is not Phase.STOPPED:
                    self._link(name, other)

    def kill(self, name: str) -> None:
        """End a process without a word; its neighbours see their connections break."""
        del self.peers[name]
        self._wakes.pop(name, None)
        self._lives[name] += 1
        for other in self.neighbours[name]:
            self._unlink(name, other)

    def cut(self, a: str, b: str) -> None:
        """Break the wire between two living peers."""
        self._cut.add(frozenset((a, b)))
        self._unlink(a, b)

    def mend(self, a: str, b: str) -> None:
        """Repair it."""
        self._cut.discard(frozenset((a, b)))
        self._link(a, b)

    def say(self, outbox: str, topic: str, data: bytes, *, retain: bool = True) -> None:
        """Put any bytes on an outbox, as a hostile or broken peer would."""
        if retain:
            self._retained[outbox][topic] = data
        for (reader, of), topics in sorted(self._reading.items()):
            if of == outbox and topic in topics:
                self._deliver(reader, outbox, topic, data)

    def tell(self, name: str, event: ev.Event) -> None:
        """Hand a peer an event now."""
        self._step(name, event)

    def run(self, *, until_s: float | None = None, until: Callable[[], bool] | None = None) -> None:
        """Go on until a time, a condition, or the end of all events."""
        for _ in range(200_000):
            if until is not None and until():
                return
            wake = min(((at, name) for name, at in self._wakes.items()), default=None)
            due = self._heap[0][0] if self._heap else None
            times = [t for t in (wake[0] if wake else None, due) if t is not None]
            if not times or (until_s is not None and min(times) > until_s):
                self.now = until_s if until_s is not None else self.now
                assert until is None, "the play ended before its condition came true"
                return
            self.now = max(self.now, min(times))
            if due is not None and due <= min(times):
                _, _, name, life, event = heapq.heappop(self._heap)
                if name in self.peers and life == self._lives[name]:
                    self._step(name, event)
            elif wake:
                self._wake(wake[1])
        raise AssertionError("the play does not end")

    def did(self, name: str, kind: type[E]) -> list[E]:
        """A peer's effects of one kind, in order."""
        return [effect for who, effect in self.effects if who == name and isinstance(effect, kind)]

    def reports(self, name: str) -> dict[int, Mapping[str, Any]]:
        """A peer's reports by round; none twice, but for the one that a restart repeats."""
        fields: list[Mapping[str, Any]] = [dict(r.fields) for r in self.did(name, ef.Report)]
        found = {f["round"]: f for f in fields}
        assert len(found) >= len(fields) - self._lives[name]
        return found

    def refusals(self, name: str) -> list[tuple[object, object]]:
        """(peer, why) of each refusal that a peer spoke of."""
        logs = [log for log in self.did(name, ef.Log) if log.event == "refused"]
        return [(log.fields["peer"], log.fields["why"]) for log in logs]

    def said(self, name: str) -> list[str]:
        """The events that a peer logged."""
        return [log.event for log in self.did(name, ef.Log)]

    def ballots(self, name: str) -> list[Ballot]:
        """The ballots of its own that a peer published, in order."""
        topic = wire.ballot_topic(name)
        data = [p.data for p in self.did(name, ef.Publish) if p.topic == topic]
        return [b for b in (self.decode(d) for d in data) if isinstance(b, Ballot)]

    def copies(self, round_: int) -> dict[tuple[str, str], int]:
        """Copies of each ballot of a round that reached each peer, by (peer, origin)."""
        found: dict[tuple[str, str], int] = {}
        for name, event in self.received:
            message = self.decode(event.data) if event.topic.startswith("v/") else None
            if isinstance(message, Ballot) and message.round == round_:
                key = (name, message.origin)
                found[key] = found.get(key, 0) + 1
        return found

    def decode(self, data: bytes) -> object:
        """A message of this mesh."""
        return wire.decode(data, "the audience", "play", DIGEST, chosen=True)

    def round_of(self, name: str) -> int:
        """The round that a peer is in."""
        return self.peers[name].round

    def finished(self) -> bool:
        """Whether every living peer has stopped."""
        return all(peer.phase is Phase.STOPPED for peer in self.peers.values())

    def _at(self, delay_s: float, name: str, event: ev.Event) -> None:
        item = (self.now + delay_s, next(self._order), name, self._lives[name], event)
        heapq.heappush(self._heap, item)

    def _link(self, a: str, b: str) -> None:
        for reader, outbox in ((a, b), (b, a)):
            self._reading[reader, outbox] = set()
            self._at(self._latency(outbox, reader), reader, ev.LinkUp(neighbour=outbox))

    def _unlink(self, a: str, b: str) -> None:
        for reader, outbox in ((a, b), (b, a)):
            if self._reading.pop((reader, outbox), None) is not None and reader in self.peers:
                self._at(self._latency(outbox, reader), reader, ev.LinkDown(neighbour=outbox))

    def _deliver(self, reader: str, outbox: str, topic: str, data: bytes) -> None:
        event = ev.Received(neighbour=outbox, topic=topic, data=data)
        self._at(self._latency(outbox, reader), reader, event)

    def _latency(self, outbox: str, reader: str) -> float:
        return self._latency_s.get((outbox, reader), LATENCY_S)

    def _wake(self, name: str) -> None:
        before = self.peers[name].phase
        self._step(name, ev.Tick())
        peer = self.peers[name]
        after = peer.deadline()
        assert peer.phase is not before or (after is not None and after > self.now)

    def _step(self, name: str, event: ev.Event) -> None:
        if isinstance(event, ev.Received):
            self.received.append((name, event))
        for effect in self.peers[name].step(event, self.now):
            self.effects.append((name, effect))
            self._do(name, effect)
        self._wakes.pop(name, None)
        deadline = self.peers[name].deadline()
        if deadline is not None:
            self._wakes[name] = deadline

    def _do(self, name: str, effect: ef.Effect) -> None:
        match effect:
            case ef.Train(round=round_, probes=probes, bridge=bridge):
                votes = self.votes(self.names.index(name), round_, probes)
                delta = f"{name} {round_}".encode() if bridge else b""
                trained = ev.Trained(round=round_, content=votes, delta=delta)
                self._at(self._train_s.get(name, 0.1), name, trained)
            case ef.Learn(round=round_):
                self._at(0.05, name, ev.Learned(round=round_, metrics={"accuracy": 0.5}))
            case ef.Save(state=state):
                self.saved[name] = state
            case ef.Keep(topic=topic, data=data):
                self.kept[name][topic] = data
            case ef.Publish(topic=topic, data=data, retain=retain):
                self.say(name, topic, data, retain=retain)
            case ef.Subscribe(neighbour=outbox, topics=topics):
                if (name, outbox) in self._reading:
                    self._reading[name, outbox].update(topics)
                    for topic in topics:
                        if topic in self._retained[outbox]:
                            self._deliver(name, outbox, topic, self._retained[outbox][topic])
            case ef.Unsubscribe(neighbour=outbox, topics=topics):
                self._reading.get((name, outbox), set()).difference_update(topics)
            case ef.Finish():
                for other in self.neighbours[name]:
                    self._unlink(name, other)


def vote_of(index: int, probes: np.ndarray) -> np.ndarray:
    """What peer number `index` votes: most agree on `probe mod 3`, every peer errs on its own."""
    wrong = probes % 8 == index % 8
    votes: np.ndarray = np.where(wrong, (probes + 1) % 3, probes % 3)
    return votes


@pytest.fixture
def play() -> Callable[..., Play]:
    """Builds a play; a test names the edges and what differs from the defaults."""
    return Play


@pytest.fixture
def peer_settings() -> Callable[..., PeerSettings]:
    """Builds one peer's settings: of `a` among a and b, unless said otherwise."""

    def build(**overrides: Any) -> PeerSettings:
        neighbours = {"a": ("b",), "b": ("a",)}
        rounds, hops = overrides.pop("rounds", RoundSettings()), overrides.pop("hops", 1)
        return settings_for("a", neighbours, hops, rounds, **overrides)

    return build

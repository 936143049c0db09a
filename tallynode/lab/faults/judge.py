"""What must hold whatever happens, checked after every step of every peer.

1. An origin casts one ballot a round, over all its lives; what others tally or relay as its ballot
   is that one.
2. A ballot that is published stands on the disk, or is covered by what stands there, unless the
   disk refused.
3. Equal ballots give equal tallies, unless the rule remembers the ballots before (`reliability`).
4. A peer's round never goes back, over a restart not below the saved one.
5. No table grows beyond its bound.
6. Nobody waits for a voter whose link broke, that left, or that a round closed without, until
   a ballot of it comes again.
7. A round is open no longer than its deadline, and no peer asks to be woken in the past.
8. No peer of an honest mesh refuses a message of another.

A disk that rots or refuses can forget a ballot that was cast, and then only: rounds that it forgot
are excused from 1, and the origin from 8.
"""

import hashlib
from collections import Counter

import numpy as np

from tallynode.lab.faults.disk import Disk
from tallynode.lab.faults.tables import sizes
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import snapshot, wire
from tallynode.protocol.messages import Ballot, Hello, State
from tallynode.protocol.peer import Peer
from tallynode.protocol.rounds import Phase
from tallynode.protocol.tally import Consensus

SLACK_S = 1e-6  # of a deadline computed twice


class Violation(Exception):
    """A peer did what it must never do."""


class Judge:
    """The invariants of one mesh; `seen` counts what was done, so that a run shows what it met."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._cast: dict[tuple[str, int], set[bytes]] = {}  # (origin, round) -> votes
        self._tallies: dict[bytes, bytes] = {}  # the ballots of a tally -> what came out
        self._round: dict[str, int] = {}  # of this life
        self._voters: dict[str, int] = {}  # how many others each peer can hear
        self._restored: dict[str, int] = {}  # what this life began from
        self._published: dict[str, int] = {}  # the last round of an own ballot
        self._forgot: dict[str, set[int]] = {}  # origin -> rounds that it may cast anew
        self._written_off: dict[str, set[str]] = {}  # peer -> voters that it need not wait for

    # -- what happens around a peer -------------------------------------------------------------

    def started(self, peer: Peer, restored: snapshot.Snapshot | None, disk: Disk) -> None:
        """A process started from what its disk holds."""
        name = peer.settings.name
        published = self._published.get(name, 0)
        free = restored.free if restored else 1
        if free <= published:
            if not disk.lossy:
                raise Violation(f"{name} may vote in round {free}, it published one of {published}")
            self._forgot.setdefault(name, set()).update(range(free, published + 1))
            self.seen["restart from a state too old"] += 1
        self._round[name] = 0
        self._voters[name] = len(peer.settings.voters)
        self._restored[name] = restored.round if restored else 0
        self._written_off[name] = set()

    def stepped(self, peer: Peer, event: ev.Event, now: float) -> None:
        """A peer took an event; its effects are still to come."""
        name = peer.settings.name
        if peer.round < self._round[name]:
            raise Violation(f"{name} went back from round {self._round[name]} to {peer.round}")
        self.seen["rounds skipped"] += 0 < self._round[name] < peer.round - 1
        self._round[name] = peer.round
        if 0 < peer.round < self._restored[name]:
            raise Violation(f"{name} is in round {peer.round}, saved was {self._restored[name]}")
        self._check_waiting(peer, event)
        self._check_deadline(peer, now)
        for table, entries, bound in sizes(peer, self._voters[name]):
            if entries > bound:
                raise Violation(f"{name} holds {entries} {table}, more than {bound}")

    def does(self, peer: Peer, effect: ef.Effect, disk: Disk) -> None:
        """A peer is about to do something, all that came before being done."""
        name = peer.settings.name
        match effect:
            case ef.Publish(topic=topic, data=data) if topic == wire.ballot_topic(name):
                self._check_own(peer, data, disk)
            case ef.Publish(topic=topic) if topic.startswith("v/"):
                origin = topic.removeprefix("v/")
                self._check_held(peer, origin, peer.hearing.members.table[origin].latest)
            case ef.Publish(topic=topic):
                self.seen[{"q": "ask", "a": "answer", "h": "hello"}[topic[0]]] += 1
            case ef.Learn():
                self._check_tally(peer, effect)
            case ef.Log(event="refused", fields=fields):
                if fields["peer"] not in self._forgot:
                    raise Violation(f"{name} refuses: {dict(fields)}")
                self.seen["refusal of a forgetful peer"] += 1
            case ef.Log(event=event):
                self.seen[event] += 1
            case ef.Report(fields=fields):
                self.seen[f"closed by {fields['closed_by']}"] += 1
                self.seen["late ballot tallied"] += int(str(fields["late"]))
            case ef.Subscribe() | ef.Unsubscribe():
                self.seen[type(effect).__name__.lower()] += 1

    # -- the invariants -------------------------------------------------------------------------

    def _check_own(self, peer: Peer, data: bytes, disk: Disk) -> None:
        mine = peer.settings
        ballot = wire.decode(data, mine.name, mine.mesh, mine.probe_digest, chosen=mine.chooses)
        if not isinstance(ballot, Ballot) or ballot.origin != mine.name:
            raise Violation(f"{mine.name} publishes as its ballot {ballot}")
        held = peer.hearing.box.get(mine.name, ballot.round)
        if held is None:
            raise Violation(f"{mine.name} does not hold its ballot of round {ballot.round}")
        self.seen[f"coded as {ballot.coding.name.lower()}"] += 1
        self._published[mine.name] = max(ballot.round, self._published.get(mine.name, 0))
        votes = held.content.tobytes()
        before = self._cast.setdefault((mine.name, ballot.round), set())
        before.add(votes)
        if len(before) > 1:
            if ballot.round not in self._forgot.get(mine.name, ()):
                raise Violation(f"{mine.name} casts a second ballot in round {ballot.round}")
            self.seen["second ballot of a forgetful peer"] += 1
        if disk.refuses:
            self.seen["ballot published unsaved"] += 1
            return
        state = disk.load()
        saved = None if state is None else snapshot.decode(state)
        if not saved or not saved.round <= ballot.round < saved.free:
            raise Violation(f"{mine.name} publishes a ballot of round {ballot.round} unsaved")
        if saved.round == ballot.round and not _says(peer, saved, held.content):
            raise Violation(f"{mine.name} saved another ballot of round {ballot.round}")

    def _check_held(self, peer: Peer, origin: str, round_: int) -> None:
        """What a peer holds of an origin is what the origin cast."""
        held = peer.hearing.box.get(origin, round_)
        if held is None or held.content.tobytes() not in self._cast.get((origin, round_), ()):
            name = peer.settings.name
            raise Violation(f"{name} holds a ballot of {origin}, round {round_}: never cast")

    def _check_tally(self, peer: Peer, learn: ef.Learn) -> None:
        given, _ = peer.hearing.box.usable(learn.round)
        staleness = peer.hearing.box.staleness
        for origin in given:
            near = [r for r, _ in peer.hearing.box.up_to(origin, learn.round + staleness)]
            for round_ in [r for r in near if r >= learn.round - staleness]:
                self._check_held(peer, origin, round_)
        if isinstance(learn.outcome, Consensus) and peer.settings.tally != "reliability":
            rule = f"{peer.settings.tally} {learn.round if peer.settings.per_round else 0}"
            key = hashlib.blake2b(rule.encode(), digest_size=16)
            for origin, cast in given.items():
                key.update(origin.encode() + cast.tobytes())
            result = learn.outcome.labels.tobytes() + learn.outcome.confidence.tobytes()
            if self._tallies.setdefault(key.digest(), result) != result:
                raise Violation(f"{peer.settings.name} tallies equal ballots otherwise")
        off = self._written_off[peer.settings.name]
        for voter, member in peer.hearing.members.table.items():
            if member.latest < learn.round:
                off.add(voter)

    def _check_waiting(self, peer: Peer, event: ev.Event) -> None:
        name, off = peer.settings.name, self._written_off[peer.settings.name]
        match event:
            case ev.LinkDown(neighbour=voter):
                off.add(voter)
            case ev.Received(neighbour=neighbour, topic=topic, data=data) if (
                off or topic == wire.HELLO_TOPIC
            ):
                mine = peer.settings
                message = wire.decode(
                    data, neighbour, mine.mesh, mine.probe_digest, chosen=mine.chooses
                )
                if isinstance(message, Ballot):
                    off.discard(message.origin)
                elif isinstance(message, Hello) and message.state is State.LEAVING:
                    off.add(neighbour)
        if off and peer.phase is Phase.GATHERING:
            waited = peer._owing(peer._now) & off
            if waited:
                raise Violation(f"{name} waits in round {peer.round} for {sorted(waited)}: gone")

    def _check_deadline(self, peer: Peer, now: float) -> None:
        name, rounds, deadline = peer.settings.name, peer.settings.rounds, peer.deadline()
        if deadline is not None and deadline <= now:
            raise Violation(f"{name} asks at {now} to be woken at {deadline}")
        if peer.phase is Phase.GATHERING:
            latest = peer._voted + rounds.deadline_max_s
            if deadline is None or max(deadline, now) > latest + SLACK_S:
                raise Violation(f"{name} leaves round {peer.round} open beyond its deadline")
        elif peer.phase in (Phase.STARTING, Phase.DONE) and deadline is None:
            raise Violation(f"{name} is {peer.phase.value} for ever")


def _says(peer: Peer, saved: snapshot.Snapshot, content: np.ndarray) -> bool:
    """Whether a saved ballot holds this content."""
    return bool((peer.hearing.contents.restore(saved.body) == content).all())

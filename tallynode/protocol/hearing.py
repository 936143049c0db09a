"""What a peer hears and passes on: links, hellos, ballots, relays, refusals.

The half of the peer that faces its neighbours. It keeps every table that strangers can fill, each
bounded, and turns what they send into accepted ballots or counted refusals; the other half,
peer.py, decides when a round begins and closes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tallynode.errors import LocalError, RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import wire
from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.coding import DecodeError, packed
from tallynode.protocol.gossip import Gossip, Seen
from tallynode.protocol.limits import COMPLAINTS_MAX, REASON_CHARS_MAX
from tallynode.protocol.members import Members
from tallynode.protocol.messages import Ballot, Coding, Hello, State
from tallynode.protocol.rounds import Lags
from tallynode.protocol.settings import PeerSettings


@dataclass(slots=True)
class Counters:
    """Payload bytes by class, and messages refused."""

    ballot: int = 0  # published, own and relayed
    relayed: int = 0  # the part of `ballot` that others cast
    control: int = 0
    received_ballot: int = 0  # first copies
    received_duplicate: int = 0  # further copies, and ballots that a later one has overtaken
    received_control: int = 0
    refused: int = 0

    def fields(self) -> dict[str, object]:
        """The counters as they stand in a round's record; this method sends no other class."""
        return {
            "payload_bytes": {
                "ballot": self.ballot,
                "delta": 0,
                "soft": 0,
                "control": self.control,
            },
            "relayed_bytes": self.relayed,
            "payload_received": {
                "ballot": self.received_ballot,
                "duplicate": self.received_duplicate,
                "control": self.received_control,
            },
            "refused": self.refused,
        }


class Hearing:
    """The ballots, members and links of one peer, and what it told and was told.

    Args:
        settings: this peer's view of the mesh.
    """

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self.counters = Counters()
        self.gossip = Gossip(settings.name, settings.reach)
        self.members = Members.of(settings.voters)
        self.box = BallotBox(settings.rounds.staleness if settings.per_round is None else 0)
        self.lags = Lags(settings.rounds.deadline_min_s, settings.rounds.deadline_max_s)
        self.round = 0  # this peer's own; older ballots than its staleness allows are not kept
        self._states: dict[str, State] = {}  # of neighbours, as they say
        self._mismatched: set[str] = set()  # neighbours whose votes cannot count here
        self._complaints: set[tuple[str, str]] = set()  # said once, counted always

    def running_neighbours(self) -> list[str]:
        """Linked neighbours that still have rounds to close."""
        return [n for n in self.gossip.linked if self._states.get(n) is State.RUNNING]

    def hello(self, state: State) -> ef.Effect:
        """Announce what must agree, and what this peer is doing."""
        mine = self._settings
        hello = Hello(
            mesh=mine.mesh,
            origin=mine.name,
            probe_digest=mine.probe_digest,
            classes=mine.classes,
            per_round=mine.per_round or mine.probes,
            method=mine.method,
            state=state,
        )
        data = wire.encode_hello(hello)
        self.counters.control += len(data)
        return ef.Publish(topic=wire.HELLO_TOPIC, data=data)

    def link_up(self, neighbour: str) -> list[ef.Effect]:
        if neighbour not in self._settings.reach:
            raise LocalError(f"{neighbour} is no neighbour of {self._settings.name}")
        topics = [wire.ballot_topic(origin) for origin in self.gossip.link_up(neighbour)]
        return [
            ef.Log(level="info", event="linked", fields={"neighbour": neighbour}),
            ef.Subscribe(neighbour=neighbour, topics=(wire.HELLO_TOPIC, *topics)),
        ]

    def link_down(self, neighbour: str) -> list[ef.Effect]:
        self.members.gone(neighbour)
        left = self._states.pop(neighbour, State.RUNNING)
        level = "warning" if left is State.RUNNING else "info"
        log = ef.Log(level=level, event="link lost", fields={"neighbour": neighbour})
        return [log, *_subscribe(self.gossip.link_down(neighbour))]

    def receive(self, event: ev.Received, now: float) -> list[ef.Effect]:
        mine = self._settings
        try:
            message = wire.decode(event.data, event.neighbour, mine.mesh, mine.probe_digest)
            if isinstance(message, Hello):
                self.counters.received_control += len(event.data)
                return self._hear_hello(event.neighbour, message)
            if event.topic != wire.ballot_topic(message.origin):
                raise RemoteError(event.neighbour, f"sent a ballot on topic {event.topic[:40]!r}")
            return self._hear_ballot(event.neighbour, message, len(event.data), now)
        except RemoteError as error:
            self.counters.refused += 1
            return self._complain(error.peer, error.why)

    def _complain(self, peer: str, why: str) -> list[ef.Effect]:
        """Say what is wrong with a peer's messages, once for each peer and reason."""
        why = why[:REASON_CHARS_MAX]
        if (peer, why) in self._complaints or len(self._complaints) >= COMPLAINTS_MAX:
            return []
        self._complaints.add((peer, why))
        return [ef.Log(level="error", event="refused", fields={"peer": peer, "why": why})]

    def _hear_hello(self, neighbour: str, hello: Hello) -> list[ef.Effect]:
        if hello.origin != neighbour:
            raise RemoteError(neighbour, f"says that it is {hello.origin}")
        mine = self._settings
        pairs = {
            "mesh": (hello.mesh, mine.mesh),
            "probe set or class list": (hello.probe_digest.hex(), mine.probe_digest.hex()),
            "number of classes": (hello.classes, mine.classes),
            "probes a round": (hello.per_round, mine.per_round or mine.probes),
            "method": (hello.method, mine.method),
        }
        differing = [f"{what} ({a}, ours {b})" for what, (a, b) in pairs.items() if a != b]
        if differing:
            self._mismatched.add(neighbour)
            self.members.gone(neighbour)
            raise RemoteError(
                neighbour, "votes do not count here, it differs in " + ", ".join(differing)
            )
        self._mismatched.discard(neighbour)
        self._states[neighbour] = hello.state
        if hello.state is State.LEAVING:
            self.members.gone(neighbour)
        return []

    def _hear_ballot(self, sender: str, ballot: Ballot, size: int, now: float) -> list[ef.Effect]:
        origin, round_ = ballot.origin, ballot.round
        if origin not in self.members.table:
            raise RemoteError(sender, f"sent a ballot of {origin}, which has no vote here")
        if origin in self._mismatched:
            raise RemoteError(origin, "voted although it differs")
        seen = Seen(sender, ballot.hops_left)
        known = self.box.get(origin, round_)
        if known and known.coded != ballot.votes:
            raise RemoteError(origin, f"cast two different ballots (the later came by {sender})")
        newest = round_ > self.members.table[origin].latest
        too_old = round_ < self.round - self._settings.rounds.staleness
        if known or (too_old and not newest):
            self.counters.received_duplicate += size
            surplus = self.gossip.prune(origin, round_, seen)
            topics = (wire.ballot_topic(origin),)
            return [ef.Unsubscribe(neighbour=surplus, topics=topics)] if surplus else []
        try:
            votes = packed.decode(
                ballot.votes,
                self._settings.per_round or self._settings.probes,
                self._settings.classes,
            )
        except DecodeError as error:
            raise RemoteError(
                sender, f"sent a ballot of {origin} that is damaged: {error}"
            ) from error
        self.counters.received_ballot += size
        self.box.put(origin, round_, Held(ballot.votes, votes))
        self.members.heard(origin, round_)
        self.gossip.first(origin, round_, seen)
        self.lags.heard(round_, now)
        if not (newest and ballot.hops_left):
            return []
        return [self.publish(origin, round_, ballot.hops_left - 1, ballot.votes)]

    def publish(self, origin: str, round_: int, hops_left: int, votes: bytes) -> ef.Effect:
        ballot = Ballot(
            origin=origin, round=round_, hops_left=hops_left, coding=Coding.PACKED, votes=votes
        )
        data = wire.encode_ballot(ballot, self._settings.mesh, self._settings.probe_digest)
        self.counters.ballot += len(data)
        if origin != self._settings.name:
            self.counters.relayed += len(data)
        return ef.Publish(topic=wire.ballot_topic(origin), data=data)

    def graft(self, origins: Iterable[str]) -> list[ef.Effect]:
        """Read origins that stayed silent at every neighbour again."""
        return _subscribe(self.gossip.graft(origins))


def _subscribe(reading: Mapping[str, tuple[str, ...]]) -> list[ef.Effect]:
    return [
        ef.Subscribe(neighbour=n, topics=tuple(wire.ballot_topic(o) for o in origins))
        for n, origins in reading.items()
    ]

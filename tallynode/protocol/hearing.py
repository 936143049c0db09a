"""What a peer hears and passes on: links, hellos, ballots, relays, refusals.

The half of the peer that faces its neighbours. It keeps every table that strangers can fill, each
bounded, and turns what they send into accepted ballots or counted refusals; the other half,
peer.py, decides when a round begins and closes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tallynode.errors import LocalError, RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import wire
from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.catching_up import CatchingUp
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.coding.ballot import Coding, MissingReference
from tallynode.protocol.contents import contents_of
from tallynode.protocol.counters import Counters
from tallynode.protocol.gossip import Gossip, Seen
from tallynode.protocol.limits import COMPLAINTS_MAX, REASON_CHARS_MAX
from tallynode.protocol.members import Members
from tallynode.protocol.messages import Ask, Ballot, Hello, State
from tallynode.protocol.rounds import Lags
from tallynode.protocol.settings import PeerSettings


class Hearing:
    """The ballots, members and links of one peer, and what it told and was told.

    Args:
        settings: this peer's view of the mesh.
    """

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self.counters = Counters(settings.payload)
        self.gossip = Gossip(settings.name, settings.reach)
        self.members = Members.of(settings.voters)
        self.box = BallotBox(settings.rounds.staleness if settings.per_round is None else 0)
        self.contents = contents_of(settings, self.box)
        self.catching_up = CatchingUp()
        self.lags = Lags(settings.rounds.deadline_min_s, settings.rounds.deadline_max_s)
        self.round = 0  # this peer's own; older ballots than its staleness allows are not kept
        self._states: dict[str, State] = {}  # of neighbours, as they say
        self._expelled: set[str] = set()  # voters; a relay of theirs is at no fault
        self._mismatched: set[str] = set()  # neighbours whose votes cannot count here
        self._complaints: set[tuple[str, str]] = set()  # said once, counted always

    def running_neighbours(self) -> list[str]:
        """Linked neighbours that have not said that they are done, and may need to hear us."""
        running = State.RUNNING
        return [n for n in self.gossip.linked if self._states.get(n, running) is running]

    def hello(self, state: State) -> ef.Effect:
        """Announce what must agree, and what this peer is doing."""
        mine = self._settings
        hello = Hello(
            mesh=mine.mesh,
            origin=mine.name,
            probe_digest=mine.probe_digest,
            classes=mine.classes,
            per_round=mine.per_round or mine.probes,
            method=mine.said,
            state=state,
        )
        data = wire.encode_hello(hello)
        self.counters.control += len(data)
        return ef.Publish(topic=wire.HELLO_TOPIC, data=data)

    def link_up(self, neighbour: str) -> list[ef.Effect]:
        """A neighbour's outbox is in reach: read there what can come through it."""
        if neighbour not in self._settings.reach:
            raise LocalError(f"{neighbour} is no neighbour of {self._settings.name}")
        topics = [wire.ballot_topic(origin) for origin in self.gossip.link_up(neighbour)]
        return [
            ef.Log(level="info", event="linked", fields={"neighbour": neighbour}),
            ef.Subscribe(neighbour=neighbour, topics=(*self._addressed(), *topics)),
        ]

    def _addressed(self) -> tuple[str, ...]:
        """Topics of a neighbour's outbox that are for everyone, or for this peer."""
        name = self._settings.name
        return wire.HELLO_TOPIC, wire.ask_topic(name), wire.answer_topic(name)

    def link_down(self, neighbour: str) -> list[ef.Effect]:
        """It is not any more: read elsewhere what came through it."""
        self.members.gone(neighbour)
        left = self._states.pop(neighbour, State.RUNNING)
        level = "warning" if left is State.RUNNING else "info"
        log = ef.Log(level=level, event="link lost", fields={"neighbour": neighbour})
        self.catching_up.forget(neighbour)
        return [log, *_subscribe(self.gossip.link_down(neighbour))]

    def expel(self, origin: str) -> list[ef.Effect]:
        """Forget how a voter has voted; neither wait for it nor hear it, whoever relays it."""
        self._expelled.add(origin)
        self.members.gone(origin)
        self.box.forget(origin)
        return [ef.Log(level="warning", event="not trusted", fields={"voter": origin})]

    def trust(self, origin: str) -> list[ef.Effect]:
        """Hear a voter again."""
        if origin not in self._expelled:
            return []
        self._expelled.remove(origin)
        return [ef.Log(level="info", event="trusted", fields={"voter": origin})]

    def receive(self, event: ev.Received, now: float) -> list[ef.Effect]:
        """Take a message in, or refuse and count it."""
        mine = self._settings
        try:
            message = wire.decode(event.data, event.neighbour, mine.mesh, mine.probe_digest)
            if isinstance(message, Hello):
                self.counters.received_control += len(event.data)
                return self._hear_hello(event.neighbour, message)
            if isinstance(message, Ask):
                self.counters.received_control += len(event.data)
                return self._hear_ask(event.neighbour, message)
            if message.origin in self._expelled:
                return []
            if event.topic == wire.answer_topic(mine.name):
                return self._hear_answer(event.neighbour, message, len(event.data), now)
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
            "method": (hello.method, mine.said),
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
        known = self.box.get(origin, round_)
        if known and not self._same(known, ballot):
            raise RemoteError(origin, f"cast two different ballots (the later came by {sender})")
        newest = round_ > self.members.table[origin].latest
        too_old = round_ < self.round - self._settings.rounds.staleness
        if known or (too_old and not newest):
            self.counters.received_duplicate += size
            surplus = self.gossip.prune(origin, round_, Seen(sender, ballot.hops_left))
            topics = (wire.ballot_topic(origin),)
            return [ef.Unsubscribe(neighbour=surplus, topics=topics)] if surplus else []
        try:
            held = self.contents.decode(origin, round_, ballot.coding, ballot.body)
        except MissingReference:
            return self._ask(sender, ballot, size)
        except DecodeError as error:
            raise RemoteError(
                sender, f"sent a ballot of {origin} that is damaged: {error}"
            ) from error
        self.counters.received_ballot += size
        return self._accept(sender, ballot, held, now)

    def _same(self, known: Held, ballot: Ballot) -> bool:
        """Whether a ballot says what is known; one that cannot be read here proves nothing."""
        if (known.coding, known.coded) == (ballot.coding, ballot.body):
            return True
        try:
            again = self.contents.decode(ballot.origin, ballot.round, ballot.coding, ballot.body)
        except DecodeError:
            return True
        return bool((again.content == known.content).all())

    def _accept(self, sender: str, ballot: Ballot, held: Held, now: float) -> list[ef.Effect]:
        """Count a ballot and pass it on, in the bytes in which it came."""
        origin, round_ = ballot.origin, ballot.round
        newest = round_ > self.members.table[origin].latest
        self.box.put(origin, round_, held)
        self.members.heard(origin, round_)
        self.gossip.first(origin, round_, Seen(sender, ballot.hops_left))
        self.lags.heard(round_, now)
        self.catching_up.done(origin, round_)
        if not (newest and ballot.hops_left):
            return []
        return [self.publish(origin, round_, ballot.hops_left - 1, held)]

    # -- ballots that refer to others which are not here ------------------------------------------

    def _ask(self, sender: str, ballot: Ballot, size: int) -> list[ef.Effect]:
        """Keep a ballot that cannot be read yet, and ask whoever sent it for what leads to it."""
        self.counters.received_ballot += size
        if not self.catching_up.wants(sender, ballot):
            return []
        ask = Ask(origin=ballot.origin, round=ballot.round)
        data = wire.encode_ask(ask, self._settings.mesh)
        self.counters.control += len(data)
        return [ef.Publish(topic=wire.ask_topic(sender), data=data, retain=False)]

    def _hear_ask(self, sender: str, ask: Ask) -> list[ef.Effect]:
        if ask.origin != self._settings.name and ask.origin not in self.members.table:
            raise RemoteError(sender, f"asked for ballots of {ask.origin}, which has no vote here")
        if not self.catching_up.may_answer(sender, ask):
            return []
        topic = wire.answer_topic(sender)
        return [
            self._publish(topic, ask.origin, round_, 0, (coding, coded), retain=False)
            for round_, coding, coded in self.contents.chain(ask.origin, ask.round)
        ]

    def _hear_answer(self, sender: str, answer: Ballot, size: int, now: float) -> list[ef.Effect]:
        """Take in a ballot that leads to one that waits, and see whether that can be read now."""
        waiting = self.catching_up.waiting(answer.origin, sender)
        if waiting is None or answer.round > waiting.round:
            return []  # it came by another road meanwhile
        self.counters.received_ballot += size
        try:
            held = self.contents.decode(answer.origin, answer.round, answer.coding, answer.body)
            if answer.round == waiting.round:
                as_sent = replace(held, coding=waiting.coding, coded=waiting.body)
                return self._accept(sender, waiting, as_sent, now)
            if self.box.get(answer.origin, answer.round) is None:
                self.box.put(answer.origin, answer.round, held)
            held = self.contents.decode(waiting.origin, waiting.round, waiting.coding, waiting.body)
        except MissingReference:
            return []  # the rest of the chain is still to come
        except DecodeError as error:
            raise RemoteError(
                sender, f"answered with a damaged ballot of {answer.origin}: {error}"
            ) from error
        return self._accept(sender, waiting, held, now)

    def publish(self, origin: str, round_: int, hops_left: int, held: Held) -> ef.Effect:
        """Put the latest ballot of an origin on this peer's outbox."""
        coded = (held.coding, held.coded)
        return self._publish(wire.ballot_topic(origin), origin, round_, hops_left, coded)

    def _publish(
        self,
        topic: str,
        origin: str,
        round_: int,
        hops_left: int,
        coded: tuple[Coding, bytes],
        *,
        retain: bool = True,
    ) -> ef.Effect:
        coding, body = coded
        ballot = Ballot(origin=origin, round=round_, hops_left=hops_left, coding=coding, body=body)
        data = wire.encode_ballot(ballot, self._settings.mesh, self._settings.probe_digest)
        of = self.counters
        of.ballot += len(data)
        of.by_coding[coding.name.lower()] = of.by_coding.get(coding.name.lower(), 0) + len(body)
        if origin != self._settings.name:
            of.relayed += len(data)
        return ef.Publish(topic=topic, data=data, retain=retain)

    def graft(self, origins: Iterable[str]) -> list[ef.Effect]:
        """Read origins that stayed silent at every neighbour again."""
        return _subscribe(self.gossip.graft(origins))


def _subscribe(reading: Mapping[str, tuple[str, ...]]) -> list[ef.Effect]:
    return [
        ef.Subscribe(neighbour=n, topics=tuple(wire.ballot_topic(o) for o in origins))
        for n, origins in reading.items()
    ]

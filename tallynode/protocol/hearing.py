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
from tallynode.protocol.answering import Answering, ballot_of
from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.catching_up import CatchingUp
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.coding.ballot import Coding, MissingReference
from tallynode.protocol.contents import contents_of
from tallynode.protocol.counters import Counters
from tallynode.protocol.deltas import Deltas
from tallynode.protocol.gossip import Gossip
from tallynode.protocol.greetings import Greetings
from tallynode.protocol.manners import Manners
from tallynode.protocol.members import Members
from tallynode.protocol.messages import Ask, Ballot, Hello, Key, Piece, Proof, State
from tallynode.protocol.rounds import Lags
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.signing import Signatures, Signer
from tallynode.protocol.speaking import Speaking
from tallynode.protocol.vouching import Vouching


class Hearing:
    """The ballots, members and links of one peer, and what it told and was told.

    Args:
        settings: this peer's view of the mesh.
        signer: this peer's key, and those of others; None: peers are not pinned.
    """

    def __init__(self, settings: PeerSettings, signer: Signer | None = None) -> None:
        self._settings = settings
        self.counters = Counters(settings.payload)
        self.speaking = Speaking(settings, self.counters)
        self.signatures = Signatures(settings, signer)
        self.manners = Manners(settings)
        self.gossip = Gossip(settings.name, settings.reach)
        self._hops_left = {origin: settings.hops_left(origin) for origin in settings.voters}
        self.members = Members.of(settings.voters)
        self.greetings = Greetings(settings, self.members)
        self.box = BallotBox(settings.rounds.staleness if settings.per_round is None else 0)
        self.contents = contents_of(settings, self.box)
        self.vouching = Vouching(settings, self.signatures, self.speaking, self.members, self.box)
        self.catching_up = CatchingUp()
        self.answering = Answering(
            settings.name,
            self.members,
            self.box,
            self.contents,
            self.catching_up,
            self.speaking,
        )
        self.deltas = Deltas(settings)
        self.lags = Lags(settings.rounds.deadline_min_s, settings.rounds.deadline_max_s)
        self.voted = 0  # the latest round in which the mesh has heard this peer vote
        self.round = 0  # this peer's own; older ballots than its staleness allows are not kept
        self.awaited = 0  # the round that is gathered and whose tally may come any moment

    def running_neighbours(self) -> list[str]:
        """Linked neighbours that may still need to hear us."""
        return self.greetings.running(self.gossip.linked)

    def merges_with(self, neighbour: str) -> bool:
        """Whether a neighbour's deltas are taken: whose votes do not count has no say here."""
        return self.vouching.has_say(neighbour) and not self.greetings.differs(neighbour)

    def deltas_of(self, round_: int) -> ef.Deltas:
        """What is to be merged in a round, by origin."""
        taken = self.deltas.take(round_)
        return {name: of for name, of in taken.items() if self.merges_with(name)}

    def greet(self, kept: Mapping[str, bytes]) -> list[ef.Effect]:
        """Say who this peer is, and what it was told in an earlier life."""
        return [*self.vouching.introduce(kept), self.speaking.hello(State.RUNNING)]

    def link_up(self, neighbour: str) -> list[ef.Effect]:
        """A neighbour's outbox is in reach: read there what can come through it."""
        if neighbour not in self._settings.reach:
            raise LocalError(f"{neighbour} is no neighbour of {self._settings.name}")
        origins, name = self.gossip.link_up(neighbour), self._settings.name
        addressed = (wire.HELLO_TOPIC, wire.ask_topic(name), wire.answer_topic(name))
        topics = [*self.vouching.topics(origins), *map(wire.ballot_topic, origins)]
        if self.signatures.used:  # the mesh may remember a vote of ours that our disk has lost
            topics.append(wire.ballot_topic(name))
        topics += self.deltas.topics(neighbour)
        return [
            ef.Log(level="info", event="linked", fields={"neighbour": neighbour}),
            ef.Subscribe(neighbour=neighbour, topics=(*addressed, *topics)),
        ]

    def link_down(self, neighbour: str) -> list[ef.Effect]:
        """It is not any more: read elsewhere what came through it."""
        self.members.gone(neighbour)
        left = self.greetings.forget(neighbour)
        level = "warning" if left is State.RUNNING else "info"
        log = ef.Log(level=level, event="link lost", fields={"neighbour": neighbour})
        self.catching_up.forget(neighbour)
        return [log, *_subscribe(self.gossip.link_down(neighbour))]

    def receive(self, event: ev.Received, now: float) -> list[ef.Effect]:
        """Take a message in, or refuse and count it."""
        neighbour = event.neighbour
        if self.manners.shuns(neighbour, now):
            self.counters.refused += 1
            return []
        try:
            self.manners.admit(neighbour, event.topic, len(event.data), now)
            return self._hear(event, now)
        except RemoteError as error:
            return self.refuse(error, neighbour, now)

    def refuse(self, error: RemoteError, neighbour: str, now: float) -> list[ef.Effect]:
        """Count what was refused of a neighbour's, and draw the consequences."""
        self.counters.refused += 1
        return self.manners.refuse(neighbour, error, now)

    def _hear(self, event: ev.Received, now: float) -> list[ef.Effect]:
        mine, neighbour, size = self._settings, event.neighbour, len(event.data)
        if not size and event.topic.startswith("d/"):
            return []  # a topic that the neighbour's latest delta does not reach
        message = wire.decode(
            event.data, neighbour, mine.mesh, mine.probe_digest, chosen=mine.chooses
        )
        if isinstance(message, Piece):
            self.counters.received_delta += size
            if not self.merges_with(neighbour):
                return []
            return self.deltas.hear(neighbour, event.topic, message)
        if not isinstance(message, Ballot):
            self.counters.received_control += size
        match message:
            case Hello():
                self.greetings.hear(neighbour, message)
                return []
            case Ask():
                return self.answering.hear(neighbour, message)
            case Key() | Proof():
                return self.vouching.hear(neighbour, message)
        if not self.vouching.has_say(message.origin):
            return []
        if event.topic == wire.answer_topic(mine.name):
            return self._hear_answer(neighbour, message, size, now)
        if event.topic != wire.ballot_topic(message.origin):
            raise RemoteError(neighbour, f"sent a ballot on topic {event.topic[:40]!r}")
        heard = self._hear_ballot(neighbour, message, size, now)
        if message.origin == mine.name:  # once is enough
            heard.append(ef.Unsubscribe(neighbour=neighbour, topics=(event.topic,)))
        return heard

    def _hear_ballot(self, sender: str, ballot: Ballot, size: int, now: float) -> list[ef.Effect]:
        origin, round_ = ballot.origin, ballot.round
        own = origin == self._settings.name and self.signatures.used
        if origin not in self.members.table and not own:
            why = f"sent a ballot of {origin}, which has no vote here"
            raise RemoteError(sender, why, differs=True)
        if self.greetings.differs(origin):
            raise RemoteError(origin, "voted although it differs", differs=True)
        known = self.box.get(origin, round_)
        if known and (other := self._otherwise(known, ballot)):
            return self._hear_second(sender, ballot, known, other)
        newest = own or round_ > self.members.table[origin].latest
        too_old = round_ < self.round - self._settings.rounds.staleness
        if known or (too_old and not newest):
            self.counters.received_duplicate += size
            surplus = self.gossip.prune(origin, round_, sender)
            topics = (wire.ballot_topic(origin),)
            return [ef.Unsubscribe(neighbour=surplus, topics=topics)] if surplus else []
        try:
            held = self.contents.decode(origin, round_, ballot.coding, ballot.body)
        except MissingReference:
            self.counters.received_ballot += size
            if self._is_early(ballot):
                self.catching_up.keep(sender, ballot)
                return []
            return self._ask(sender, ballot)
        except DecodeError as error:
            why = f"sent a ballot of {origin} that is damaged: {error}"
            raise RemoteError(sender, why) from error
        self.counters.received_ballot += size
        return self._accept(sender, ballot, held, now)

    def _otherwise(self, known: Held, ballot: Ballot) -> Held | None:
        """What a ballot says, if not what is known; one that cannot be read here says nothing."""
        if (known.coding, known.coded) == (ballot.coding, ballot.body):
            return None
        try:
            again = self.contents.decode(ballot.origin, ballot.round, ballot.coding, ballot.body)
        except DecodeError:
            return None
        return None if (again.content == known.content).all() else again

    def _hear_second(
        self, sender: str, ballot: Ballot, known: Held, other: Held
    ) -> list[ef.Effect]:
        """An origin has cast two ballots, or the sender has forged one."""
        self.signatures.check(sender, ballot, other.content)
        if not self.signatures.used:
            why = f"cast two different ballots (the later came by {sender})"
            raise RemoteError(ballot.origin, why)
        proof = self.signatures.contradiction(ballot, other.content, known.signature, known.content)
        return self.vouching.hear(sender, proof)

    def _accept(self, sender: str, ballot: Ballot, held: Held, now: float) -> list[ef.Effect]:
        """Count a ballot and pass it on, in the bytes in which it came, if its origin signed it."""
        self.signatures.check(sender, ballot, held.content)
        if ballot.signature or ballot.choice:
            held = replace(held, signature=ballot.signature, choice=ballot.choice)
        origin, round_ = ballot.origin, ballot.round
        if origin == self._settings.name:
            self.voted = max(self.voted, round_)
            self.catching_up.done(origin, round_)
            return []
        newest = round_ > self.members.table[origin].latest
        self.box.put(origin, round_, held)
        self.members.heard(origin, round_)
        self.gossip.first(origin, round_, sender)
        self.lags.heard(round_, now)
        self.catching_up.done(origin, round_)
        left = self._hops_left[origin]
        return [self.publish(origin, round_, left - 1, held)] if newest and left else []

    # -- ballots that refer to others which are not here ------------------------------------------

    def _is_early(self, ballot: Ballot) -> bool:
        """Whether all that a ballot lacks is the tally of the round that is gathered here."""
        if ballot.coding is not Coding.TALLY or ballot.round != self.awaited + 1:
            return False
        return self.box.get(ballot.origin, self.awaited) is not None

    def look_again(self, now: float) -> list[ef.Effect]:
        """The round has closed or is overdue: read what came early, or ask for what it lacks."""
        self.awaited = 0
        out: list[ef.Effect] = []
        for sender, ballot in self.catching_up.take_kept():
            left = self.members.has_left(ballot.origin)
            try:
                if self.vouching.has_say(ballot.origin):
                    out += self._hear_ballot(sender, ballot, 0, now)
            except RemoteError as error:
                out += self.refuse(error, sender, now)
            if left:  # its link broke since this came: it counts, and is no sign of life
                self.members.gone(ballot.origin)
        return out

    def _ask(self, sender: str, ballot: Ballot) -> list[ef.Effect]:
        """Keep a ballot that cannot be read yet, and ask whoever sent it for what leads to it."""
        if not self.catching_up.wants(sender, ballot):
            return []
        return [self.speaking.ask(sender, Ask(origin=ballot.origin, round=ballot.round))]

    def _hear_answer(self, sender: str, answer: Ballot, size: int, now: float) -> list[ef.Effect]:
        """Take in a ballot that leads to one that waits, and see whether that can be read now."""
        waiting = self.catching_up.waiting(answer.origin, sender)
        if waiting is None or answer.round > waiting.round:
            return []  # it came by another road meanwhile
        self.counters.received_ballot += size
        try:
            held = self.contents.decode(answer.origin, answer.round, answer.coding, answer.body)
            if answer.round == waiting.round:
                if not self.signatures.used:  # else only what was read, and so checked, goes on
                    held = replace(held, coding=waiting.coding, coded=waiting.body)
                answer = replace(answer, hops_left=waiting.hops_left)
                return self._accept(sender, answer, held, now)
            known = self.box.get(answer.origin, answer.round)
            if known and self.signatures.used and (known.content != held.content).any():
                return self._hear_second(sender, answer, known, held)
            if known is None:
                self.signatures.check(sender, answer, held.content)
                held = replace(held, signature=answer.signature)
                self.box.put(answer.origin, answer.round, held)
            held = self.contents.decode(waiting.origin, waiting.round, waiting.coding, waiting.body)
        except MissingReference:
            return []  # the rest of the chain is still to come
        except DecodeError as error:
            why = f"answered with a damaged ballot of {answer.origin}: {error}"
            raise RemoteError(sender, why) from error
        return self._accept(sender, waiting, held, now)

    def publish(self, origin: str, round_: int, hops_left: int, held: Held) -> ef.Effect:
        """Put the latest ballot of an origin on this peer's outbox."""
        return self.speaking.ballot(ballot_of(origin, round_, hops_left, held))

    def graft(self, origins: Iterable[str]) -> list[ef.Effect]:
        """Read origins that stayed silent at every neighbour again."""
        return _subscribe(self.gossip.graft(origins))


def _subscribe(reading: Mapping[str, tuple[str, ...]]) -> list[ef.Effect]:
    return [
        ef.Subscribe(neighbour=n, topics=tuple(wire.ballot_topic(o) for o in origins))
        for n, origins in reading.items()
    ]

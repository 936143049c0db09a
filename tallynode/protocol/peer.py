"""The peer: one event in, an ordered list of effects out. It never looks at a clock or a socket.

`step(event, now)` is the only way in; the caller executes the effects in order (a Save is durable
before the Publish behind it leaves) and calls again with a Tick at `deadline()`. The daemon and the
simulator drive the same class.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import snapshot as snap
from tallynode.protocol.bridging import Bridging
from tallynode.protocol.choosing import Choice
from tallynode.protocol.coding.reference import DEPTH_MAX
from tallynode.protocol.counters import Counters
from tallynode.protocol.hearing import Hearing
from tallynode.protocol.limits import ROUND_MAX
from tallynode.protocol.messages import State
from tallynode.protocol.rounds import Phase, Turn, turn
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.signing import Signer

BEHIND_ROUNDS = 2  # rounds that the others may be ahead before a round is left open no longer
AWAY_ROUNDS = 8  # rounds behind from which this peer was away, and did not only train for longer


class Peer:
    """One autonomous member of a mesh.

    Args:
        settings: this peer's view of the mesh.
        restored: the state saved before a restart, if any.
        signer: this peer's key, and those of others; None: peers are not pinned.
        kept: what Keep was asked to keep before a restart, by topic.
    """

    def __init__(
        self,
        settings: PeerSettings,
        restored: snap.Snapshot | None = None,
        *,
        signer: Signer | None = None,
        kept: Mapping[str, bytes] | None = None,
    ) -> None:
        self.settings = settings
        self.hearing = Hearing(settings, signer)
        self._kept = kept or {}
        self.phase = Phase.STARTING
        self._restored = restored
        self._free = restored.free if restored else 1  # no round before it is voted in anew
        self._covered = 0  # rounds before it may be voted in without a further Save
        self._started = self._round_started = self._voted = self._done = 0.0
        self._now = 0.0
        self._state: snap.Snapshot | None = None  # of the ballot that was cast last
        self._closed: Mapping[str, object] = {}
        self._alone = False
        self._choice = Choice(settings)
        self._asked = False  # for this round's overdue ballots, at every neighbour
        self.bridging = Bridging(settings, self.hearing, restored)

    @property
    def round(self) -> int:
        """The round that this peer is in; 0 before the first."""
        return self.hearing.round

    @property
    def counters(self) -> Counters:
        """Payload bytes so far."""
        return self.hearing.counters

    @property
    def linked(self) -> frozenset[str]:
        """Neighbours whose outbox this peer reads."""
        return self.hearing.gossip.linked

    def step(self, event: ev.Event, now: float) -> list[ef.Effect]:
        """Take one event at monotonic time `now`; returns what to do, in order."""
        self._now = now
        if self.phase is Phase.STOPPED:
            return []
        match event:
            case ev.Started():
                self._started = now
                out = self.hearing.greet(self._kept)
            case ev.LinkUp(neighbour=neighbour):
                out = self.hearing.link_up(neighbour)
            case ev.LinkDown(neighbour=neighbour):
                out = self.hearing.link_down(neighbour)
            case ev.Expelled(origin=origin):
                out = self.hearing.vouching.expel(origin)
            case ev.Trusted(origin=origin):
                out = self.hearing.vouching.trust(origin)
            case ev.Received():
                out = self.hearing.receive(event, now)
            case ev.Trained():
                out = self._vote(event, now)
            case ev.Learned():
                out = self._learned(event, now)
            case ev.Unsaved():
                self._covered = 0
                out = []
            case ev.Tick():
                out = []
            case ev.Stop():
                return self._stop()
        return out + self._due(now)

    def deadline(self) -> float | None:
        """When to send a Tick, in the time of `step`; None: not before another event."""
        rounds = self.settings.rounds
        patient_until = self._started + rounds.start_within_s
        if self.phase is Phase.STARTING:
            return patient_until
        if self.phase is Phase.GATHERING:
            quorum = self._has_quorum(self._now)
            wait = self.hearing.lags.patience_s() if quorum else rounds.deadline_max_s
            times = [self._voted + wait, patient_until]
            if not self._asked:
                times.append(self._voted + self.hearing.lags.overdue_s())
            return min(t for t in times if t > self._now or t == times[0])
        if self.phase is Phase.DONE:
            return self._done + rounds.linger_s
        return None

    def _due(self, now: float) -> list[ef.Effect]:
        """What the clock or the last event has made due."""
        rounds = self.settings.rounds
        if self.phase is Phase.STARTING:
            linked = self.linked >= set(self.settings.neighbours)
            if linked or now >= self._started + rounds.start_within_s:
                return self._begin(now)
        if self.phase is Phase.GATHERING:
            if how := self._closes(now):
                return self._close(how, now)
            if not self._asked and now >= self._voted + self.hearing.lags.overdue_s():
                self._asked = True
                return self.hearing.graft(sorted(self._owing(now))) + self.hearing.look_again(now)
        if self.phase is Phase.DONE:
            waiting = self.hearing.running_neighbours()
            if not waiting or now >= self._done + rounds.linger_s:
                self.phase = turn(self.phase, Turn.STOP)
                return [ef.Finish()]
        return []

    def _begin(self, now: float) -> list[ef.Effect]:
        """Enter the first round, or the one that was open when the process ended.

        What a round had chosen is not known any more: it is neither gone on with nor said again.
        """
        restored = self._restored
        done = restored is not None and (restored.closed or self.settings.chooses)
        if restored is None or (done and self._free <= self._last_round()):
            self.phase = turn(self.phase, Turn.BEGIN)
            return self._train(self._free, now)
        self.hearing.round, self._round_started = restored.round, now
        log = ef.Log(level="info", event="resumed", fields={"round": self.round})
        content = self.hearing.contents.restore(restored.body)
        if done:
            again = [] if self.settings.chooses else [self._ballot(content)]
            return [log, *again, *self.bridging.publish(), *self._end(now)]
        self.phase = turn(self.phase, Turn.RESUME)
        return [log, *self._cast(content, now), *self._due(now)]

    def _train(self, round_: int, now: float) -> list[ef.Effect]:
        ahead = self._ahead(now)
        if ahead >= round_ + AWAY_ROUNDS:  # train with them, vote with them; else they leap in turn
            ahead = min(ahead + 1, self._last_round())
        free = min(self.hearing.voted + 1, self._last_round())
        self.hearing.round = max(round_, ahead, free)
        self._round_started = now
        probes, bridge = self._choice.probes(self.round), self.bridging.at(self.round)
        return [ef.Train(round=self.round, probes=probes, bridge=bridge)]

    def _vote(self, event: ev.Trained, now: float) -> list[ef.Effect]:
        if self.phase is not Phase.TRAINING or event.round != self.round:
            raise LocalError(f"votes for round {event.round} in round {self.round}")
        if event.delta:
            self.bridging.made(event.round, event.delta)
        if self.round <= self.hearing.voted:  # the mesh remembers a vote that our disk has lost
            last = self.hearing.voted >= self._last_round()
            return self._end(now) if last else self._train(self.round, now)
        self.phase = turn(self.phase, Turn.VOTED)
        ahead = self._ahead(now)
        if self.settings.per_round is None and ahead >= self.round + BEHIND_ROUNDS:
            self.hearing.round = ahead  # nothing is cast yet: vote where the others are
        return self._cast(event.content, now)

    def _cast(self, content: np.ndarray, now: float) -> list[ef.Effect]:
        """Save this round's ballot, unless the last state covers it, then publish it."""
        self._voted, self._asked, self.hearing.awaited = now, False, self.round
        self.hearing.lags.voted(self.round, now)
        ballot, deltas = self._ballot(content), self.bridging.publish()
        covers = self.round < self._covered and not deltas
        if not covers:
            self._covered = max(self.round + self.settings.rounds.save_every, self._free)
        self._state = self._snapshot(content)
        if covers:
            return [ballot]
        return [ef.Save(round=self.round, state=snap.encode(self._state)), ballot, *deltas]

    def _ballot(self, content: np.ndarray) -> ef.Effect:
        """Hold this round's ballot and publish it."""
        mine = self.settings
        held = self.hearing.contents.encode(self.round, content)
        signature = self.hearing.signatures.sign(self.round, held.content)
        held = replace(held, signature=signature, choice=self._choice.tag(self.round))
        self.hearing.box.put(mine.name, self.round, held)
        return self.hearing.publish(mine.name, self.round, mine.hops - 1, held)

    def _snapshot(self, content: np.ndarray) -> snap.Snapshot:
        """What is to be remembered of this round."""
        mine = self.settings
        return snap.Snapshot(
            mesh=mine.mesh,
            name=mine.name,
            probe_digest=mine.probe_digest,
            round=self.round,
            count=len(content),
            body=self.hearing.contents.alone(content),
            covered=self._covered - self.round - 1,
            bridged=self.bridging.round,
            delta=self.bridging.delta,
            seed=mine.seed,
        )

    def _patient(self, now: float) -> bool:
        """Whether peers that have not been heard yet are still waited for."""
        return now < self._started + self.settings.rounds.start_within_s

    def _has_quorum(self, now: float) -> bool:
        waited_for = self.hearing.members.waited_for(unheard=self._patient(now))
        voted = len(waited_for) - len(self._owing(now)) + 1
        return voted >= self.settings.rounds.quorum * (len(waited_for) + 1)

    def _owing(self, now: float) -> frozenset[str]:
        return self.hearing.members.owing(self.round, unheard=self._patient(now))

    def _ahead(self, now: float) -> int:
        """The round that the others have reached, as far as this peer may follow."""
        return min(self.hearing.members.frontier(unheard=self._patient(now)), self._last_round())

    def _closes(self, now: float) -> str | None:
        """Why the round closes now, or None while it stays open."""
        if not self._owing(now) and not self.bridging.waits(self.round, self._patient(now)):
            return "all"
        if self._ahead(now) >= self.round + BEHIND_ROUNDS:
            return "behind"
        if self._has_quorum(now) and now >= self._voted + self.hearing.lags.patience_s():
            return "quorum"
        if now >= self._voted + self.settings.rounds.deadline_max_s:
            return "deadline"
        return None

    def _close(self, how: str, now: float) -> list[ef.Effect]:
        missing = sorted(self._owing(now))
        for name in missing:
            self.hearing.members.missed(name)
        probes = self._choice.probes(self.round)
        given, late = self.hearing.box.usable(self.round, self._choice.tag(self.round))
        outcome = self.hearing.contents.outcome(self.round, given, late, probes)
        self._choice.learn(self.round, outcome, len(given))
        own = given[self.settings.name]
        self._closed = {
            "voters": len(given),
            "late": late,
            "closed_by": how if outcome else "alone",
            "agreement": outcome.agreement(own) if outcome else None,
            "gather_s": now - self._voted,
        }
        self.phase = turn(self.phase, Turn.CLOSED)
        kept = max(self.settings.rounds.staleness, DEPTH_MAX + 1)  # to tally late ones, to decode
        self.hearing.box.forget_before(self.round - kept)
        logs: list[ef.Effect] = []
        if (outcome is None) != self._alone:
            self._alone = outcome is None
            said = "alone, training on private data only" if self._alone else "no longer alone"
            logs.append(ef.Log(level="warning", event=said, fields={"round": self.round}))
        grafts = self.hearing.graft([*missing, *self.hearing.vouching.audited(self.round)])
        deltas = self.hearing.deltas_of(self.round)
        learn = ef.Learn(round=self.round, outcome=outcome, deltas=deltas)
        return [*logs, *grafts, *self.hearing.look_again(now), learn]

    def _learned(self, event: ev.Learned, now: float) -> list[ef.Effect]:
        if self.phase is not Phase.LEARNING or event.round != self.round:
            raise LocalError(f"learned round {event.round} in round {self.round}")
        resumed = self._restored is not None and self._restored.round == self.round
        fields = {
            "round": self.round,
            "resumed": resumed,
            "round_s": now - self._round_started,
            "neighbours_linked": len(self.linked),
            "left_out": self.hearing.signatures.left_out,
            **self._closed,
            **event.metrics,
            **self.counters.fields(),
        }
        report: list[ef.Effect] = [ef.Report(fields=fields)]
        report += self.bridging.refused(event.refused, now)
        following = max(self.round + 1, self._free)
        if following <= self._last_round():
            self.phase = turn(self.phase, Turn.NEXT)
            if resumed:  # others may hold ballots behind it that our disk has lost: begin anew
                self.hearing.box.forget(self.settings.name)
            return [*report, *self._train(following, now)]
        closed: list[ef.Effect] = []
        if self._state is not None:
            state = replace(self._state, covered=0, closed=True)
            closed.append(ef.Save(round=self.round, state=snap.encode(state)))
        return [*report, *closed, *self._end(now)]

    def _end(self, now: float) -> list[ef.Effect]:
        """No round is left to vote in."""
        self.phase = turn(self.phase, Turn.LAST)
        self._done = now
        return [self.hearing.speaking.hello(State.DONE)]

    def _stop(self) -> list[ef.Effect]:
        self.phase = turn(self.phase, Turn.STOP)
        return [self.hearing.speaking.hello(State.LEAVING), ef.Finish()]

    def _last_round(self) -> int:
        return self.settings.rounds.count or ROUND_MAX

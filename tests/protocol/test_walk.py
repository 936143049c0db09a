"""Random walks: whatever happens in whatever order, the invariants of a peer hold.

A walk is a list of things that may happen to one peer of three (links that flap, ballots and
hellos of its neighbours, true, late, twice, forged or damaged, answers of the trainer, crashes,
and time that passes), drawn by hypothesis, which keeps the shortest walk that breaks a rule.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import limits, snapshot, wire
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ballot, Hello, State
from tallynode.protocol.peer import Peer
from tallynode.protocol.rounds import Phase
from tallynode.protocol.settings import PeerSettings, RoundSettings

DIGEST = bytes(range(8))
OTHERS = ("b", "c", "d")
others = st.sampled_from(OTHERS)

happenings = st.one_of(
    st.tuples(st.just("link"), st.sampled_from(["b", "c"])),
    st.tuples(st.just("unlink"), st.sampled_from(["b", "c"])),
    st.tuples(
        st.just("ballot"),
        st.sampled_from(["b", "c"]),
        others,
        st.integers(-3, 4),
        st.integers(0, 3),
        st.integers(0, 9).map(lambda n: n == 0),
    ),
    st.tuples(st.just("far"), st.sampled_from(["b", "c"]), others),
    st.tuples(st.just("hello"), st.sampled_from(["b", "c"]), st.sampled_from(State), st.booleans()),
    st.tuples(st.just("junk"), st.sampled_from(["b", "c"]), st.binary(max_size=12)),
    st.tuples(st.just("trainer")),
    st.tuples(st.just("trainer")),
    st.tuples(st.just("wait"), st.floats(0, 20)),
    st.tuples(st.just("wake")),
    st.tuples(st.just("crash")),
)


class Walk:
    """One peer, what it is linked to, and everything that it has said."""

    def __init__(self, of: PeerSettings) -> None:
        self.of = of
        self.now = 0.0
        self.saved: bytes | None = None
        self.cast: dict[int, list[int]] = {}  # round -> votes of the own ballot published
        self.round = 0
        self.begin()

    def begin(self) -> None:
        """Start the process from its disk."""
        restored = None if self.saved is None else snapshot.decode(self.saved)
        self.peer = Peer(self.of, restored)
        self.linked: set[str] = set()
        self.job: ef.Train | ef.Learn | None = None
        self.step(ev.Started())

    def step(self, event: ev.Event) -> None:
        """One event, and what must hold after any."""
        before = self.peer.phase
        for effect in self.peer.step(event, self.now):
            self.note(effect)
        assert self.peer.round >= self.round, "a round never decreases"
        self.round = self.peer.round
        deadline = self.peer.deadline()
        if deadline is not None:
            assert deadline > self.now, "what is due has been done"
        if isinstance(event, ev.Tick):
            assert self.peer.phase is not before or deadline != self.now
        if self.peer.phase is not Phase.STOPPED:
            self.check_bounds()

    def note(self, effect: ef.Effect) -> None:
        """Check one effect against what came before it."""
        match effect:
            case ef.Train() | ef.Learn():
                assert self.job is None, "one job at a time"
                assert effect.round == self.peer.round
                self.job = effect
            case ef.Save(state=state):
                self.saved = state
            case ef.Publish(topic="v/a", data=data):
                ballot = wire.decode(data, "a", "play", DIGEST)
                assert isinstance(ballot, Ballot)
                assert self.saved is not None, "on the disk before anybody can read it"
                assert snapshot.decode(self.saved).round == ballot.round
                held = self.peer.hearing.box.get("a", ballot.round)
                assert held is not None
                assert held.coded == ballot.body
                votes = held.content.tolist()
                assert self.cast.setdefault(ballot.round, votes) == votes
            case ef.Subscribe(neighbour=n) | ef.Unsubscribe(neighbour=n):
                assert n in self.linked

    def check_bounds(self) -> None:
        """No table grows with what is sent."""
        hearing = self.peer.hearing
        assert set(hearing.members.table) == set(OTHERS)
        for origin, rounds in hearing.box._held.items():
            assert origin in (*OTHERS, "a")
            assert len(rounds) <= limits.ROUNDS_HELD_MAX
        assert set(hearing.gossip._sources) <= set(OTHERS)
        assert hearing.gossip.linked == self.linked
        for origin, sources in hearing.gossip._sources.items():
            assert sources <= self.linked
            possible = {n for n in self.linked if origin in self.of.reach[n]}
            assert bool(sources) == bool(possible), "each origin is read somewhere if it can be"

    def answer(self) -> None:
        """The trainer finishes what it was asked."""
        job, self.job = self.job, None
        if isinstance(job, ef.Train):
            votes = (job.probes + job.round) % 3
            self.step(ev.Trained(round=job.round, content=votes))
        elif isinstance(job, ef.Learn):
            self.step(ev.Learned(round=job.round, metrics={}))

    def happen(self, what: str, *rest: Any) -> None:
        """One step of the walk."""
        match (what, *rest):
            case ("link", str(n)) if n not in self.linked:
                self.linked.add(n)
                self.step(ev.LinkUp(neighbour=n))
            case ("unlink", str(n)) if n in self.linked:
                self.linked.discard(n)
                self.step(ev.LinkDown(neighbour=n))
            case ("ballot", str(n), str(origin), int(offset), int(hops), bool(forged)):
                round_ = min(max(1, self.peer.round + offset), limits.ROUND_MAX)
                self.hear(n, origin, round_, hops, forged)
            case ("far", str(n), str(origin)):
                self.hear(n, origin, limits.ROUND_MAX - 1, 1, False)
            case ("hello", str(n), State() as state, bool(differs)):
                hello = Hello(
                    mesh="play",
                    origin=n,
                    probe_digest=DIGEST,
                    classes=4 if differs else 3,
                    per_round=self.of.per_round or self.of.probes,
                    method="tally",
                    state=state,
                )
                data = wire.encode_hello(hello)
                self.step(ev.Received(neighbour=n, topic="h", data=data))
            case ("junk", str(n), bytes(data)):
                self.step(ev.Received(neighbour=n, topic="v/b", data=data))
            case ("trainer",):
                self.answer()
            case ("wait", float(seconds)):
                self.pass_time(seconds)
            case ("wake",):
                deadline = self.peer.deadline()
                if deadline is not None:
                    self.pass_time(deadline - self.now)
            case ("crash",):
                self.round = 0  # memory is lost; the disk is not
                self.begin()

    def hear(self, sender: str, origin: str, round_: int, hops: int, forged: bool) -> None:
        """A ballot comes by a neighbour."""
        count = self.of.per_round or self.of.probes
        votes = (np.arange(count) + len(origin) + round_ + forged) % 3
        ballot = Ballot(
            origin=origin,
            round=round_,
            hops_left=hops,
            coding=Coding.PACKED,
            body=packed.encode(votes, 3),
        )
        data = wire.encode_ballot(ballot, "play", DIGEST)
        self.step(ev.Received(neighbour=sender, topic=f"v/{origin}", data=data))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, waking the peer whenever it asked to be woken."""
        end = self.now + seconds
        for _ in range(100):
            deadline = self.peer.deadline()
            if deadline is None or deadline > end:
                self.now = end
                return
            self.now = deadline
            self.step(ev.Tick())
        raise AssertionError("the peer wants to be woken without end")


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(happenings, max_size=60),
    st.sampled_from([None, 5]),
    st.sampled_from([0, 3]),
    st.sampled_from([0, 2]),
)
def test_whatever_happens_the_invariants_hold(
    peer_settings: Callable[..., PeerSettings],
    walk: list[tuple[Any, ...]],
    per_round: int | None,
    count: int,
    staleness: int,
) -> None:
    """No order of events raises, turns a round back, or casts two ballots for one round."""
    rounds = RoundSettings(count=count, staleness=staleness, deadline_max_s=30.0)
    reach = {"b": {"b": 1, "d": 2}, "c": {"c": 1, "d": 2}}
    one = Walk(peer_settings(reach=reach, hops=3, per_round=per_round, rounds=rounds))
    for step in walk:
        one.happen(*step)
    for n in sorted(one.linked):
        one.happen("unlink", n)
    for _ in range(12):  # nobody is left: it must come to an end, or go on alone
        one.happen("wait", 40.0)
        one.happen("trainer")
    if count:
        assert one.peer.phase is Phase.STOPPED or one.peer.round == 3
    else:
        assert one.peer.round > 1

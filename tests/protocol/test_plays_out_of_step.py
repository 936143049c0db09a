"""Peers that are alone, slow, silent, late, far ahead or far behind, as plays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, snapshot, wire
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ballot
from tallynode.protocol.peer import Peer
from tallynode.protocol.rounds import Phase
from tallynode.protocol.settings import RoundSettings

PAIR = graph.complete(["a", "b"])
TRIO = graph.complete(["a", "b", "c"])
EIGHT = [f"p{i}" for i in range(8)]
RING = graph.ring(EIGHT)
ENDLESS = RoundSettings(count=0)
DIGEST = bytes(range(8))
MakePlay = Callable[..., Any]


def ballot(origin: str, round_: int, votes: np.ndarray, hops_left: int = 0) -> bytes:
    """A ballot of the play's mesh as bytes."""
    coded = packed.encode(votes, 3)
    message = Ballot(
        origin=origin, round=round_, hops_left=hops_left, coding=Coding.PACKED, body=coded
    )
    return wire.encode_ballot(message, "play", DIGEST)


def test_a_peer_alone_trains_and_says_so_once(play: MakePlay) -> None:
    """With nobody there a peer begins after start_within, closes rounds alone, and logs it once."""
    mesh = play(PAIR, rounds=RoundSettings(count=4, start_within_s=3.0))
    mesh.start("a")
    assert mesh.peers["a"].deadline() == 3.0
    mesh.run(until=mesh.finished)
    reports = mesh.reports("a")
    assert {r["closed_by"] for r in reports.values()} == {"alone"}
    assert {r["agreement"] for r in reports.values()} == {None}
    assert all(learn.outcome is None for learn in mesh.did("a", ef.Learn))
    assert mesh.said("a").count("alone, training on private data only") == 1
    assert 3.0 < mesh.now < 5.0, "it began at start_within and waited for nobody"


def test_company_ends_loneliness(play: MakePlay) -> None:
    """A peer that trained alone says so when a second one joins, and both tally two ballots."""
    mesh = play(PAIR, rounds=RoundSettings(count=0, start_within_s=1.0))
    mesh.start("a")
    mesh.run(until=lambda: mesh.round_of("a") == 20)
    mesh.start("b")
    mesh.run(until=lambda: mesh.round_of("b") == 40)
    assert mesh.said("a").count("no longer alone") == 1
    assert mesh.reports("a")[35]["voters"] == mesh.reports("b")[35]["voters"] == 2
    assert len(mesh.ballots("b")) < 25, "the newcomer moved forward to its neighbour's round"


def test_a_peer_without_neighbours_begins_at_once(peer_settings: Callable[..., Any]) -> None:
    """A mesh of one needs no link and no deadline to begin."""
    peer = Peer(peer_settings(reach={}))
    assert [type(e) for e in peer.step(ev.Started(), 0.0)] == [ef.Publish, ef.Train]


def test_slow_starters_are_waited_for(play: MakePlay) -> None:
    """Early on a voter yet to be heard is waited for until start_within, not just 2 s."""
    mesh = play(PAIR, rounds=RoundSettings(count=2, start_within_s=10.0), train_s={"b": 6.0})
    mesh.start()
    mesh.run(until=mesh.finished)
    assert mesh.reports("a")[1]["voters"] == 2
    assert mesh.reports("a")[1]["closed_by"] == "all"


def test_who_never_speaks_is_waited_for_until_start_within(play: MakePlay) -> None:
    """After start_within the first round closes with those who are there."""
    rounds = RoundSettings(count=2, start_within_s=10.0)
    mesh = play(PAIR, rounds=rounds, train_s={"b": 1e6})
    mesh.start()
    mesh.run(until=lambda: mesh.peers["a"].phase is Phase.STOPPED)
    first, second = mesh.reports("a")[1], mesh.reports("a")[2]
    assert first["closed_by"] == "alone"
    assert 9.0 < first["round_s"] < 11.0
    assert second["round_s"] < 1.0


def test_without_a_quorum_the_round_closes_at_the_upper_deadline(play: MakePlay) -> None:
    """When most of the living stay silent, a round waits for deadline_max and closes anyway."""
    mesh = play(RING, rounds=RoundSettings(count=0, deadline_max_s=30.0))
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p0") == 3 and mesh.peers["p0"].phase is Phase.TRAINING)
    for name in EIGHT[2:7]:
        mesh.kill(name)
    mesh.run(until=lambda: mesh.round_of("p0") == 7)
    closed = {r: f["closed_by"] for r, f in mesh.reports("p0").items()}
    assert "deadline" in closed.values()
    late = next(r for r, how in closed.items() if how == "deadline")
    assert 30.0 <= mesh.reports("p0")[late]["round_s"] < 31.0
    assert closed[6] == "all"


@pytest.mark.parametrize(("rounds_late", "voters"), [(1, 2), (2, 2), (3, 1)])
def test_a_late_ballot_counts_while_it_is_fresh(
    play: MakePlay, rounds_late: int, voters: int
) -> None:
    """A ballot counts in later tallies within `staleness` rounds and not after them."""
    mesh = play(PAIR, rounds=RoundSettings(count=0, staleness=2, start_within_s=1.0))
    mesh.start("a")
    mesh.run(until=lambda: mesh.round_of("a") == 10 and mesh.peers["a"].phase is Phase.TRAINING)
    late = ballot("b", 10 - rounds_late, np.zeros(12, dtype=np.int64))
    mesh.tell("a", ev.LinkUp(neighbour="b"))
    mesh.tell("a", ev.Received(neighbour="b", topic="v/b", data=late))
    mesh.run(until=lambda: mesh.round_of("a") == 11)
    report = mesh.reports("a")[10]
    assert report["voters"] == voters
    assert report["late"] == voters - 1


def test_with_sampled_probes_a_ballot_of_another_round_never_counts(play: MakePlay) -> None:
    """Votes on other probes are not mixed into a tally, however fresh they are."""
    rounds = RoundSettings(count=0, staleness=2, start_within_s=1.0, deadline_min_s=0.1)
    mesh = play(PAIR, rounds=rounds, overrides={"*": {"per_round": 4}})
    mesh.start("a")
    mesh.run(until=lambda: mesh.round_of("a") == 10 and mesh.peers["a"].phase is Phase.TRAINING)
    mesh.tell("a", ev.LinkUp(neighbour="b"))
    data = ballot("b", 9, np.zeros(4, dtype=np.int64))
    mesh.tell("a", ev.Received(neighbour="b", topic="v/b", data=data))
    mesh.run(until=lambda: mesh.round_of("a") == 11)
    assert mesh.reports("a")[10]["closed_by"] == "alone"
    assert mesh.peers["a"].counters.refused == 0


def test_with_sampled_probes_an_old_ballot_revives_nobody(play: MakePlay) -> None:
    """A ballot that was heard before is a duplicate for as long as it would be accepted."""
    rounds = RoundSettings(count=0, staleness=2)
    mesh = play(TRIO, rounds=rounds, overrides={"*": {"per_round": 4}})
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 6 and mesh.peers["a"].phase is Phase.LEARNING)
    old = next(b for b in mesh.ballots("b") if b.round == 5)
    mesh.tell("a", ev.LinkDown(neighbour="b"))
    before = mesh.peers["a"].counters.received_ballot
    data = wire.encode_ballot(old, "play", DIGEST)
    mesh.tell("a", ev.Received(neighbour="c", topic="v/b", data=data))
    assert mesh.peers["a"].counters.received_ballot == before
    assert "b" not in mesh.peers["a"].hearing.members.waited_for(unheard=True)


@pytest.mark.parametrize("when", ["at the start", "in mid-run"])
def test_one_liar_about_the_round_drags_nobody(play: MakePlay, when: str) -> None:
    """In a mesh of three one far-future ballot moves no honest peer, even if it is heard first."""
    mesh = play(TRIO, rounds=RoundSettings(count=0), train_s={"b": 1.0})
    lie = ballot("c", 4_000_000_000, np.zeros(12, dtype=np.int64))
    mesh.start("a", "b")
    mesh.run(until_s=0.005 if when == "at the start" else 30.0)
    for name in ("a", "b"):
        mesh.tell(name, ev.LinkUp(neighbour="c"))
        mesh.tell(name, ev.Received(neighbour="c", topic="v/c", data=lie))
    mesh.run(until_s=mesh.now + 60.0)
    assert 20 < mesh.round_of("a") < 100
    assert 20 < mesh.round_of("b") < 100


def test_a_peer_left_behind_closes_its_round_and_follows(
    peer_settings: Callable[..., Any],
) -> None:
    """When two others are two rounds ahead, an open round is not waited for any longer.

    It trains for their round and not for the next: else groups of peers would leap over each other
    for ever. Only who was away trains for the round that they train for meanwhile.
    """
    peer = Peer(peer_settings(reach={n: {n: 1} for n in "bcd"}, rounds=ENDLESS))
    votes = np.zeros(12, dtype=np.int64)

    def hear(origin: str, round_: int) -> list[ef.Effect]:
        data = ballot(origin, round_, votes)
        return peer.step(ev.Received(neighbour=origin, topic=f"v/{origin}", data=data), 1.0)

    peer.step(ev.Started(), 1.0)
    for neighbour in "bcd":
        peer.step(ev.LinkUp(neighbour=neighbour), 1.0)
    for origin in "bcd":
        hear(origin, 1)
    peer.step(ev.Trained(round=1, content=votes), 1.0)
    peer.step(ev.Learned(round=1, metrics={}), 1.0)
    peer.step(ev.Trained(round=2, content=votes), 1.0)
    trained = []
    for mine, theirs in ((2, 4), (4, 10), (10, 30)):
        assert hear("b", theirs) == [], "one voice ahead is not enough"
        assert [type(e) for e in hear("c", theirs)] == [ef.Learn], "d still owes its ballot"
        report, train = peer.step(ev.Learned(round=mine, metrics={}), 1.0)
        assert isinstance(report, ef.Report)
        assert report.fields["closed_by"] == "behind"
        assert isinstance(train, ef.Train)
        trained.append(train.round)
        hear("d", train.round - 1)
        peer.step(ev.Trained(round=train.round, content=votes), 1.0)
    assert trained == [4, 10, 31]


def test_who_has_run_ahead_alone_lets_the_others_catch_up(play: MakePlay) -> None:
    """One peer far ahead of a majority that comes back waits for it instead of running away."""
    line = graph.of_pairs([("a", "b"), ("b", "c")])
    mesh = play(line, rounds=ENDLESS)
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("b") == 3)
    mesh.kill("a")
    mesh.kill("c")
    mesh.run(until=lambda: mesh.round_of("b") == 30)
    mesh.start("a", "c")
    mesh.run(until=lambda: min(mesh.round_of(n) for n in "abc") == 60)
    for name in "abc":
        reports = mesh.reports(name)
        assert {reports[r]["voters"] for r in range(45, 60)} == {3}
        assert {reports[r]["closed_by"] for r in range(45, 60)} == {"all"}


def test_a_newcomer_votes_where_the_others_are(play: MakePlay) -> None:
    """Who finds the others far ahead while training votes in their round, not in its own."""
    mesh = play(PAIR, rounds=RoundSettings(count=0, start_within_s=0.5), train_s={"b": 3.0})
    mesh.start("a")
    mesh.run(until=lambda: mesh.round_of("a") == 30)
    mesh.start("b")
    mesh.run(until=lambda: bool(mesh.ballots("b")))
    assert mesh.ballots("b")[0].round >= 30
    assert mesh.did("b", ef.Train)[0].round == 1


def test_done_is_done_after_a_restart(play: MakePlay) -> None:
    """A peer whose state is that of the last round repeats its ballot, closes it, and finishes."""
    mesh = play(PAIR, rounds=RoundSettings(count=3))
    mesh.start()
    mesh.run(until=mesh.finished)
    state = snapshot.decode(mesh.saved["a"])
    assert state.round == 3
    mesh.effects.clear()
    mesh.start("a")
    mesh.run(until=lambda: mesh.peers["a"].phase is Phase.STOPPED)
    assert [b.round for b in mesh.ballots("a")] == [3]

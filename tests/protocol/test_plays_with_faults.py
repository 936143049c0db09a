"""Peers that die, come back or are cut off, as plays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, wire
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


def test_a_killed_peer_costs_one_round_its_patience(play: MakePlay) -> None:
    """Seven of eight go on: at most one round each closes by quorum, all others by all."""
    mesh = play(RING, rounds=ENDLESS)
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p0") == 5)
    mesh.kill("p4")
    mesh.run(until=lambda: min(mesh.round_of(n) for n in mesh.peers) == 15)
    for name in mesh.peers:
        reports = mesh.reports(name)
        how = [reports[r]["closed_by"] for r in range(5, 15)]
        assert set(how) <= {"all", "quorum"}
        assert how.count("quorum") <= 1
        assert [reports[r]["voters"] for r in range(10, 15)] == [7] * 5
        assert max(reports[r]["round_s"] for r in range(5, 15)) < 3.0, "no 600 s without a quorum"
    assert any(r["closed_by"] == "quorum" for r in mesh.reports("p0").values())


def test_the_quorum_closes_at_the_adaptive_deadline(play: MakePlay) -> None:
    """A silent peer is waited for exactly as long as the recent lags suggest, once."""
    mesh = play(TRIO, rounds=RoundSettings(count=0, quorum=0.6, deadline_min_s=0.5))
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 5)
    mesh.kill("c")
    mesh.peers["a"].hearing.members.heard("c", 4)  # as if its link had not been seen to break
    mesh.run(until=lambda: mesh.round_of("a") == 8)
    mesh.peers["a"].hearing.members.heard("c", 7)
    mesh.run(until=lambda: mesh.round_of("a") == 10)
    reports = mesh.reports("a")
    assert reports[8]["closed_by"] == "quorum"
    assert 0.5 <= reports[8]["round_s"] < 1.0
    assert reports[9]["closed_by"] == "all"


@pytest.mark.parametrize("hops", [7, 5])
def test_a_ring_cut_at_one_place_still_brings_everyone_s_ballots(play: MakePlay, hops: int) -> None:
    """After a wire between two living peers breaks, ballots take the other way round.

    Also where that is longer than `hops`: how far a ballot travels is a matter of the graph.
    """
    mesh = play(RING, hops=hops, rounds=ENDLESS)
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p0") == 5)
    mesh.cut("p3", "p4")
    mesh.run(until=lambda: min(mesh.round_of(n) for n in EIGHT) == 20)
    for name in EIGHT:
        reports = mesh.reports(name)
        assert {reports[r]["voters"] for r in range(1, 20)} == {8}
        assert {reports[r]["closed_by"] for r in range(1, 20)} == {"all"}
        assert max(reports[r]["round_s"] for r in range(2, 20)) < 2.0, "no deadline was sat out"


def test_each_break_is_healed_in_its_own_round(play: MakePlay) -> None:
    """Overdue ballots are looked for in every round that needs it, not only in the first such."""
    mesh = play(RING, rounds=ENDLESS)
    mesh.start()
    for a, b in (("p3", "p4"), ("p6", "p7"), ("p0", "p1")):
        from_here = mesh.round_of("p0")
        mesh.run(until=lambda here=from_here: min(mesh.round_of(n) for n in EIGHT) == here + 10)
        mesh.cut(a, b)
        from_here = mesh.round_of("p0")
        mesh.run(until=lambda here=from_here: min(mesh.round_of(n) for n in EIGHT) == here + 10)
        mesh.mend(a, b)
    for name in EIGHT:
        assert {r["closed_by"] for r in mesh.reports(name).values()} == {"all"}
        assert max(r["round_s"] for r in mesh.reports(name).values()) < 2.0


def test_an_origin_missing_at_the_close_is_read_everywhere(
    peer_settings: Callable[..., Any],
) -> None:
    """When the round closes before anything was overdue, the silent are looked for at its close."""
    reach = {"b": {"b": 1, "d": 2}, "c": {"c": 1, "d": 2}}
    rounds = RoundSettings(deadline_min_s=0.0, quorum=0.5)
    peer = Peer(peer_settings(reach=reach, hops=2, rounds=rounds))
    votes = np.zeros(12, dtype=np.int64)

    def hear(by: str, origin: str, round_: int) -> list[ef.Effect]:
        data = ballot(origin, round_, votes)
        return peer.step(ev.Received(neighbour=by, topic=f"v/{origin}", data=data), 1.0)

    peer.step(ev.Started(), 1.0)
    peer.step(ev.LinkUp(neighbour="b"), 1.0)
    peer.step(ev.LinkUp(neighbour="c"), 1.0)
    for by, origin in (("b", "b"), ("c", "c"), ("b", "d")):
        hear(by, origin, 1)
    assert hear("c", "d", 1) == [ef.Unsubscribe(neighbour="c", topics=("v/d",))]
    peer.step(ev.Trained(round=1, content=votes), 1.0)
    peer.step(ev.Learned(round=1, metrics={}), 1.0)
    hear("b", "b", 2)
    hear("c", "c", 2)
    effects = peer.step(ev.Trained(round=2, content=votes), 1.0)
    assert ef.Subscribe(neighbour="c", topics=("v/d",)) in effects
    assert isinstance(effects[-1], ef.Learn)


def test_a_mended_wire_is_used_and_pruned_again(play: MakePlay) -> None:
    """Cut and mended, the ring settles into one copy of each ballot again."""
    mesh = play(RING, rounds=ENDLESS)
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p0") == 5)
    mesh.cut("p3", "p4")
    mesh.run(until=lambda: mesh.round_of("p0") == 12)
    mesh.mend("p3", "p4")
    mesh.run(until=lambda: min(mesh.round_of(n) for n in EIGHT) == 30)
    assert set(mesh.copies(28).values()) == {1}
    assert len(mesh.copies(28)) == 56


@pytest.mark.parametrize("keeps_its_disk", [True, False])
def test_a_peer_that_comes_back_after_ten_rounds_joins_the_others(
    play: MakePlay, keeps_its_disk: bool
) -> None:
    """It moves forward to the round of the others, votes no round twice, and is counted again."""
    mesh = play(RING, rounds=ENDLESS, overrides={"*": {"coding": "packed"}})
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p4") == 5 and mesh.peers["p4"].phase is Phase.GATHERING)
    mesh.kill("p4")
    mesh.run(until=lambda: mesh.round_of("p0") == 15)
    if not keeps_its_disk:
        del mesh.saved["p4"]
    mesh.start("p4")
    mesh.run(until=lambda: min(mesh.round_of(n) for n in EIGHT) == 30)
    seen: dict[int, bytes] = {}
    for ballot in mesh.ballots("p4"):
        assert seen.setdefault(ballot.round, ballot.body) == ballot.body
    rounds = [b.round for b in mesh.ballots("p4")]
    assert rounds == sorted(rounds)
    assert not {8, 9, 10, 11, 12, 13} & set(rounds), "it did not plod through what is over"
    for name in EIGHT:
        reports = mesh.reports(name)
        assert [reports[r]["voters"] for r in range(24, 30)] == [8] * 6
        assert {reports[r]["closed_by"] for r in range(24, 30)} == {"all"}
        assert mesh.refusals(name) == []
    assert ("resumed" in mesh.said("p4")) is keeps_its_disk


def test_a_restarted_peer_repeats_the_same_ballot(play: MakePlay) -> None:
    """What was saved is published again byte for byte, and nobody counts it as another ballot."""
    mesh = play(PAIR, rounds=ENDLESS, train_s={"b": 5.0})
    mesh.start()
    mesh.run(until=lambda: mesh.peers["a"].phase is Phase.GATHERING)
    first = mesh.ballots("a")
    mesh.kill("a")
    mesh.start("a")
    mesh.run(until=lambda: mesh.round_of("b") == 2)
    assert mesh.ballots("a")[:2] == first * 2
    assert mesh.reports("b")[1]["voters"] == 2
    assert mesh.refusals("b") == []


def test_a_voter_that_is_expelled_has_no_say_any_more(play: MakePlay) -> None:
    """Nor have its ballots that are held or relayed, from that instant; trusted again, it votes."""
    mesh = play(TRIO, rounds=ENDLESS)
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 5)
    mesh.cut("a", "c")  # b still hears c, and relays it
    mesh.tell("a", ev.Expelled(origin="c"))
    mesh.run(until=lambda: min(mesh.round_of(n) for n in "ab") == 9)
    assert [mesh.reports("a")[r]["voters"] for r in range(5, 9)] == [2, 2, 2, 2]
    assert {mesh.reports("b")[r]["voters"] for r in range(5, 9)} == {3}
    mesh.tell("a", ev.Trusted(origin="c"))
    mesh.run(until=lambda: mesh.round_of("a") == 15)
    assert [mesh.reports("a")[r]["voters"] for r in range(12, 15)] == [3, 3, 3]
    assert not mesh.refusals("a")


def test_saving_seldom_never_makes_a_second_ballot(play: MakePlay) -> None:
    """One state serves five rounds: whenever a peer dies, it votes in none of them twice."""
    rounds = RoundSettings(count=0, save_every=5, deadline_min_s=0.5)
    mesh = play(TRIO, rounds=rounds)
    mesh.start()
    for died_in in (3, 9, 16, 17, 30):
        mesh.run(until=lambda r=died_in: mesh.round_of("a") >= r)
        mesh.kill("a")
        mesh.start("a")
    mesh.run(until=lambda: mesh.round_of("a") == 60)
    voted = [ballot.round for ballot in mesh.ballots("a")]
    saved = {effect.round for effect in mesh.did("a", ef.Save)}
    assert len(voted) - len(set(voted)) <= 5, "only a restored round is repeated"
    assert {r for r in voted if voted.count(r) > 1} <= saved
    assert list(dict.fromkeys(voted)) == sorted(set(voted)), "what is new goes forward"
    assert len(mesh.did("a", ef.Save)) <= len(voted) / 5 + 2 * 5
    assert mesh.reports("a")[59]["voters"] == 3


def test_who_is_restored_from_an_old_state_is_read_by_those_who_hold_more(play: MakePlay) -> None:
    """They hold ballots that its disk never had; its new ones refer to none before its death."""
    rounds = RoundSettings(count=0, save_every=5, deadline_min_s=0.5)
    mesh = play(TRIO, rounds=rounds, overrides={"*": {"probes": 600}})
    mesh.votes = lambda _, round_, probes: np.where(probes % 9 == round_ % 9, 2, probes % 2)
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") >= 10)
    mesh.kill("a")
    mesh.start("a")
    mesh.run(until=lambda: mesh.round_of("a") == 24)
    assert mesh.did("a", ef.Save)[1].round == 6, "it had voted in 9 and came back with 6"
    for name in "bc":
        assert [mesh.reports(name)[r]["voters"] for r in range(13, 23)] == [3] * 10
        assert not [p for p in mesh.did(name, ef.Publish) if p.topic.startswith("q/")]


def test_a_state_that_covers_the_last_round_ends_the_peer(play: MakePlay) -> None:
    """Restarted where it may have voted to the end already, a peer is done."""
    mesh = play(PAIR, rounds=RoundSettings(count=6, save_every=10))
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 4)
    mesh.kill("a")
    mesh.start("a")
    mesh.run(until=mesh.finished)
    assert [ballot.round for ballot in mesh.ballots("a")] == [1, 2, 3, 1]

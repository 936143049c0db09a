"""Context-coded ballots on a mesh: who can read them, and how whoever cannot catches up."""

from collections.abc import Callable
from typing import Any

import pytest

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, wire
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ask, Ballot
from tallynode.protocol.peer import Peer
from tallynode.protocol.settings import RoundSettings

EIGHT = [f"p{i}" for i in range(8)]
RING = graph.ring(EIGHT)
PROBES = {"probes": 600, "common": True}  # enough that a reference pays
ENDLESS = RoundSettings(count=0)
MakePlay = Callable[..., Any]


def asks(mesh: Any, name: str) -> list[ef.Publish]:
    """What a peer asked."""
    return [p for p in mesh.did(name, ef.Publish) if p.topic.startswith("q/")]


def answers(mesh: Any, name: str) -> list[ef.Publish]:
    """What a peer answered."""
    return [p for p in mesh.did(name, ef.Publish) if p.topic.startswith("a/")]


def test_in_steady_state_ballots_refer_to_the_tally_and_nobody_asks(play: MakePlay) -> None:
    """Where all hear all, a ballot that repeats the last costs a tenth of packed, and is read."""
    mesh = play(RING, rounds=RoundSettings(count=12), overrides={"*": PROBES})
    mesh.start()
    mesh.run()
    for name in EIGHT:
        last = mesh.ballots(name)[-1]
        assert last.coding is Coding.TALLY
        assert len(last.body) * 10 < packed.packed_bytes(600, 3)
        assert asks(mesh, name) == []
        assert [r["voters"] for r in mesh.reports(name).values()] == [8] * 12
        assert {r["closed_by"] for r in mesh.reports(name).values()} == {"all"}


def test_where_not_all_hear_all_ballots_refer_to_their_own_past_alone(play: MakePlay) -> None:
    """With one hop tallies differ between peers and are no reference."""
    mesh = play(RING, hops=1, rounds=RoundSettings(count=6), overrides={"*": {"probes": 600}})
    mesh.start()
    mesh.run()
    assert {b.coding for name in EIGHT for b in mesh.ballots(name)[1:]} == {Coding.HISTORY}
    assert all(asks(mesh, name) == [] for name in EIGHT)


def test_probes_that_change_are_no_reference(play: MakePlay) -> None:
    """With a sample of probes a round, every ballot stands alone."""
    sampled = {"probes": 600, "per_round": 300}
    mesh = play(RING, rounds=RoundSettings(count=4), overrides={"*": sampled})
    mesh.start()
    mesh.run()
    codings = {b.coding for name in EIGHT for b in mesh.ballots(name)}
    assert codings <= {Coding.ALONE, Coding.PACKED}


@pytest.mark.parametrize("keeps_its_disk", [True, False])
def test_who_comes_late_asks_and_loses_no_round(play: MakePlay, keeps_its_disk: bool) -> None:
    """A peer without the references is given them, tallies everyone, and then asks no more."""
    mesh = play(RING, rounds=ENDLESS, overrides={"*": PROBES})
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p4") == 9)
    mesh.kill("p4")
    mesh.run(until=lambda: mesh.round_of("p0") == 20)
    if not keeps_its_disk:
        del mesh.saved["p4"]
    mesh.start("p4")
    mesh.run(until=lambda: min(mesh.round_of(n) for n in EIGHT) == 30)
    asked = len(asks(mesh, "p4"))
    assert asked > 0
    mesh.run(until=lambda: min(mesh.round_of(n) for n in EIGHT) == 40)
    assert len(asks(mesh, "p4")) == asked
    for name in EIGHT:
        reports = mesh.reports(name)
        assert [reports[r]["voters"] for r in range(26, 40)] == [8] * 14
        assert {reports[r]["closed_by"] for r in range(26, 40)} == {"all"}
        assert mesh.refusals(name) == []


def test_a_lost_ballot_is_made_up_for(play: MakePlay) -> None:
    """A cut wire that hides some rounds of an end of a line costs asks, not votes."""
    line = graph.of_pairs([("a", "b"), ("b", "c")])
    rounds = RoundSettings(count=0, deadline_min_s=0.5, deadline_max_s=1.0)
    mesh = play(line, rounds=rounds, overrides={"*": PROBES})
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("c") == 8)
    mesh.cut("b", "c")
    mesh.run(until=lambda: mesh.round_of("b") == 12)
    mesh.mend("b", "c")
    mesh.run(until=lambda: min(mesh.round_of(n) for n in "abc") == 40)
    for name in "abc":
        assert [mesh.reports(name)[r]["voters"] for r in range(32, 40)] == [3] * 8
        assert mesh.refusals(name) == []


def test_a_ballot_that_overtakes_a_round_waits_for_its_tally(play: MakePlay) -> None:
    """Where roads differ, a fast peer's next ballot comes before a slow one's last: nobody asks."""
    slow = {("p5", "p6"): 0.3}  # p0 reads p5 over that road, since it is the shorter, p1 does not
    rounds = RoundSettings(count=12, quorum=1.0, deadline_min_s=60.0, deadline_max_s=90.0)
    mesh = play(RING, rounds=rounds, overrides={"*": PROBES}, latency_s=slow)
    overtaken = 0

    def finished() -> bool:
        nonlocal overtaken
        overtaken += sum(bool(peer.hearing.catching_up.kept()) for peer in mesh.peers.values())
        return bool(mesh.finished())

    mesh.start()
    mesh.run(until=finished)
    assert overtaken > 0
    for name in EIGHT:
        assert asks(mesh, name) == []
        assert {(r["voters"], r["closed_by"]) for r in mesh.reports(name).values()} == {(8, "all")}
        assert {b.coding for b in mesh.ballots(name)[2:]} == {Coding.TALLY}


@pytest.mark.parametrize("link_breaks", [False, True])
def test_it_waits_no_longer_than_until_the_round_is_overdue(
    play: MakePlay, link_breaks: bool
) -> None:
    """Where the rest of a round does not come, what the next ballot lacks is asked for.

    If the link to its origin breaks meanwhile, it is no sign that the origin is still there.
    """
    latency = {("c", "a"): 0.005}
    triangle = graph.complete("abc")
    rounds = RoundSettings(count=0, quorum=1.0, deadline_min_s=4.0, deadline_max_s=60.0)
    mesh = play(triangle, hops=1, rounds=rounds, overrides={"*": PROBES}, latency_s=latency)
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 6)
    latency["c", "a"] = 0.4 if link_breaks else 30.0
    mesh.run(until=lambda: mesh.peers["a"].hearing.catching_up.kept())
    assert (mesh.round_of("a"), asks(mesh, "a")) == (6, [])
    hearing = mesh.peers["a"].hearing
    if link_breaks:
        mesh.cut("a", "b")
        mesh.run(until=lambda: not hearing.catching_up.kept())
        assert hearing.box.get("b", 7) is not None, "what it said counts"
        assert asks(mesh, "a") == []
    else:
        mesh.run(until_s=mesh.now + 2.0)
        assert len(asks(mesh, "a")) == 1
        assert hearing.box.get("b", 7) is not None
    assert hearing.members.has_left("b") is link_breaks


def test_an_ask_is_answered_once_and_only_for_a_voter(play: MakePlay) -> None:
    """A neighbour that asks again and again costs one chain; a stranger's name is refused."""
    mesh = play(RING, rounds=ENDLESS, overrides={"*": PROBES})
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p0") == 9)
    ask = wire.encode_ask(Ask(origin="p3", round=8), "play")
    for _ in range(50):
        mesh.tell("p0", ev.Received(neighbour="p1", topic="q/p0", data=ask))
    chain = [mesh.decode(p.data) for p in answers(mesh, "p0")]
    assert [b.round for b in chain] == list(range(2, 9))
    assert chain[0].coding in (Coding.ALONE, Coding.PACKED)
    stranger = wire.encode_ask(Ask(origin="nobody", round=8), "play")
    mesh.tell("p0", ev.Received(neighbour="p1", topic="q/p0", data=stranger))
    assert mesh.peers["p0"].counters.refused == 1


def test_an_answer_to_no_question_changes_nothing(play: MakePlay) -> None:
    """Who was not asked cannot fill the box with an origin's past."""
    mesh = play(RING, rounds=ENDLESS, overrides={"*": PROBES})
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("p0") == 4)
    votes = packed.encode(mesh.peers["p0"].hearing.box.get("p0", 3).content, 3)
    forged = Ballot(origin="p3", round=99, hops_left=0, coding=Coding.PACKED, body=votes)
    data = wire.encode_ballot(forged, "play", bytes(range(8)))
    mesh.tell("p0", ev.Received(neighbour="p1", topic="a/p0", data=data))
    assert mesh.peers["p0"].hearing.box.get("p3", 99) is None


@pytest.mark.parametrize("coding", [Coding.HISTORY, Coding.TALLY])
def test_a_neighbour_takes_no_other_ones_place(play: MakePlay, coding: Coding) -> None:
    """An unreadable ballot of b's that m has forged keeps nobody from hearing b."""
    triangle = graph.of_pairs([("a", "b"), ("a", "m"), ("b", "m")])
    mesh = play(triangle, pinned=True, rounds=ENDLESS, overrides={"*": PROBES})
    mesh.start("b", "m")
    mesh.run(until=lambda: mesh.round_of("b") == 6)
    mesh.start("a")
    mesh.run(until=lambda: "m" in mesh.peers["a"].linked)
    for round_ in (7, 2**32 - 2):
        forged = Ballot(
            origin="b",
            round=round_,
            hops_left=1,
            coding=coding,
            body=bytes([0x10, 0, 1, 2, 3, 4]),
            signature=bytes(64),
        )
        data = wire.encode_ballot(forged, "play", bytes(range(8)))
        mesh.tell("a", ev.Received(neighbour="m", topic="v/b", data=data))
    mesh.run(until=lambda: mesh.round_of("a") == 20)
    assert [mesh.reports("a")[r]["voters"] for r in range(14, 20)] == [3] * 6


def test_a_ballot_that_cannot_be_read_yet_is_bounded(
    peer_settings: Callable[..., Any],
) -> None:
    """One waiting ballot an origin: a flood of unreadable rounds leaves the newest."""
    peer = Peer(peer_settings(probes=600))
    peer.step(ev.Started(), 0.0)
    peer.step(ev.LinkUp(neighbour="b"), 0.1)
    name = (1 << 12).to_bytes(2, "big")
    for round_ in range(1, 200):
        ballot = Ballot(
            origin="b", round=round_, hops_left=0, coding=Coding.HISTORY, body=name + b"x"
        )
        data = wire.encode_ballot(ballot, "play", bytes(range(8)))
        peer.step(ev.Received(neighbour="b", topic="v/b", data=data), 0.2)
    waiting = peer.hearing.catching_up.waiting("b", "b")
    assert waiting is not None
    assert waiting.round == 199
    assert peer.hearing.box.up_to("b", 1000) == []

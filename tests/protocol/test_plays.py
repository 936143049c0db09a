"""Peers that meet, vote and close their rounds, as plays without mishaps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallynode.errors import LocalError
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, wire
from tallynode.protocol.peer import Peer
from tallynode.protocol.rounds import Phase, probes_of_round
from tallynode.protocol.settings import RoundSettings

PAIR = graph.complete(["a", "b"])
EIGHT = [f"p{i}" for i in range(8)]
RING = graph.ring(EIGHT)
MakePlay = Callable[..., Any]


def test_two_peers_vote_and_close_every_round_by_all(play: MakePlay) -> None:
    """Two peers that hear each other close each round with both ballots, then finish."""
    mesh = play(PAIR, rounds=RoundSettings(count=5))
    mesh.start()
    mesh.run(until=mesh.finished)
    for name in ("a", "b"):
        reports = mesh.reports(name)
        assert sorted(reports) == [1, 2, 3, 4, 5]
        assert {r["closed_by"] for r in reports.values()} == {"all"}
        assert {r["voters"] for r in reports.values()} == {2}
        assert {r["late"] for r in reports.values()} == {0}
        assert {r["accuracy"] for r in reports.values()} == {0.5}
        assert len(mesh.did(name, ef.Finish)) == 1
    assert mesh.now < 5.0, "nobody waited for a deadline or lingered"


def test_both_learn_the_same_consensus(play: MakePlay) -> None:
    """The same ballots give every peer the same labels and counts, whatever order they came in."""
    mesh = play(RING, rounds=RoundSettings(count=2))
    mesh.start()
    mesh.run(until=mesh.finished)
    lessons = [mesh.did(name, ef.Learn)[1].outcome for name in EIGHT]
    for other in lessons[1:]:
        assert np.array_equal(other.labels, lessons[0].labels)
        assert np.array_equal(other.counts, lessons[0].counts)
    assert np.array_equal(lessons[0].labels, np.arange(12) % 3)


def test_a_ring_of_eight_tallies_everyone_from_the_first_round(play: MakePlay) -> None:
    """With ballots relayed to all, each of eight peers tallies eight ballots in every round."""
    mesh = play(RING, rounds=RoundSettings(count=6))
    mesh.start()
    mesh.run(until=mesh.finished)
    for name in EIGHT:
        reports = mesh.reports(name)
        assert [reports[r]["voters"] for r in range(1, 7)] == [8] * 6
        assert {r["closed_by"] for r in reports.values()} == {"all"}
        assert mesh.refusals(name) == []


@pytest.mark.parametrize(
    "edges",
    [
        RING,
        graph.torus([f"t{i}" for i in range(16)], 4, 4),
        graph.complete(EIGHT),
        graph.small_world([f"w{i:02}" for i in range(12)], 4, 0.3, 7),
    ],
    ids=["ring", "torus", "complete", "small-world"],
)
def test_in_steady_state_every_ballot_arrives_once(play: MakePlay, edges: graph.Edges) -> None:
    """After pruning each peer receives each other peer's ballot exactly once a round."""
    mesh = play(edges, rounds=RoundSettings(count=8))
    mesh.start()
    mesh.run(until=mesh.finished)
    copies = mesh.copies(7)
    everyone = {(a, b) for a in mesh.names for b in mesh.names if a != b}
    assert set(copies) == everyone
    assert set(copies.values()) == {1}
    assert sum(mesh.copies(1).values()) >= len(everyone), "the first round floods"


def test_one_hop_hears_only_the_neighbours(play: MakePlay) -> None:
    """With hops 1 a ring peer tallies three ballots and nothing is relayed."""
    mesh = play(RING, hops=1, rounds=RoundSettings(count=3))
    mesh.start()
    mesh.run(until=mesh.finished)
    for name in EIGHT:
        assert {r["voters"] for r in mesh.reports(name).values()} == {3}
        assert mesh.peers[name].counters.relayed == 0
    assert all(origin in mesh.neighbours[name] for name, origin in mesh.copies(2))


def test_two_hops_hear_the_neighbours_of_neighbours(play: MakePlay) -> None:
    """With hops 2 a ring peer tallies five ballots; the last edge is not overrun."""
    mesh = play(RING, hops=2, rounds=RoundSettings(count=4))
    mesh.start()
    mesh.run(until=mesh.finished)
    assert {r["voters"] for n in EIGHT for r in mesh.reports(n).values()} == {5}


def test_the_state_is_saved_before_the_ballot_leaves(play: MakePlay) -> None:
    """In every step that publishes an own ballot, the Save of that round stands before it."""
    mesh = play(RING, rounds=RoundSettings(count=4))
    mesh.start()
    mesh.run(until=mesh.finished)
    for name in EIGHT:
        saved = 0
        for who, effect in mesh.effects:
            if who == name and isinstance(effect, ef.Save):
                saved = effect.round
            if who == name and effect in mesh.did(name, ef.Publish):
                message = mesh.decode(effect.data)
                if getattr(message, "round", None) and message.origin == name:
                    assert message.round == saved


def test_one_ballot_a_round(play: MakePlay) -> None:
    """A peer publishes one ballot of its own in each round, rounds ascending."""
    mesh = play(RING, rounds=RoundSettings(count=5))
    mesh.start()
    mesh.run(until=mesh.finished)
    for name in EIGHT:
        assert [b.round for b in mesh.ballots(name)] == [1, 2, 3, 4, 5]


def test_sampled_probes_are_the_same_on_every_peer(play: MakePlay) -> None:
    """With per_round, all peers vote on the same sample, another one in each round."""
    mesh = play(RING, rounds=RoundSettings(count=5), overrides={"*": {"per_round": 4}})
    mesh.start()
    mesh.run(until=mesh.finished)
    for round_ in range(1, 6):
        expected = probes_of_round(7, round_, 12, 4)
        for name in EIGHT:
            asked = {t.round: t.probes for t in mesh.did(name, ef.Train)}
            learnt = {t.round: t.outcome for t in mesh.did(name, ef.Learn)}
            assert np.array_equal(asked[round_], expected)
            assert np.array_equal(learnt[round_].probes, expected)
            assert np.array_equal(learnt[round_].labels, expected % 3)


def test_with_count_zero_a_peer_goes_on_until_it_is_stopped(play: MakePlay) -> None:
    """rounds.count 0 has no last round; Stop says that the peer leaves and ends it at once."""
    mesh = play(PAIR, rounds=RoundSettings(count=0))
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 50)
    box = mesh.peers["a"].hearing.box
    assert box.get("b", 48) is not None
    assert box.get("b", 40) is None, "what nobody can use any more is dropped"
    mesh.tell("a", ev.Stop())
    assert mesh.peers["a"].phase is Phase.STOPPED
    last = mesh.did("a", ef.Publish)[-1]
    assert last.topic == wire.HELLO_TOPIC
    assert mesh.did("a", ef.Finish)
    assert mesh.peers["a"].deadline() is None
    assert mesh.peers["a"].step(ev.Tick(), mesh.now) == []


def test_a_leaving_neighbour_is_not_waited_for(play: MakePlay) -> None:
    """After a LEAVING hello the other goes on alone without sitting out a deadline."""
    mesh = play(PAIR, rounds=RoundSettings(count=0))
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 5)
    mesh.tell("b", ev.Stop())
    left_at, left_in = mesh.now, mesh.round_of("a")
    mesh.run(until=lambda: mesh.round_of("a") == left_in + 5)
    assert mesh.now - left_at < 2.0
    assert mesh.said("a").count("alone, training on private data only") == 1


def test_who_is_done_serves_neighbours_that_are_not(play: MakePlay) -> None:
    """A peer that is done stays while a linked neighbour runs, and goes when that is done too."""
    mesh = play(PAIR, rounds=RoundSettings(count=3, linger_s=60.0))
    mesh.start()
    mesh.run(
        until=lambda: mesh.peers["a"].phase is Phase.DONE or mesh.peers["b"].phase is Phase.DONE
    )
    waiting = "a" if mesh.peers["a"].phase is Phase.DONE else "b"
    deadline = mesh.peers[waiting].deadline()
    assert deadline == pytest.approx(mesh.now + 60.0)
    mesh.run(until=mesh.finished)
    assert mesh.now < 10.0


def test_lingering_ends(play: MakePlay) -> None:
    """A peer that is done does not wait for a slow neighbour for longer than linger_s."""
    rounds = RoundSettings(count=1, linger_s=5.0, deadline_min_s=1.0, deadline_max_s=1.0)
    mesh = play(PAIR, rounds=rounds, train_s={"b": 1000.0})
    mesh.start()
    mesh.run(until=lambda: mesh.peers["a"].phase is Phase.STOPPED)
    assert mesh.peers["b"].phase is Phase.TRAINING
    assert mesh.now < 20.0


def test_the_agreement_and_the_counters_are_reported(play: MakePlay) -> None:
    """A report tells the share of own votes that the tally confirms, and the bytes so far."""
    mesh = play(RING, rounds=RoundSettings(count=2))
    mesh.start()
    mesh.run(until=mesh.finished)
    report = mesh.reports("p0")[2]
    assert report["agreement"] == pytest.approx(10 / 12)
    published = [p for p in mesh.did("p0", ef.Publish) if p.topic != wire.HELLO_TOPIC]
    own = [p for p in published if p.topic == wire.ballot_topic("p0")]
    counters = mesh.peers["p0"].counters
    assert counters.ballot == sum(len(p.data) for p in published)
    assert counters.relayed == counters.ballot - sum(len(p.data) for p in own)


def test_answers_for_another_round_are_our_own_bug(peer_settings: Callable[..., Any]) -> None:
    """Trained or Learned out of turn raises LocalError instead of being voted."""
    peer = Peer(peer_settings())
    peer.step(ev.Started(), 0.0)
    votes = np.zeros(12, dtype=np.int64)
    with pytest.raises(LocalError, match="votes for round 1 in round 0"):
        peer.step(ev.Trained(round=1, content=votes), 0.0)
    peer.step(ev.LinkUp(neighbour="b"), 0.0)
    with pytest.raises(LocalError, match="votes for round 2 in round 1"):
        peer.step(ev.Trained(round=2, content=votes), 0.0)
    with pytest.raises(LocalError, match="learned round 1 in round 1"):
        peer.step(ev.Learned(round=1, metrics={}), 0.0)
    with pytest.raises(LocalError, match="z is no neighbour of a"):
        peer.step(ev.LinkUp(neighbour="z"), 0.0)

"""Choosing probes by the last consensus: the least sure first, alike on every peer, and healed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallynode.protocol import effects as ef
from tallynode.protocol import graph
from tallynode.protocol.choosing import MEASURES, choose
from tallynode.protocol.rounds import probes_of_round
from tallynode.protocol.settings import RoundSettings

TRIO = graph.complete(["a", "b", "c"])
CHOOSING = {"*": {"select": "margin", "per_round": 6, "probes": 40}}
ROUNDS = RoundSettings(count=14, quorum=0.6, deadline_min_s=0.3)

SHARES = np.array(
    [
        [1.0, 0.0, 0.0],  # sure by any measure
        [0.5, 0.5, 0.0],  # the closest two
        [0.4, 0.35, 0.25],  # the most even, and the least certain winner
        [0.8, 0.1, 0.1],
    ]
)


@pytest.mark.parametrize(
    ("measure", "order"),
    [("entropy", [2, 1, 3, 0]), ("certainty", [2, 1, 3, 0]), ("margin", [1, 2, 3, 0])],
)
def test_measures_rank_by_hand(measure: str, order: list[int]) -> None:
    """Which probe is the least sure depends on what is meant by it."""
    assert np.argsort(-MEASURES[measure](SHARES)).tolist() == order


def test_half_is_kept_and_half_is_drawn_among_the_rest() -> None:
    """Sorted, no probe twice, as many as before; another round draws others."""
    probes = np.array([3, 7, 11, 19])
    found = [choose("margin", SHARES, probes, 40, 1, round_) for round_ in (2, 3)]
    for each in found:
        assert len(np.unique(each)) == 4
        assert (np.sort(each) == each).all()
        assert {7, 11} <= set(each.tolist())
    assert found[0].tolist() != found[1].tolist()


def test_equal_measures_go_to_the_smaller_probe() -> None:
    """What differs in the last bits alone counts as equal."""
    shares = np.full((4, 3), 1 / 3)
    shares[3] += [1e-9, -1e-9, 0]
    assert {2, 5} <= set(choose("entropy", shares, np.array([2, 5, 6, 8]), 20, 1, 2).tolist())


def asked(scene: Any, name: str) -> dict[int, list[int]]:
    """The probes of each round that a peer trained for."""
    return {job.round: job.probes.tolist() for job in scene.did(name, ef.Train)}


def drawn(round_: int) -> list[int]:
    """The probes that nobody chose."""
    return probes_of_round(7, round_, 40, 6).tolist()


def test_all_choose_alike_and_otherwise_than_by_lot(play: Callable[..., Any]) -> None:
    """From the second round on; every ballot counts, and no byte says which probes they are on."""
    scene = play(TRIO, hops=1, rounds=ROUNDS, overrides=CHOOSING)
    scene.start()
    scene.run()
    assert asked(scene, "a") == asked(scene, "b") == asked(scene, "c")
    assert asked(scene, "a")[1] == drawn(1)
    assert all(asked(scene, "a")[round_] != drawn(round_) for round_ in range(2, 15))
    assert all(report["voters"] == 3 for report in scene.reports("a").values())
    plain = {"*": {**CHOOSING["*"], "select": "random"}}
    other = play(TRIO, hops=1, rounds=ROUNDS, overrides=plain)
    other.start()
    other.run()
    sent, by_lot = (
        sum(len(p.data) for p in s.did("a", ef.Publish) if p.topic == "v/a") for s in (scene, other)
    )
    assert abs(sent - by_lot) < 14  # what votes are coded in differs, not what stands around them


def test_peers_that_chose_otherwise_are_left_out_and_meet_again(play: Callable[..., Any]) -> None:
    """A wire is cut for a round or two: no tally mixes two choices, and the last are whole."""
    scene = play(TRIO, hops=1, rounds=ROUNDS, overrides=CHOOSING)
    scene.start()
    scene.run(until=lambda: scene.round_of("a") == 4)
    scene.cut("a", "b")
    scene.run(until=lambda: scene.round_of("c") == 7)
    scene.mend("a", "b")
    scene.run()
    for name in scene.names:
        for job in scene.did(name, ef.Learn):
            if job.outcome is not None:
                assert job.outcome.probes.tolist() == asked(scene, name)[job.round]
                said = job.outcome.candidates
                alike = [
                    n
                    for n in said.voters
                    if asked(scene, n)[job.round] == job.outcome.probes.tolist()
                ]
                assert list(said.voters) == alike
        assert [scene.reports(name)[r]["voters"] for r in (12, 13, 14)] == [3] * 3
    fewest = min(r["voters"] for n in scene.names for r in scene.reports(n).values())
    assert fewest < 3
    assert asked(scene, "a")[14] != drawn(14)


def test_a_restarted_peer_chooses_with_the_others_again(play: Callable[..., Any]) -> None:
    """What it had chosen is lost with it: it votes in a later round, and once in each."""
    scene = play(TRIO, hops=1, rounds=ROUNDS, overrides=CHOOSING)
    scene.start()
    scene.run(until=lambda: len(scene.ballots("c")) == 4)
    scene.kill("c")
    scene.start("c")
    scene.run()
    rounds = [ballot.round for ballot in scene.ballots("c")]
    assert len(rounds) == len(set(rounds))
    assert [scene.reports("a")[r]["voters"] for r in (12, 13, 14)] == [3] * 3
    assert asked(scene, "a")[14] == asked(scene, "c")[14] != drawn(14)

"""When a state is saved that serves for several rounds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, snapshot
from tallynode.protocol.peer import Peer
from tallynode.protocol.settings import RoundSettings


def test_a_save_that_failed_is_made_up_for_in_the_next_round(
    peer_settings: Callable[..., Any],
) -> None:
    """Found by seed 42 of the faulty meshes: the rounds that it was to cover were voted in bare."""
    rounds = RoundSettings(count=0, save_every=4, start_within_s=1.0)
    for refused, saves in ((False, [1, 5]), (True, [1, 2, 6])):
        peer = Peer(peer_settings(rounds=rounds))
        peer.step(ev.Started(), 0.0)
        peer.step(ev.Tick(), 1.0)
        saved = []
        for round_ in range(1, 8):
            now = float(round_ + 1)
            votes = np.zeros(12, dtype=np.int64)
            effects = peer.step(ev.Trained(round=round_, content=votes), now)
            saved += [effect.round for effect in effects if isinstance(effect, ef.Save)]
            if refused and round_ == 1:
                assert peer.step(ev.Unsaved(), now) == []
            peer.step(ev.Learned(round=round_, metrics={}), now)
        assert saved == saves


def test_a_state_tells_the_seed(peer_settings: Callable[..., Any]) -> None:
    """Whoever is started again with another one must not repeat the ballot."""
    peer = Peer(peer_settings(seed=11, rounds=RoundSettings(count=0, start_within_s=1.0)))
    peer.step(ev.Started(), 0.0)
    peer.step(ev.Tick(), 1.0)
    effects = peer.step(ev.Trained(round=1, content=np.zeros(12, dtype=np.int64)), 2.0)
    (saved,) = [effect for effect in effects if isinstance(effect, ef.Save)]
    assert snapshot.decode(saved.state).seed == 11


@pytest.mark.parametrize("save_every", [1, 3])
@pytest.mark.parametrize("overrides", [{}, {"select": "entropy", "per_round": 6, "common": True}])
def test_who_has_finished_learns_no_round_again(
    play: Callable[..., Any], save_every: int, overrides: dict[str, Any]
) -> None:
    """A device that is switched on again says its last ballot, keeps its model and ends."""
    rounds = RoundSettings(count=5, save_every=save_every, start_within_s=1.0)
    mesh = play(graph.complete("abc"), hops=1, rounds=rounds, overrides={"*": overrides})
    mesh.start()
    mesh.run(until=mesh.finished)
    last = mesh.ballots("a")[-1]
    done = len(mesh.did("a", ef.Learn)), len(mesh.did("a", ef.Train))
    mesh.kill("a")
    mesh.start("a")
    mesh.run(until=mesh.finished)
    assert (len(mesh.did("a", ef.Learn)), len(mesh.did("a", ef.Train))) == done
    assert mesh.ballots("a")[-1].round == last.round == 5
    mesh.kill("a")
    mesh.settings["a"] = replace(mesh.settings["a"], rounds=replace(rounds, count=7))
    mesh.start("a")
    mesh.run(until=mesh.finished)
    assert [ballot.round for ballot in mesh.ballots("a")][-2:] == [6, 7]  # of a mesh that goes on

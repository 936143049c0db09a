"""When a state is saved that serves for several rounds."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import snapshot
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

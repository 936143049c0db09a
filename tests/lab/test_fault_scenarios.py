"""Churn, partitions, all kinds of graphs, a day, a long absence: each keeps its promise."""

import pytest

from tallynode.lab.faults import scenarios
from tallynode.lab.faults.judge import Violation
from tallynode.protocol import effects as ef
from tallynode.protocol.peer import Peer


@pytest.mark.slow
def test_churn() -> None:
    """Those that stay finish every round and tally 99 % of the ballots, whoever comes and goes."""
    assert len(list(scenarios.churn(rounds=40))) == 1


def test_churn_that_loses_ballots_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were rounds closed without waiting, ballots would be missed and the scenario would say so."""
    monkeypatch.setattr(Peer, "_closes", lambda peer, now: "at once")
    with pytest.raises(Violation, match=r"were tallied|every round"):
        list(scenarios.churn(rounds=5))


@pytest.mark.slow
def test_partitions() -> None:
    """Halved, with one cut off, or one-way: all sides go on and agree two rounds after it."""
    assert len(list(scenarios.partition())) == 9


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_kind_of_graph_to_a_hundred_peers() -> None:
    """Each run ends by itself and everyone is heard."""
    assert len(list(scenarios.graphs(sizes=(3, 16, 100), rounds=2))) == 18


@pytest.mark.slow
def test_a_day() -> None:
    """What a peer holds is no larger at night than in the morning, though links fail all day."""
    assert len(list(scenarios.day())) == 1


def test_a_day_of_growth_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that keeps an entry a round is found."""
    train = Peer._train

    def hoard(peer: Peer, round_: int, now: float) -> list[ef.Effect]:
        peer._closed = {**peer._closed, f"round {round_}": "kept"}
        return train(peer, round_, now)

    close = Peer._close

    def keep(peer: Peer, how: str, now: float) -> list[ef.Effect]:
        kept = peer._closed
        effects = close(peer, how, now)
        peer._closed = {**kept, **peer._closed}
        return effects

    monkeypatch.setattr(Peer, "_train", hoard)
    monkeypatch.setattr(Peer, "_close", keep)
    with pytest.raises(Violation, match="grows"):
        list(scenarios.day(hours=12, n=3))

"""Churn, partitions, all kinds of graphs, a day, a long absence: each keeps its promise."""

import pytest

from tallynode.lab.faults import scenarios
from tallynode.lab.faults.judge import Violation
from tallynode.lab.faults.scenarios import ENDLESS, plan_for, rounds_of, up
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
@pytest.mark.timeout(900)
def test_every_kind_of_graph_to_a_hundred_peers() -> None:
    """Each run ends by itself and everyone is heard."""
    assert len(list(scenarios.graphs(sizes=(3, 16, 100), rounds=2))) == 18


def test_the_speed_is_told_for_each_kind_of_graph() -> None:
    """How fast is for a person to judge."""
    lines = list(scenarios.speed(n=6, rounds=3))
    assert len(lines) == 6
    assert all(line.startswith("speed: ") and "3 rounds in " in line for line in lines)


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


@pytest.mark.parametrize("kind", ["ring", "complete"])
def test_a_peer_away_for_a_hundred_rounds_is_back_within_one(kind: str) -> None:
    """It votes in the round that the others are in, within one round's time of being linked."""
    plan = plan_for(kind, 6, rounds=ENDLESS)
    mesh = up(plan)
    away = plan.names[3]
    mesh.run(5 * plan.round_s, lambda: False)
    mesh.kill(away, power=False)
    left = max(rounds_of(mesh).values())
    mesh.run(1e6, lambda: min(rounds_of(mesh).values()) >= left + 100)
    mesh.start(away)
    links = [mesh.network.link(*wire) for wire in mesh.wires if away in wire]
    mesh.run(1e6, lambda: all(link.told for link in links))
    current = max(round_ for name, round_ in rounds_of(mesh).items() if name != away)
    mesh.run(mesh.clock.now + 1.1 * plan.round_s, lambda: False)  # the slowest training
    peer = mesh.machines[away].peer
    assert peer is not None
    assert peer.hearing.box.get(away, current) is not None
    mesh.run(mesh.clock.now + 3 * plan.round_s, lambda: False)
    for machine in mesh.machines.values():
        reports = {fields["round"]: fields for fields in machine.reports}
        assert [reports[current + later]["voters"] for later in (1, 2)] == [6, 6]

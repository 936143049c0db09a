"""Plays with a bridge: who waits for whose delta, and what a crash leaves of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import graph, snapshot, wire
from tallynode.protocol.deltas import cut
from tallynode.protocol.manners import STRIKES_MAX
from tallynode.protocol.settings import BridgeSettings, RoundSettings

MakePlay = Callable[..., Any]
TRIANGLE = graph.complete(("a", "b", "c"))
ROUNDS = RoundSettings(count=4, deadline_min_s=5.0, deadline_max_s=60.0)


def overrides(every: int = 2, **merges: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Settings of peers that all merge with one another, or with those that are named."""
    everybody = {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")} | merges
    return {
        name: {"bridge": BridgeSettings(every=every, merges=with_, model=1, bytes_max=100)}
        for name, with_ in everybody.items()
    }


def merged(play: Any, name: str) -> dict[int, dict[str, list[bytes]]]:
    """What a peer was given to merge, by the round in which it learnt from it."""
    return {
        learn.round: {of: [data for _, data in deltas] for of, deltas in learn.deltas.items()}
        for learn in play.did(name, ef.Learn)
    }


def test_deltas_are_exchanged_in_every_second_round(play: MakePlay) -> None:
    """Each hears each once, with that round's consensus; between bridges there is nothing."""
    mesh = play(TRIANGLE, rounds=ROUNDS, overrides=overrides())
    mesh.start()
    mesh.run(until=mesh.finished)
    assert merged(mesh, "a") == {
        1: {},
        2: {"b": [b"b 2"], "c": [b"c 2"]},
        3: {},
        4: {"b": [b"b 4"], "c": [b"c 4"]},
    }
    assert all(line["closed_by"] == "all" for line in mesh.reports("a").values())
    assert mesh.reports("a")[4]["payload_bytes"]["delta"] == 2 * (11 + len(b"a 2"))


def test_models_that_differ_keep_voting(play: MakePlay) -> None:
    """Who has another model neither sends nor hears deltas, and its ballots count as ever."""
    mesh = play(TRIANGLE, rounds=ROUNDS, overrides=overrides(a=("b",), b=("a",), c=()))
    mesh.start()
    mesh.run(until=mesh.finished)
    assert merged(mesh, "a")[2] == {"b": [b"b 2"]}
    assert all(found == {} for found in merged(mesh, "c").values())
    assert {line["voters"] for line in mesh.reports("c").values()} == {3}
    assert not [p for p in mesh.did("c", ef.Publish) if p.topic.startswith("d/")]


def hold_back(mesh: Any) -> list[tuple[str, ev.Received]]:
    """Let no delta through, as if links were slow; what is held back, by reader."""
    held: list[tuple[str, ev.Received]] = []
    deliver = mesh._deliver

    def slow(reader: str, outbox: str, topic: str, data: bytes) -> None:
        if topic.startswith("d/"):
            held.append((reader, ev.Received(neighbour=outbox, topic=topic, data=data)))
        else:
            deliver(reader, outbox, topic, data)

    mesh._deliver = slow
    return held


def test_a_late_delta_delays_no_round_beyond_the_deadline_of_ballots(play: MakePlay) -> None:
    """The bridge's round closes as with a ballot missing; what came late goes into the next."""
    mesh = play(TRIANGLE, rounds=ROUNDS, overrides=overrides())
    held = hold_back(mesh)
    mesh.start()
    mesh.run(until=lambda: 2 in mesh.reports("a"))
    line = mesh.reports("a")[2]
    assert (line["closed_by"], line["voters"]) == ("quorum", 3)
    assert line["gather_s"] == pytest.approx(ROUNDS.deadline_min_s)
    for reader, late in held:
        mesh.tell(reader, late)
    mesh.run(until=mesh.finished)
    assert merged(mesh, "a")[2] == {}
    assert merged(mesh, "a")[3] == {"b": [b"b 2"], "c": [b"c 2"]}


def test_a_killed_peer_says_its_last_delta_again(play: MakePlay) -> None:
    """What neighbours may still lack is on the disk, and stands on the new outbox, unchanged."""
    mesh = play(TRIANGLE, rounds=ROUNDS, overrides=overrides())
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("c") == 3 and "c" in mesh.saved)
    mesh.run(until=lambda: snapshot.decode(mesh.saved["c"]).round == 3)
    mesh.kill("c")
    state = snapshot.decode(mesh.saved["c"])
    assert (state.bridged, state.delta) == (2, b"c 2")
    before = len([p for p in mesh.did("c", ef.Publish) if p.topic == "d/c/0"])
    mesh.start("c")
    mesh.run(until=mesh.finished)
    said = [p.data for p in mesh.did("c", ef.Publish) if p.topic == "d/c/0"]
    assert said[before] == said[0]
    for name in "ab":  # heard twice, and taken once
        taken = [d for heard in merged(mesh, name).values() for d in heard.get("c", [])]
        assert taken.count(b"c 2") == 1


def test_a_delta_is_saved_before_it_can_be_read(play: MakePlay) -> None:
    """Also where a state otherwise serves for several rounds."""
    sparing = RoundSettings(count=4, save_every=4)
    mesh = play(TRIANGLE, rounds=sparing, overrides=overrides())
    mesh.start()
    mesh.run(until=mesh.finished)
    saved: bytes = b""
    seen = 0
    for effect in (e for who, e in mesh.effects if who == "a"):
        if isinstance(effect, ef.Save):
            saved = snapshot.decode(effect.state).delta
        if isinstance(effect, ef.Publish) and effect.topic == "d/a/0":
            assert saved
            assert effect.data.endswith(saved)
            seen += 1
    assert seen == 2


def test_deltas_that_cannot_be_used_are_strikes(play: MakePlay) -> None:
    """What the trainer could not decode is held against its sender like any garbage."""
    mesh = play(TRIANGLE, rounds=RoundSettings(count=0), overrides=overrides())
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") >= 1)
    peer, shunned = mesh.peers["a"], []
    for round_ in range(1, STRIKES_MAX + 1):
        peer.phase, peer.hearing.round = type(peer.phase).LEARNING, round_
        learned = ev.Learned(round=round_, metrics={}, refused={"b": "damaged"})
        shunned += [e for e in peer.step(learned, 1.0) if isinstance(e, ef.Shun)]
    assert [shun.neighbour for shun in shunned] == ["b"]
    assert peer.counters.refused == STRIKES_MAX


def test_a_shorter_delta_takes_the_longer_ones_pieces_away(play: MakePlay) -> None:
    """An outbox keeps nothing of a delta that was overwritten; its reader takes no offence."""
    mesh = play(TRIANGLE, rounds=RoundSettings(count=0), overrides=overrides())
    mesh.start()
    speaking = mesh.peers["a"].hearing.speaking
    long, short = speaking.delta(2, bytes(600_000)), speaking.delta(4, b"short")
    assert [p.topic for p in long] == ["d/a/0", "d/a/1", "d/a/2"]
    assert [(p.topic, bool(p.data)) for p in short] == [
        ("d/a/0", True),
        ("d/a/1", False),
        ("d/a/2", False),
    ]
    assert mesh.peers["b"].step(ev.Received(neighbour="a", topic="d/a/1", data=b""), 1.0) == []
    assert mesh.peers["b"].counters.refused == 0


@pytest.mark.parametrize("before", [False, True])
def test_who_has_no_say_is_not_merged(play: MakePlay, before: bool) -> None:
    """Neither a delta that comes after its voter was left out, nor one that was there before."""
    mesh = play(TRIANGLE, rounds=ROUNDS, overrides=overrides())
    mesh.start()
    mesh.run(until=lambda: mesh.round_of("a") == 2)
    peer = mesh.peers["a"]
    piece = cut("b", 2, 1, b"b 2")[0]
    heard = ev.Received(neighbour="b", topic="d/b/0", data=wire.encode_piece(piece, "play"))
    events = [heard, ev.Expelled(origin="b")]
    for event in events if before else reversed(events):
        peer.step(event, mesh.now)
    mesh.run(until=mesh.finished)
    assert merged(mesh, "a")[2] == {"c": [b"c 2"]}
    assert merged(mesh, "c")[2] == {"a": [b"a 2"], "b": [b"b 2"]}


def test_votes_alone_ask_for_no_delta(play: MakePlay) -> None:
    """Without a bridge nothing of it is on the wire."""
    mesh = play(TRIANGLE, rounds=RoundSettings(count=2))
    mesh.start()
    mesh.run(until=mesh.finished)
    assert not any(train.bridge for train in mesh.did("a", ef.Train))
    read = {t for s in mesh.did("a", ef.Subscribe) for t in s.topics}
    assert not [topic for topic in read if topic.startswith("d/")]
    assert np.all([r["payload_bytes"]["delta"] == 0 for r in mesh.reports("a").values()])

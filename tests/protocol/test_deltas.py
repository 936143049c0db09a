"""Deltas in pieces: any size passes a window, whatever overwrites it; strangers fill nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import wire
from tallynode.protocol.deltas import WHOLE_MAX, WINDOW, Deltas, cut, pieces_of
from tallynode.protocol.limits import MESSAGE_BYTES_MAX, PIECE_BYTES_MAX
from tallynode.protocol.messages import Piece
from tallynode.protocol.settings import BridgeSettings

MODEL = 77
MakeSettings = Callable[..., Any]


def bridge(bytes_max: int) -> BridgeSettings:
    """Of a peer that merges with b."""
    return BridgeSettings(every=1, merges=("b",), model=MODEL, bytes_max=bytes_max)


def content(size: int, round_: int) -> bytes:
    """Bytes that tell their place and round."""
    return (round_.to_bytes(2) * (size // 2 + 1))[:size]


class Outbox:
    """Of b: retained pieces, and what its reader has asked for; live and replayed as in MQTT."""

    def __init__(self, deltas: Deltas) -> None:
        self.deltas = deltas
        self.read = set(deltas.topics("b"))
        self.retained: dict[str, Piece] = {}
        self.under_way: list[Piece] = []
        self.asked_most = 0

    def publish(self, round_: int, data: bytes) -> None:
        """Put a delta on the outbox in place of the one before."""
        for piece in cut("b", round_, MODEL, data):
            topic = wire.piece_topic("b", piece.index)
            self.retained[topic] = piece
            if topic in self.read:
                self.under_way.append(piece)

    def deliver(self) -> None:
        """Let the next piece arrive."""
        piece = self.under_way.pop(0)
        topic = wire.piece_topic("b", piece.index)
        for effect in self.deltas.hear("b", topic, piece):
            if isinstance(effect, ef.Unsubscribe):
                self.read.difference_update(effect.topics)
            elif isinstance(effect, ef.Subscribe):
                fresh = [t for t in effect.topics if t not in self.read]
                self.read.update(fresh)
                self.under_way += [self.retained[t] for t in fresh if t in self.retained]
        self.asked_most = max(self.asked_most, len(self.read))

    def reconnect(self) -> None:
        """Lose what is under way; the broker replays what is read, in the order of asking."""
        topics = sorted(self.read, key=lambda t: int(t.rpartition("/")[2]))
        self.under_way = [self.retained[t] for t in topics if t in self.retained]


def test_a_delta_of_twenty_million_parameters_passes_a_small_window(
    peer_settings: MakeSettings,
) -> None:
    """Eighty pieces, of which no more are ever asked for than the window holds."""
    size = 20_000_000
    outbox = Outbox(Deltas(peer_settings(bridge=bridge(size))))
    data = content(size, 5)
    outbox.publish(5, data)
    most = 0
    while outbox.under_way:
        most = max(most, len(outbox.under_way))
        outbox.deliver()
    assert outbox.deltas.take(5) == {"b": ((5, data),)}
    assert outbox.asked_most <= WINDOW + 1
    assert most <= WINDOW + 1
    assert outbox.read == {"d/b/0"}
    assert max(len(wire.encode_piece(p, "play")) for p in cut("b", 5, MODEL, data)) <= (
        MESSAGE_BYTES_MAX
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.data())
def test_whatever_is_overwritten_the_last_delta_arrives(
    peer_settings: MakeSettings, data: st.DataObject
) -> None:
    """New deltas of any size, lost connections: once all is quiet the newest is whole."""
    most = 9 * PIECE_BYTES_MAX
    outbox = Outbox(Deltas(peer_settings(bridge=bridge(most))))
    sizes = st.sampled_from([1, PIECE_BYTES_MAX, 3 * PIECE_BYTES_MAX + 7, most])
    last = b""
    for round_ in range(1, 5):
        last = content(data.draw(sizes), round_)
        outbox.publish(round_, last)
        for _ in range(data.draw(st.integers(0, 12))):
            if outbox.under_way:
                outbox.deliver()
        if data.draw(st.booleans()):
            outbox.reconnect()
    while outbox.under_way:
        outbox.deliver()
    assert dict(outbox.deltas.take(9)["b"])[4] == last
    assert outbox.read == {"d/b/0"}


def hear(deltas: Deltas, **changes: Any) -> list[ef.Effect]:
    """Let b send the first of two pieces of round 3, changed."""
    fields = {"origin": "b", "round": 3, "index": 0, "count": 2, "model": MODEL}
    fields["body"] = bytes(PIECE_BYTES_MAX)
    topic = changes.pop("topic", "d/b/0")
    sender = changes.pop("sender", "b")
    return deltas.hear(sender, topic, Piece(**(fields | changes)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": 78}, "of another model"),
        ({"sender": "c"}, "of another model"),
        ({"origin": "c"}, "on topic 'd/b/0'"),
        ({"topic": "d/b/1"}, "on topic 'd/b/1'"),
        ({"count": 3}, "3 pieces where 2 are the most"),
        ({"body": b"x"}, "cut off"),
        ({"index": 1, "topic": "d/b/1"}, "more than 300000 bytes"),
    ],
)
def test_what_could_not_be_merged_is_refused(
    peer_settings: MakeSettings, changes: dict[str, Any], why: str
) -> None:
    """Before anything of it is held; another model is a difference and no fault."""
    deltas = Deltas(peer_settings(bridge=bridge(300_000)))
    with pytest.raises(RemoteError, match=why) as refused:
        hear(deltas, **changes)
    assert refused.value.differs == ("model" in why)
    assert hear(deltas) == [ef.Subscribe(neighbour="b", topics=("d/b/1",))]


def test_pieces_of_one_delta_agree_on_their_number(peer_settings: MakeSettings) -> None:
    """A delta that grows while it is read is none."""
    deltas = Deltas(peer_settings(bridge=bridge(3 * PIECE_BYTES_MAX)))
    hear(deltas)
    with pytest.raises(RemoteError, match="count them differently"):
        hear(deltas, count=3, index=1, topic="d/b/1")


def test_a_flood_evicts_only_the_floods_own(peer_settings: MakeSettings) -> None:
    """Whole deltas that nobody has taken yet are bounded by number, and by bytes."""
    deltas = Deltas(peer_settings(bridge=bridge(PIECE_BYTES_MAX)))
    for round_ in range(1, 3 * WHOLE_MAX):
        hear(deltas, count=1, round=round_, body=b"small")
    assert len(deltas.take(10**6)["b"]) == WHOLE_MAX
    for round_ in range(100, 100 + WHOLE_MAX):
        hear(deltas, count=1, round=round_)
    assert len(deltas.take(10**6)["b"]) == 2


def test_deltas_wait_for_their_round(peer_settings: MakeSettings) -> None:
    """A neighbour that is ahead is merged when this peer comes to that bridge."""
    deltas = Deltas(peer_settings(bridge=bridge(1000)))
    for round_ in (3, 4, 6):
        hear(deltas, count=1, round=round_, body=b"%d" % round_)
    assert deltas.take(4) == {"b": ((3, b"3"), (4, b"4"))}
    assert deltas.take(5) == {}
    assert deltas.take(6) == {"b": ((6, b"6"),)}
    assert hear(deltas, count=1, round=6, body=b"again") == []
    assert deltas.take(6) == {}


def test_what_is_lacking(peer_settings: MakeSettings) -> None:
    """A delta is waited for until its sender has gone on without it; longer while it comes in."""
    deltas = Deltas(peer_settings(bridge=bridge(2 * PIECE_BYTES_MAX)))
    assert not deltas.lacks("c", 3, reached=3)
    assert deltas.lacks("b", 3, reached=3)
    assert not deltas.lacks("b", 3, reached=4)
    hear(deltas)
    assert deltas.lacks("b", 3, reached=4)
    hear(deltas, index=1, topic="d/b/1", body=b"end")
    assert not deltas.lacks("b", 3, reached=3)


def test_pieces_are_counted_up() -> None:
    """A byte more takes one more."""
    assert [pieces_of(n) for n in (1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1)] == [1, 1, 2]

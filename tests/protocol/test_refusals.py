"""What neighbours send that cannot count: refused, counted, said once for each reason, bounded."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import limits, wire
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.messages import Ballot, Hello, State
from tallynode.protocol.peer import Peer

DIGEST = bytes(range(8))
ZEROS = np.zeros(12, dtype=np.int64)
MakeSettings = Callable[..., Any]


@pytest.fixture
def peer(peer_settings: MakeSettings) -> Peer:
    """Peer a, linked to b, in round 1, with c beyond b."""
    made = Peer(peer_settings(reach={"b": {"b": 1, "c": 2}}, hops=3))
    made.step(ev.Started(), 0.0)
    made.step(ev.LinkUp(neighbour="b"), 0.0)
    return made


def ballot(mesh: str = "play", digest: bytes = DIGEST, **changes: Any) -> bytes:
    """A ballot of c's first round as b would relay it, with something changed."""
    fields: dict[str, Any] = {
        "origin": "c",
        "round": 1,
        "hops_left": 0,
        "coding": Coding.PACKED,
        "body": packed.encode(ZEROS, 3),
    }
    return wire.encode_ballot(Ballot(**(fields | changes)), mesh, digest)


def hello(**changes: Any) -> bytes:
    """The hello of b that fits, with something changed."""
    fields: dict[str, Any] = {
        "mesh": "play",
        "origin": "b",
        "probe_digest": DIGEST,
        "classes": 3,
        "per_round": 12,
        "method": "tally",
        "state": State.RUNNING,
    }
    return wire.encode_hello(Hello(**(fields | changes)))


def hear(peer: Peer, data: bytes, topic: str = "v/c", now: float = 1.0) -> list[ef.Effect]:
    """What peer a does about a message from b."""
    return peer.step(ev.Received(neighbour="b", topic=topic, data=data), now)


REFUSED = [
    (ballot(origin="z"), "v/z", "b", "a ballot of z, which has no vote here"),
    (ballot(origin="a"), "v/a", "b", "a ballot of a, which has no vote here"),
    (ballot(), "v/b", "b", "sent a ballot on topic 'v/b'"),
    (ballot(), "h", "b", "sent a ballot on topic 'h'"),
    (ballot(mesh="other"), "v/c", "b", "belongs to another mesh"),
    (ballot(digest=bytes(8)), "v/c", "b", "on another probe set"),
    (ballot(body=packed.encode(ZEROS, 3)[:-1]), "v/c", "b", "damaged: 2 bytes for 12 votes"),
    (ballot(body=b"\xff" * 3), "v/c", "b", "damaged: a vote is not below 3"),
    (ballot()[:9], "v/c", "b", "bytes that are not a message"),
    (b"", "v/c", "b", "bytes that are not a message"),
    (b"\x97\x21" + ballot()[2:], "v/c", "b", "speaks wire version 2, this peer 1"),
    (hello(origin="c"), "h", "b", "says that it is c"),
    (hello(mesh="other"), "h", "b", "mesh (other, ours play)"),
    (hello(probe_digest=bytes(8)), "h", "b", f"class list (0000000000000000, ours {DIGEST.hex()})"),
    (hello(classes=4), "h", "b", "number of classes (4, ours 3)"),
    (hello(per_round=500), "h", "b", "probes a round (500, ours 12)"),
    (hello(method="soft"), "h", "b", "method (soft, ours tally)"),
    (hello(classes=4, method="soft"), "h", "b", "classes (4, ours 3), method (soft, ours tally)"),
]


@pytest.mark.parametrize(("data", "topic", "who", "why"), REFUSED, ids=[r[3] for r in REFUSED])
def test_each_is_refused_counted_and_said_once(
    peer: Peer, data: bytes, topic: str, who: str, why: str
) -> None:
    """One log that names the peer and the reason, a count for each, and no other effect."""
    (log,) = hear(peer, data, topic)
    assert isinstance(log, ef.Log)
    assert (log.level, log.event, log.fields["peer"]) == ("error", "refused", who)
    assert why in str(log.fields["why"])
    assert hear(peer, data, topic) == []
    assert peer.counters.refused == 2
    assert peer.counters.received_ballot == 0


def test_a_second_ballot_for_a_round_is_refused_and_the_first_kept(peer: Peer) -> None:
    """Equivocation changes nothing, and the one who cast both is named."""
    assert len(hear(peer, ballot())) == 1, "it is passed on"
    (log,) = hear(peer, ballot(body=packed.encode(ZEROS + 1, 3)))
    assert isinstance(log, ef.Log)
    assert log.fields["peer"] == "c"
    assert "two different ballots (the later came by b)" in str(log.fields["why"])
    held = peer.hearing.box.get("c", 1)
    assert held is not None
    assert held.content.tolist() == [0] * 12
    assert hear(peer, ballot()) == []
    assert peer.counters.refused == 1


def test_a_neighbour_that_differs_has_no_vote_until_it_agrees(peer: Peer) -> None:
    """After a hello that differs its ballots are refused; after one that agrees they count."""
    hear(peer, hello(classes=4), "h")
    (log,) = hear(peer, ballot(origin="b"), "v/b")
    assert isinstance(log, ef.Log)
    assert log.fields["why"] == "voted although it differs"
    assert "b" not in peer.hearing.members.waited_for(unheard=True)
    assert hear(peer, hello(), "h") == []
    hear(peer, ballot(origin="b"), "v/b")
    assert "b" in peer.hearing.members.waited_for(unheard=False)


def test_what_a_neighbour_that_differs_relays_still_counts(peer: Peer) -> None:
    """The votes of others are their own: a relay need not agree with us."""
    hear(peer, hello(method="soft"), "h")
    hear(peer, ballot())
    assert peer.hearing.box.get("c", 1) is not None


def test_a_reason_cannot_be_long(peer: Peer) -> None:
    """Names that a stranger chose do not make log lines of any length."""
    (log,) = hear(peer, hello(mesh="m" * 32, classes=65_536, method="x" * 64), "h")
    assert isinstance(log, ef.Log)
    assert len(str(log.fields["why"])) <= limits.REASON_CHARS_MAX


def test_garbage_that_varies_cannot_fill_the_log(peer: Peer) -> None:
    """After COMPLAINTS_MAX different reasons refusals are counted in silence."""
    said = 0
    for n in range(limits.COMPLAINTS_MAX + 50):
        said += len(hear(peer, ballot(origin=f"z{n}"), f"v/z{n}", now=float(n)))
    assert said == limits.COMPLAINTS_MAX
    assert peer.counters.refused == limits.COMPLAINTS_MAX + 50
    assert len(peer.hearing.members.table) == 2


def test_a_ballot_too_old_to_use_is_passed_on_once(peer_settings: MakeSettings) -> None:
    """It shows that its origin lives, and others may need it; an overtaken one is a duplicate."""
    peer = Peer(peer_settings(reach={"b": {"b": 1, "c": 2}}, hops=3))
    peer.hearing.round = 10

    def hear_now(data: bytes) -> list[ef.Effect]:
        return peer.hearing.receive(ev.Received(neighbour="b", topic="v/c", data=data), 1.0)

    assert len(hear_now(ballot(round=5, hops_left=1))) == 1
    assert peer.hearing.members.waited_for(unheard=False) == {"c"}
    overtaken = ballot(round=4, hops_left=1)
    assert hear_now(overtaken) == []
    assert peer.counters.received_duplicate == len(overtaken)
    assert peer.counters.refused == 0
    assert peer.hearing.box.get("c", 4) is None
    assert peer.hearing.box.usable(10) == ({}, 0)


def test_the_graph_says_how_far_a_ballot_travels(peer: Peer, peer_settings: MakeSettings) -> None:
    """Not the way by which it came; nor does it travel when it is not new, or at the rim."""
    for round_, by_a_detour in ((2, 1), (3, 0)):
        (relay,) = hear(peer, ballot(round=round_, hops_left=by_a_detour))
        assert isinstance(relay, ef.Publish)
        assert relay.topic == "v/c"
        assert relay.data == ballot(round=round_, hops_left=0)
    assert peer.counters.relayed == peer.counters.ballot == 2 * len(relay.data)
    assert hear(peer, ballot(round=1, hops_left=1)) == [], "the retained one is newer"
    rim = Peer(peer_settings(reach={"b": {"b": 1, "c": 2}}, hops=2))
    rim.step(ev.LinkUp(neighbour="b"), 0.0)
    assert hear(rim, ballot(round=2, hops_left=1)) == []
    assert rim.hearing.box.get("c", 2) is not None


def test_the_levels_of_a_lost_link(peer: Peer) -> None:
    """A broken link is a warning, the end of one whose peer said that it leaves is not."""
    hear(peer, hello(), "h")
    lost = peer.step(ev.LinkDown(neighbour="b"), 2.0)[0]
    assert isinstance(lost, ef.Log)
    assert lost.level == "warning"
    peer.step(ev.LinkUp(neighbour="b"), 3.0)
    hear(peer, ballot(origin="b"), "v/b")
    hear(peer, hello(state=State.LEAVING), "h")
    assert "b" not in peer.hearing.members.waited_for(unheard=True)
    left = peer.step(ev.LinkDown(neighbour="b"), 4.0)[0]
    assert isinstance(left, ef.Log)
    assert left.level == "info"


def test_payload_is_counted_by_class(peer: Peer) -> None:
    """What comes in is counted as first copies, duplicates and control, to the byte."""
    first, control = ballot(), hello()
    hear(peer, first)
    hear(peer, first)
    hear(peer, control, "h")
    fields = peer.counters.fields()
    assert fields["payload_received"] == {
        "ballot": len(first),
        "delta": 0,
        "soft": 0,
        "duplicate": len(first),
        "control": len(control),
    }
    mine = wire.encode_hello(
        Hello(
            mesh="play",
            origin="a",
            probe_digest=DIGEST,
            classes=3,
            per_round=12,
            method="tally",
            state=State.RUNNING,
        )
    )
    assert peer.counters.control == len(mine)

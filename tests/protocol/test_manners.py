"""What a neighbour may send: sizes, rates, strikes, and for how long nobody listens to it."""

from collections.abc import Callable
from typing import Any

import pytest

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import wire
from tallynode.protocol.limits import MESSAGE_BYTES_MAX
from tallynode.protocol.manners import (
    BOUNDS,
    CALM_S,
    FORGIVEN_EACH_S,
    SHUN_FIRST_S,
    SHUN_MAX_S,
    STRIKES_MAX,
    Manners,
)
from tallynode.protocol.peer import Peer

MakeSettings = Callable[..., Any]


@pytest.fixture
def manners(peer_settings: MakeSettings) -> Manners:
    """Of peer a, whose neighbour b may pass c on: 12 probes of 3 classes."""
    return Manners(peer_settings(reach={"b": {"b": 1, "c": 2}}, hops=2))


def shuns(manners: Manners, now: float) -> list[float]:
    """For how long b is shunned at its next strike, if it is."""
    effects = manners.refuse("b", RemoteError("b", "garbage"), now)
    return [effect.for_s for effect in effects if isinstance(effect, ef.Shun)]


def until_shunned(manners: Manners, now: float) -> float:
    """Strike until it is shunned; for how long."""
    for _ in range(STRIKES_MAX):
        if found := shuns(manners, now):
            return found[0]
    raise AssertionError("not shunned")


def test_a_piece_of_a_delta_is_a_whole_message(manners: Manners) -> None:
    """It may be as large as any message, and no larger."""
    manners.admit("b", "d/b/0", MESSAGE_BYTES_MAX, 0.0)
    with pytest.raises(RemoteError, match="are the most"):
        manners.admit("b", "d/b/0", MESSAGE_BYTES_MAX + 1, 0.0)


@pytest.mark.parametrize("topic", ["h", "q/a", "k/c", "x/c", "v/c", "a/a"])
def test_each_class_has_a_size(manners: Manners, topic: str) -> None:
    """A byte more than a message can have is refused unread; a ballot has room for its votes."""
    most = wire.HEAD_BYTES_MAX + (3 if topic[0] in "va" else 0)
    manners.admit("b", topic, most, 0.0)
    with pytest.raises(RemoteError, match=f"sent {most + 1} bytes where {most} are the most"):
        manners.admit("b", topic, most + 1, 0.0)


@pytest.mark.parametrize("kind", sorted(BOUNDS))
def test_each_class_has_a_rate(manners: Manners, kind: str) -> None:
    """The burst passes, one more does not, and time brings back what the rate says."""
    bound = BOUNDS[kind]
    share = 2 if bound.grows else 1
    for _ in range(int(bound.burst) * share):
        manners.admit("b", f"{kind}/a", 10, 5.0)
    with pytest.raises(RemoteError, match="a second"):
        manners.admit("b", f"{kind}/a", 10, 5.0)
    later = 5.0 + 3 / (bound.per_s * share)
    for _ in range(3):
        manners.admit("b", f"{kind}/a", 10, later + 1e-6)
    with pytest.raises(RemoteError, match="a second"):
        manners.admit("b", f"{kind}/a", 10, later + 1e-6)


def test_one_neighbours_flood_costs_no_other_its_say(peer_settings: MakeSettings) -> None:
    """Buckets are by identity."""
    manners = Manners(peer_settings(reach={"b": {"b": 1}, "c": {"c": 1}}))
    for _ in range(int(BOUNDS["v"].burst)):
        manners.admit("b", "v/b", 10, 0.0)
    with pytest.raises(RemoteError, match="a second"):
        manners.admit("b", "v/b", 10, 0.0)
    manners.admit("c", "v/c", 10, 0.0)


def test_a_topic_that_nobody_reads(manners: Manners) -> None:
    """It is refused whatever its size."""
    with pytest.raises(RemoteError, match="a topic that nobody reads"):
        manners.admit("b", "z/b", 1, 0.0)


def test_garbage_is_shunned_for_twice_as_long_each_time(manners: Manners) -> None:
    """From SHUN_FIRST_S up to SHUN_MAX_S; a day without it makes it the first time again."""
    now, spans = 0.0, []
    for _ in range(9):
        spans.append(until_shunned(manners, now))
        assert manners.shuns("b", now + spans[-1] - 1)
        assert not manners.shuns("b", now + spans[-1])
        now += spans[-1]
    assert spans[:3] == [SHUN_FIRST_S, 2 * SHUN_FIRST_S, 4 * SHUN_FIRST_S]
    assert spans[-1] == SHUN_MAX_S
    assert until_shunned(manners, now + CALM_S + 1) == SHUN_FIRST_S


def test_strikes_are_forgiven_with_time(manners: Manners) -> None:
    """A fault now and then never adds up."""
    for n in range(10 * STRIKES_MAX):
        assert shuns(manners, n * FORGIVEN_EACH_S) == []


def test_who_differs_or_relays_for_another_gets_no_strike(manners: Manners) -> None:
    """Another set-up is a mistake; and what is somebody else's fault is not the relay's."""
    for _ in range(10 * STRIKES_MAX):
        for error in (RemoteError("b", "x", differs=True), RemoteError("c", "x")):
            effects = manners.refuse("b", error, 0.0)
            assert not any(isinstance(effect, ef.Shun) for effect in effects)


def test_a_peer_that_is_shunned_is_not_heard_even_after_a_new_link(
    peer_settings: MakeSettings,
) -> None:
    """The core asks once to part from it, reads nothing meanwhile, and forgets nothing."""
    peer = Peer(peer_settings())
    peer.step(ev.Started(), 0.0)
    peer.step(ev.LinkUp(neighbour="b"), 0.0)

    def hear(data: bytes, now: float) -> list[ef.Effect]:
        return peer.step(ev.Received(neighbour="b", topic="v/b", data=data), now)

    asked = [e for n in range(STRIKES_MAX) for e in hear(bytes([n]), 1.0)]
    assert [e for e in asked if isinstance(e, ef.Shun)] == [
        ef.Shun(neighbour="b", for_s=SHUN_FIRST_S)
    ]
    peer.step(ev.LinkDown(neighbour="b"), 2.0)
    peer.step(ev.LinkUp(neighbour="b"), 3.0)
    assert hear(b"more", 4.0) == []
    assert peer.counters.refused == STRIKES_MAX + 1
    again = [e for n in range(STRIKES_MAX) for e in hear(bytes([n]), 40.0)]
    assert [e.for_s for e in again if isinstance(e, ef.Shun)] == [2 * SHUN_FIRST_S]

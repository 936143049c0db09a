"""The made-up network does what MQTT over TCP does, and no worse than it was told."""

import itertools
from collections.abc import Iterator, Sequence

from tallynode.lab.world.clock import Clock
from tallynode.lab.world.network import Calm, Link, Network
from tallynode.protocol import events as ev


class Fixed(Calm):
    """Delays in a known order, for messages and requests alike."""

    def __init__(self, delays: Sequence[float]) -> None:
        self._delays: Iterator[float] = itertools.chain(delays, itertools.repeat(delays[-1]))

    def delay_s(self, link: Link) -> float:
        return next(self._delays)


class Scene:
    """Two peers, a that reads b, and what a hears."""

    def __init__(self, travel: Calm) -> None:
        self.clock = Clock()
        self.heard: list[ev.Event] = []
        self.net = Network(self.clock, travel, lambda _, event: self.heard.append(event))
        self.net.connect("a", "b")
        self.run()

    def run(self) -> None:
        while self.clock.tick():
            pass

    def data(self) -> list[bytes]:
        return [event.data for event in self.heard if isinstance(event, ev.Received)]


def test_what_is_retained_serves_a_later_reader() -> None:
    """A fresh subscription gets the last retained message at once, then what is published."""
    scene = Scene(Calm())
    for data in (b"1", b"2"):
        scene.net.publish("b", "t", data, retain=True)
    scene.net.publish("b", "t", b"3", retain=False)
    scene.net.subscribe("a", "b", ["t"])
    scene.net.publish("b", "t", b"4", retain=False)
    scene.run()
    assert scene.data() == [b"2", b"4"]


def test_requests_reach_a_broker_in_their_order() -> None:
    """Unsubscribed and subscribed anew, a topic is read: seed 95 lost it by an overtaking."""
    scene = Scene(Fixed([0.1, 0.1, 0.5, 0.1]))
    scene.net.subscribe("a", "b", ["t"])
    scene.run()
    scene.net.unsubscribe("a", "b", ["t"])
    scene.net.subscribe("a", "b", ["t"])
    scene.run()
    scene.net.publish("b", "t", b"1", retain=False)
    scene.run()
    assert scene.data() == [b"1"]


def test_a_lost_link_is_told_and_its_topics_are_asked_for_again() -> None:
    """What was under way is lost over a cut wire, and still comes from a killed process."""
    for lose, came in ((True, [b"2"]), (False, [b"1", b"2"])):
        scene = Scene(Calm())
        scene.net.subscribe("a", "b", ["t"])
        scene.net.publish("b", "t", b"1", retain=False)
        scene.net.disconnect("a", "b", lose=lose)
        scene.net.connect("a", "b")
        scene.run()
        scene.net.publish("b", "t", b"2", retain=False)
        scene.run()
        assert scene.data() == came
        links = [event for event in scene.heard if not isinstance(event, ev.Received)]
        up, down = ev.LinkUp(neighbour="b"), ev.LinkDown(neighbour="b")
        assert links == [up, down, up]


def test_a_clogged_link_bursts_and_an_abandoned_one_is_silent() -> None:
    """Messages wait in order; the next life of a reader has asked for nothing."""
    scene = Scene(Calm())
    scene.net.subscribe("a", "b", ["t"])
    scene.net.clog("a", "b")
    for data in (b"1", b"2"):
        scene.net.publish("b", "t", data, retain=False)
    scene.run()
    assert scene.data() == []
    scene.net.unclog("a", "b")
    scene.run()
    assert scene.data() == [b"1", b"2"]
    scene.net.abandon("a", "b")
    scene.net.connect("a", "b")
    scene.net.publish("b", "t", b"3", retain=False)
    scene.run()
    assert scene.data() == [b"1", b"2"]

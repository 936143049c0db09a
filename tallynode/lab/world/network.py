"""Outboxes and the links that read them, as MQTT over TCP gives them to a daemon.

A publish reaches who reads the topic then; a fresh subscription is served the retained message.
What a reader asked for is asked for again when its link comes back, as edge/links.py does. How long
a message takes, and whether it comes at all, is for the `Travel` to say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tallynode.lab.world.clock import Clock
from tallynode.protocol import events as ev

LATENCY_S = 0.005  # seconds a message takes over one edge where nothing else is said

Deliver = Callable[[str, ev.Event], None]


@dataclass(slots=True, eq=False)
class Link:
    """One reader's connection to one outbox."""

    reader: str
    outbox: str
    up: bool = False
    told: bool = False  # whether the reader knows that it is up
    life: int = 0  # counts the reader's processes
    session: int = 0  # counts connections and their losses
    heard_from: int = 0  # the first session of which messages still arrive
    drained: float = 0.0  # when the last message under way arrives
    requested: float = 0.0  # when the last request under way arrives
    wanted: dict[str, None] = field(default_factory=dict)  # topics, in the order of asking
    asked: set[str] = field(default_factory=set)  # those that this session has asked for
    stalled: list[tuple[str, bytes]] | None = None  # what waits in a clogged link


class Travel(Protocol):
    """How messages and requests cross a link."""

    def arrivals(self, link: Link, now: float) -> Sequence[float]:
        """When a message sent now arrives: never, once, or more than once."""

    def delay_s(self, link: Link) -> float:
        """How long a connection, its loss or a request takes to be known at the other end."""


class Calm:
    """Everything arrives, once, after LATENCY_S; requests are known at once."""

    def arrivals(self, link: Link, now: float) -> Sequence[float]:
        """See Travel."""
        return (now + LATENCY_S,)

    def delay_s(self, link: Link) -> float:
        """See Travel."""
        return 0.0


class Network:
    """All outboxes of a world and all links between them.

    Args:
        clock: the world's.
        travel: how messages cross a link.
        deliver: hands an event to a reader.
    """

    def __init__(self, clock: Clock, travel: Travel, deliver: Deliver) -> None:
        self._clock = clock
        self._travel = travel
        self._deliver = deliver
        self._retained: dict[str, dict[str, bytes]] = {}
        self._readers: dict[tuple[str, str], dict[Link, None]] = {}  # (outbox, topic) -> who reads
        self._links: dict[tuple[str, str], Link] = {}

    def link(self, reader: str, outbox: str) -> Link:
        """The link of a reader to an outbox, up or not."""
        return self._links.setdefault((reader, outbox), Link(reader, outbox))

    # -- what a peer does -----------------------------------------------------------------------

    def publish(self, outbox: str, topic: str, data: bytes, *, retain: bool) -> None:
        """Send to every reader of a topic; a retained message also to each later one."""
        if retain and data:
            self._retained.setdefault(outbox, {})[topic] = data
        elif retain:
            self._retained.get(outbox, {}).pop(topic, None)
        for link in tuple(self._readers.get((outbox, topic), ())):
            self._send(link, topic, data)

    def subscribe(self, reader: str, outbox: str, topics: Sequence[str]) -> None:
        """Ask for topics, now and after every reconnection."""
        link = self.link(reader, outbox)
        link.wanted.update(dict.fromkeys(topics))
        if link.up:
            self._ask(link, topics)

    def unsubscribe(self, reader: str, outbox: str, topics: Sequence[str]) -> None:
        """Ask for topics no more."""
        link = self.link(reader, outbox)
        for topic in topics:
            link.wanted.pop(topic, None)
        if link.up:
            link.asked.difference_update(topics)
            self._request(link, partial(self._forget, link, topics))

    # -- what happens to links ------------------------------------------------------------------

    def connect(self, reader: str, outbox: str) -> None:
        """Bring a link up; its reader hears of it when that has reached it."""
        link = self.link(reader, outbox)
        link.up = True
        link.session += 1
        link.drained = self._soon(link)
        self._clock.at(link.drained, partial(self._established, link, link.session))

    def disconnect(self, reader: str, outbox: str, *, lose: bool) -> None:
        """Take a link down; its reader hears of it.

        Args:
            reader: who reads.
            outbox: whose outbox it reads.
            lose: whether what is under way is lost (no more is heard over a cut wire) or still
                arrives (the kernel sends what a killed process wrote).
        """
        link = self.link(reader, outbox)
        told = link.told
        self._drop(link)
        if lose:
            link.heard_from = link.session
        if told:
            link.drained = self._soon(link)
            self._clock.at(link.drained, partial(self._lost, link, link.life))

    def abandon(self, reader: str, outbox: str) -> None:
        """The reader's process ended: it hears nothing more, and its next life asks anew."""
        link = self.link(reader, outbox)
        self._drop(link)
        link.wanted.clear()
        link.life += 1
        link.heard_from, link.drained = link.session, self._clock.now

    def clog(self, reader: str, outbox: str) -> None:
        """Let what is sent over a link wait."""
        link = self.link(reader, outbox)
        if link.stalled is None:
            link.stalled = []

    def unclog(self, reader: str, outbox: str) -> None:
        """Send what waited, in a burst."""
        link = self.link(reader, outbox)
        waiting, link.stalled = link.stalled or [], None
        for topic, data in waiting:
            self._send(link, topic, data)

    def clear(self, outbox: str) -> None:
        """The process that owned an outbox ended: nothing of it is retained."""
        self._retained.pop(outbox, None)

    def _drop(self, link: Link) -> None:
        for topic in link.asked:
            self._readers.get((link.outbox, topic), {}).pop(link, None)
        link.asked.clear()
        link.up, link.told, link.stalled = False, False, None
        link.session += 1

    # -- on the way -----------------------------------------------------------------------------

    def _soon(self, link: Link) -> float:
        """When what both ends must know is known, behind all that is under way."""
        return max(link.drained, self._clock.now + (self._travel.delay_s(link) or LATENCY_S))

    def _established(self, link: Link, session: int) -> None:
        if session != link.session:
            return
        link.told = True
        self._deliver(link.reader, ev.LinkUp(neighbour=link.outbox))
        if session == link.session:
            self._ask(link, tuple(link.wanted))

    def _lost(self, link: Link, life: int) -> None:
        if link.life == life:
            self._deliver(link.reader, ev.LinkDown(neighbour=link.outbox))

    def _ask(self, link: Link, topics: Sequence[str]) -> None:
        new = [topic for topic in topics if topic not in link.asked]
        link.asked.update(new)
        if new:
            self._request(link, partial(self._serve, link, new))

    def _request(self, link: Link, do: Callable[[], None]) -> None:
        """Let the other end of a link act, now or when the request has reached it."""
        delay, session = self._travel.delay_s(link), link.session
        if not delay:
            do()
            return
        link.requested = max(link.requested, self._clock.now + delay)

        def reached() -> None:
            if link.session == session:
                do()

        self._clock.at(link.requested, reached)

    def _serve(self, link: Link, topics: Sequence[str]) -> None:
        retained = self._retained.get(link.outbox, {})
        for topic in topics:
            self._readers.setdefault((link.outbox, topic), {})[link] = None
            if topic in retained:
                self._send(link, topic, retained[topic])

    def _forget(self, link: Link, topics: Sequence[str]) -> None:
        for topic in topics:
            self._readers.get((link.outbox, topic), {}).pop(link, None)

    def _send(self, link: Link, topic: str, data: bytes) -> None:
        if link.stalled is not None:
            link.stalled.append((topic, data))
            return
        event = ev.Received(neighbour=link.outbox, topic=topic, data=data)
        for when in self._travel.arrivals(link, self._clock.now):
            link.drained = max(link.drained, when)
            self._clock.at(when, partial(self._arrive, link, link.session, event))

    def _arrive(self, link: Link, session: int, event: ev.Event) -> None:
        if session >= link.heard_from:
            self._deliver(link.reader, event)

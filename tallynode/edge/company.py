"""Whom a peer has to do with now: the pinned, less those it shuns. All else follows from it."""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from tallynode.edge.admission import Admission
from tallynode.edge.broker import Broker
from tallynode.edge.inbox import Inbox
from tallynode.edge.links import Links
from tallynode.protocol import events as ev

log = structlog.get_logger(__name__)


class Company:
    """Keeps links, outbox and the protocol in line with the pins, and parts from the shunned.

    Args:
        admission: the pins; None: everybody is let in.
        neighbours: names of the peers that this one links to.
        links: to them.
        inbox: is told whose ballots count.
    """

    def __init__(
        self, admission: Admission | None, neighbours: Iterable[str], links: Links, inbox: Inbox
    ) -> None:
        self._admission = admission
        self._neighbours = frozenset(neighbours)
        self._links = links
        self._inbox = inbox
        self._broker: Broker | None = None
        self._shunned: dict[str, asyncio.TimerHandle] = {}
        self._jobs: set[asyncio.Task[None]] = set()

    async def start(self, broker: Broker, voters: frozenset[str]) -> None:
        """Begin with the pins as they are."""
        self._broker = broker
        if self._admission is not None:
            self._admission.on_learnt = self._changed
            await self._links.allow(self._admission.pinned)
            self._tell(voters, self._admission.pinned)

    async def stop(self) -> None:
        """Leave links and outbox alone from now on."""
        for timer in self._shunned.values():
            timer.cancel()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def set_pins(self, pins: Mapping[str, str]) -> None:
        """Take over the pins of a topology that was read again."""
        if self._admission is None:
            log.warning("nothing to reload: peers are not pinned here")
            return
        before = self._admission.pins
        self._admission.set_pins(pins)
        log.info("pins read again", pinned=sorted(pins))
        if self._broker is not None:  # else all are told at the start
            replaced = frozenset(n for n in before.keys() & pins if before[n] != pins[n])
            self._tell(frozenset(before), frozenset(pins) - replaced)
            self._changed(replaced)

    def shun(self, neighbour: str, for_s: float) -> None:
        """Part from a neighbour, and neither connect to it nor let it in for so long."""
        if older := self._shunned.pop(neighbour, None):
            older.cancel()
        loop = asyncio.get_running_loop()
        self._shunned[neighbour] = loop.call_later(for_s, self._forgive, neighbour)
        self._changed()

    def _forgive(self, neighbour: str) -> None:
        log.info("shunned no more", neighbour=neighbour)
        del self._shunned[neighbour]
        self._changed()

    def _tell(self, before: frozenset[str], now: frozenset[str]) -> None:
        """Whose ballots count: those of pinned peers, also where another one relays them."""
        for name in sorted(before - now):
            self._inbox.put(ev.Expelled(origin=name))
        for name in sorted(now - before):
            self._inbox.put(ev.Trusted(origin=name))

    def _changed(self, replaced: frozenset[str] = frozenset()) -> None:
        """Let links and outbox follow, at once; part from the old devices of names replaced."""
        task = asyncio.ensure_future(self._follow(replaced))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _follow(self, replaced: frozenset[str]) -> None:
        assert self._broker is not None
        shunned = frozenset(self._shunned)
        known = self._neighbours if self._admission is None else self._admission.pinned
        if replaced and self._admission is not None:
            await self._links.allow(known - shunned - replaced)
            self._tell(frozenset(), replaced & self._admission.pinned)  # of now
        await self._links.allow(known - shunned)
        if self._admission is not None:
            self._admission.set_shunned(shunned)
            await self._broker.pins_changed()

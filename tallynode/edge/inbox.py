"""The daemon's queue of events: bounded for each neighbour, and none can crowd out another.

What happens inside (a training that ended, the clock, a signal) goes first and is never lost.
Neighbours then take turns, an event each; beyond its bound a neighbour loses its own messages only.
"""

import asyncio
from collections import deque

import structlog

from tallynode.protocol import events as ev

WAITING_BYTES_MAX = 2 << 20  # bytes a neighbour; one that floods fills memory
EVENT_BYTES = 512  # bytes that an empty message takes here: a flood of them fills memory too

Outside = ev.Received | ev.LinkUp | ev.LinkDown

log = structlog.get_logger(__name__)


class _Queue:
    """What one neighbour has sent, and what its link did, in order."""

    def __init__(self) -> None:
        self.events: deque[Outside] = deque()
        self.waiting = 0  # bytes
        self.dropped = 0  # messages


class Inbox:
    """Events, our own first, then of each neighbour in turn."""

    def __init__(self) -> None:
        self._own: deque[ev.Event] = deque()
        self._queues: dict[str, _Queue] = {}
        self._turns: deque[str] = deque()  # neighbours with something waiting
        self._some = asyncio.Event()

    @property
    def dropped(self) -> int:
        """Messages lost because their senders flooded us."""
        return sum(queue.dropped for queue in self._queues.values())

    def put(self, event: ev.Event) -> None:
        """Add an event; a message is dropped and counted where too many of its sender wait."""
        if isinstance(event, Outside):
            self._put_outside(event)
        else:
            self._own.append(event)
        if self._own or self._turns:
            self._some.set()

    async def get(self) -> ev.Event:
        """Wait for the next event, letting the loop turn once: a flood must not keep it."""
        await asyncio.sleep(0)
        await self._some.wait()
        event = self._own.popleft() if self._own else self._next_outside()
        if not self._own and not self._turns:
            self._some.clear()
        return event

    def _put_outside(self, event: Outside) -> None:
        queue = self._queues.setdefault(event.neighbour, _Queue())
        size = _size(event)
        if isinstance(event, ev.Received) and queue.waiting + size > WAITING_BYTES_MAX:
            queue.dropped += 1
            if queue.dropped == 1:
                log.error("messages dropped: it floods this peer", neighbour=event.neighbour)
            return
        if not queue.events:
            self._turns.append(event.neighbour)
        queue.events.append(event)
        queue.waiting += size

    def _next_outside(self) -> ev.Event:
        name = self._turns.popleft()
        queue = self._queues[name]
        event = queue.events.popleft()
        queue.waiting -= _size(event)
        if queue.events:
            self._turns.append(name)
        return event


def _size(event: Outside) -> int:
    return EVENT_BYTES + (len(event.data) if isinstance(event, ev.Received) else 0)

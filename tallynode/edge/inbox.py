"""The daemon's queue of events: what neighbours send is bounded, what happens inside never lost."""

import asyncio

import structlog

from tallynode.protocol import events as ev

MESSAGES_MAX = 10_000  # events waiting; a neighbour that floods loses what is beyond it

log = structlog.get_logger(__name__)


class Inbox:
    """Events in the order in which they came."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ev.Event] = asyncio.Queue()
        self.dropped = 0  # messages

    def put(self, event: ev.Event) -> None:
        """Add an event; a message is dropped and counted where too many wait."""
        if isinstance(event, ev.Received) and self._queue.qsize() >= MESSAGES_MAX:
            self.dropped += 1
            if self.dropped == 1:
                log.error("messages dropped: neighbours flood this peer", waiting=MESSAGES_MAX)
            return
        self._queue.put_nowait(event)

    async def get(self) -> ev.Event:
        """Wait for the next event."""
        return await self._queue.get()

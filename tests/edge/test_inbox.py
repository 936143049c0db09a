"""The daemon's queue of events under a flood."""

from tallynode.edge.inbox import MESSAGES_MAX, Inbox
from tallynode.protocol import events as ev


async def test_a_flood_drops_messages_and_nothing_else() -> None:
    """Beyond the bound messages are counted and dropped; the peer's own events always get in."""
    inbox = Inbox()
    for _ in range(MESSAGES_MAX + 5):
        inbox.put(ev.Received(neighbour="b", topic="h", data=b""))
    inbox.put(ev.Learned(round=1, metrics={}))
    inbox.put(ev.Stop())
    assert inbox.dropped == 5
    events = [await inbox.get() for _ in range(MESSAGES_MAX + 2)]
    assert isinstance(events[-2], ev.Learned)
    assert isinstance(events[-1], ev.Stop)

"""The daemon's queue of events under a flood."""

import asyncio

from tallynode.edge.inbox import EVENT_BYTES, WAITING_BYTES_MAX, Inbox
from tallynode.protocol import events as ev


def message(neighbour: str, size: int = 0) -> ev.Received:
    """A message of so many bytes."""
    return ev.Received(neighbour=neighbour, topic="h", data=bytes(size))


async def test_a_flood_drops_messages_of_its_sender_and_nothing_else() -> None:
    """Beyond the bound messages are counted and dropped; all other events get in."""
    inbox = Inbox()
    fit = WAITING_BYTES_MAX // EVENT_BYTES
    for _ in range(fit + 5):
        inbox.put(message("b"))
    inbox.put(ev.LinkDown(neighbour="b"))
    inbox.put(message("c"))
    inbox.put(ev.Stop())
    assert inbox.dropped == 5
    events = [await inbox.get() for _ in range(fit + 3)]
    assert events[:3] == [ev.Stop(), message("b"), message("c")]
    assert events[-1] == ev.LinkDown(neighbour="b")


async def test_large_messages_are_bounded_by_their_bytes() -> None:
    """What waits of one neighbour never exceeds the bound, and there is room again behind it."""
    inbox = Inbox()
    for _ in range(100):
        inbox.put(message("b", WAITING_BYTES_MAX // 4))
    assert inbox.dropped == 97
    for _ in range(3):
        await inbox.get()
    inbox.put(message("b", WAITING_BYTES_MAX // 2))
    assert inbox.dropped == 97


async def test_a_full_inbox_lets_the_loop_turn() -> None:
    """Between two events others on the loop have their turn, however many wait."""
    inbox = Inbox()
    for _ in range(10):
        inbox.put(message("b"))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(10):
        await inbox.get()
    task.cancel()
    assert turns >= 9


async def test_waiting_ends_with_an_event() -> None:
    """Whoever waits at an empty inbox gets what comes next, once."""
    inbox = Inbox()
    for event in (ev.Stop(), message("b")):
        waiting = asyncio.create_task(inbox.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        inbox.put(event)
        assert await waiting == event

"""Reconnections without end: nothing of them stays."""

import asyncio
import gc
import tracemalloc
from dataclasses import dataclass

import psutil

from tallynode.edge.links import Links
from tallynode.edge.outbox import Outbox

WARM, MORE = 100, 300  # reconnections; the first ones start threads and fill caches
FAST = (0.001, 0.002)  # seconds of backoff
GROWTH_MAX = 32 << 10  # bytes over all of them; one kept buffer or task each is far more


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    fds: int
    threads: int
    tasks: int

    @classmethod
    def now(cls) -> "Held":
        """As it stands."""
        process = psutil.Process()
        return cls(process.num_fds(), process.num_threads(), len(asyncio.all_tasks()))


async def test_reconnections_leave_nothing_behind() -> None:
    """Descriptors, threads, tasks and memory are flat over hundreds of lost connections."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    box = Outbox("127.0.0.1", 0)
    address = await box.start()
    await box.publish("b", bytes(1000), retain=True)
    links = Links(
        "me",
        on_up=lambda _: heard.put_nowait("up"),
        on_down=lambda _: heard.put_nowait("down"),
        on_message=lambda *_: heard.put_nowait("message"),
        backoff=FAST,
    )
    links.subscribe("n", ["b"])
    links.set_address("n", *address)
    running = asyncio.create_task(links.run())

    async def reconnect(times: int) -> None:
        for _ in range(times):
            assert [await heard.get(), await heard.get()] == ["up", "message"]
            for session in list(box._sessions):
                session.abort()
            assert await heard.get() == "down"

    async with asyncio.timeout(60):
        tracemalloc.start()
        await reconnect(WARM)
        gc.collect()
        before, memory = Held.now(), tracemalloc.get_traced_memory()[0]
        await reconnect(MORE)
        gc.collect()
        after, grown = Held.now(), tracemalloc.get_traced_memory()[0] - memory
        tracemalloc.stop()
    await links.stop()
    await running
    await box.stop()
    assert after.fds <= before.fds
    assert after.threads <= before.threads
    assert after.tasks <= before.tasks
    assert grown < GROWTH_MAX


async def test_attempts_at_an_absent_broker_leave_nothing_behind(free_port: int) -> None:
    """A neighbour that is away for good costs nothing but the attempts."""
    links = Links("me", on_up=print, on_down=print, on_message=print, backoff=FAST)
    links.set_address("n", "127.0.0.1", free_port)
    running = asyncio.create_task(links.run())
    tracemalloc.start()
    await asyncio.sleep(0.3)
    gc.collect()
    before, memory = Held.now(), tracemalloc.get_traced_memory()[0]
    await asyncio.sleep(1)
    gc.collect()
    after, grown = Held.now(), tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()
    await links.stop()
    await running
    assert after.fds <= before.fds + 1  # an attempt may be under way
    assert after.threads <= before.threads
    assert after.tasks <= before.tasks + 1
    assert grown < GROWTH_MAX

"""Training in a thread of its own, so that the network stays live while a step runs.

One thread, one job at a time: the protocol asks for the next only after the last was answered, so
the state that a checkpoint takes between two jobs is never in motion. Torch gives up the
interpreter's lock inside its kernels; what remains is measured as lateness of the event loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
import torch

from tallynode.errors import DataError
from tallynode.methods.jobs import learned, trained
from tallynode.methods.method import Method
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev

SAMPLE_EVERY_S = 0.02  # seconds between two looks at the loop's lateness while a job runs

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Trainer:
    """Runs a method's jobs beside the event loop and measures how late they make it.

    Args:
        method: what trains and votes.
        renew: takes new private data in; how many there then are, None if nothing is new.
        pace_s: least seconds from the start of one training to the start of the next.
    """

    def __init__(
        self, method: Method, renew: Callable[[], int | None], pace_s: float = 0.0
    ) -> None:
        self._method = method
        self._renew_data = renew
        self._pace_s = pace_s
        self._next_at = 0.0  # in the loop's time: no training begins earlier
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trainer")
        self.lateness_s = 0.0  # the worst since it was last reset

    async def train(self, job: ef.Train) -> ev.Trained:
        """Train for a round and vote."""

        def work() -> ev.Trained:
            self._renew()
            return trained(self._method, job)

        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._next_at - loop.time())
        self._next_at = loop.time() + self._pace_s
        return await self._run(work)

    async def learn(self, job: ef.Learn) -> ev.Learned:
        """Learn from what a round came to."""
        return await self._run(lambda: learned(self._method, job))

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that resuming needs; only while no job runs."""
        return self._method.state()

    def close(self) -> None:
        """Let a running job end, start no other."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _renew(self) -> None:
        """Take new private data in; what cannot be used is said, and the old data serve on."""
        try:
            samples = self._renew_data()
            if samples is not None:
                log.info("new private data", samples=samples)
        except DataError as error:
            log.error("new private data not used", why=str(error))

    async def _run(self, job: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        watch = asyncio.create_task(self._watch(loop))
        try:
            return await loop.run_in_executor(self._thread, job)
        finally:
            watch.cancel()

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            due = loop.time() + SAMPLE_EVERY_S
            await asyncio.sleep(SAMPLE_EVERY_S)
            self.lateness_s = max(self.lateness_s, loop.time() - due)

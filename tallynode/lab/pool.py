"""Many virtual runs, each in a process of its own, watched, and ended together.

A process a run instead of a ProcessPoolExecutor: nothing is shared, so one that is killed in the
middle of a word leaves no lock held and no thread waiting for the rest of it.
"""

import hashlib
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import ForkServerProcess
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from tallynode import __version__
from tallynode.config import Mesh
from tallynode.lab.page import format_seconds
from tallynode.lab.processes import end_with_parent, hear, tell, warm_context

T = TypeVar("T")

STEP = {"mlp": 1.0, "lenet5": 30.0, "resnet8": 300.0}  # what a sample costs, about, in a model
MODELS_ONLY = ("fedavg", "fedprox", "local", "centralised")  # methods that look at no probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run to do."""

    label: tuple[object, ...]  # what the tables group by, such as (data, peers, α, method)
    mesh: Mesh
    key: str = field(init=False)  # digest of all that the run depends on, but for the code: code.py

    def __post_init__(self) -> None:
        """Take the digest once: to write a mesh out is slow, and keys are asked for often."""
        text = f"{__version__} {self.mesh.resolved()}"
        digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        object.__setattr__(self, "key", digest)


def in_pool(
    todo: Sequence[Case],
    work: Callable[[Mesh], T],
    take: Callable[[Case, T], None],
    *,
    jobs: int,
    console: Console,
) -> None:
    """Do the cases, the long ones first, so that no core waits for the last.

    Args:
        todo: what to do.
        work: does a case, in another process.
        take: gets each result as it comes, in this process.
        jobs: how many are done at a time.
        console: where progress is shown.
    """
    waiting = deque(sorted(todo, key=cost, reverse=True))
    running: dict[Connection, _Running[T]] = {}
    try:
        with _Watched(todo, console) as watched, _interrupts() as interrupted:
            while waiting or running:
                while waiting and len(running) < max(1, jobs):
                    one = _Running(waiting.popleft(), work)
                    running[one.pipe] = one
                for pipe in wait([*running, interrupted]):
                    if pipe is interrupted:
                        raise KeyboardInterrupt
                    one = running.pop(cast(Connection, pipe))
                    take(one.case, one.result())
                    watched.done(one.case)
    finally:  # Ctrl-C above all: nobody waits for what runs
        for one in running.values():
            one.process.terminate()


@contextmanager
def _interrupts() -> Iterator[Connection]:
    """Where there is something to read after Ctrl-C or SIGTERM: neither breaks into anything."""
    ours, theirs = Pipe(duplex=False)
    asked = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: theirs.send(None)) for number in asked}
    try:
        yield ours
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Running(Generic[T]):
    """A case in a process, which ends with ours."""

    def __init__(self, case: Case, work: Callable[[Mesh], T]) -> None:
        context = warm_context()
        self.case = case
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(
            target=_work, args=(work, case.mesh, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def result(self) -> T:
        """What came out, once there is something to read; what was raised there is raised here."""
        name = " ".join(map(str, self.case.label))
        try:
            return cast(T, hear(self.pipe, self.process, f"{name}: its process"))
        finally:
            self.process.join()
            self.pipe.close()


def _work(work: Callable[[Mesh], T], mesh: Mesh, pipe: Connection) -> None:
    """The life of such a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells all; the first one decides
    end_with_parent()
    tell(pipe, partial(work, mesh))


def cost(case: Case) -> float:
    """Roughly what a run costs, in samples of the smallest model that go through a net."""
    mesh, task, rounds = case.mesh, case.mesh.task, case.mesh.rounds
    local = rounds.local_epochs * (task.partition.per_peer or 500)
    if rounds.local_steps:
        local = rounds.local_steps * task.batch_size
    probes = 0 if mesh.method.name in MODELS_ONLY else 3 * task.probes.count
    one = 2 * local + probes + (task.test or 300)
    return len(mesh.peers) * (rounds.count * one + 500) * STEP[task.model]


class _Watched:
    """Shows how far the runs are: a bar, or a line a run where output is piped."""

    def __init__(self, todo: Sequence[Case], console: Console) -> None:
        self._costs = {case.key: cost(case) for case in todo}
        self._console = console
        self._left = _TimeLeft(math.fsum(self._costs.values()))
        name = TextColumn("{task.description}", markup=False)  # which may hold brackets
        columns = (name, BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, self._left, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("runs", total=len(todo))
        self._count = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def done(self, case: Case) -> None:
        """Count a run that is done."""
        self._count += 1
        self._left.spend(self._costs[case.key])
        name = " ".join(map(str, case.label))
        self._bar.update(self._task, advance=1, description=name)
        if not self._console.is_terminal:
            place = f"{self._count}/{len(self._costs)}"
            line = f"{place} {name}; {self._left.text()}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _TimeLeft(ProgressColumn):
    """How long the rest takes if it costs as much, a unit, as what is done."""

    def __init__(self, total: float) -> None:
        super().__init__()
        self._total, self._spent = total, 0.0
        self._began = self._last = time.monotonic()

    def spend(self, cost: float) -> None:
        """Take in what is done now."""
        self._spent += cost
        self._last = time.monotonic()

    def text(self) -> str:
        """In words."""
        if not self._spent:
            return "time left: not known yet"
        rest = (self._total - self._spent) * (self._last - self._began) / self._spent
        left = max(0.0, rest - (time.monotonic() - self._last))
        return f"about {format_seconds(left)} left"

    def render(self, task: Task) -> Text:
        """The column."""
        return Text(self.text(), style="dim")

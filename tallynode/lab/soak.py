"""A mesh that runs for long: does anything of a peer grow?

Resident memory, descriptors and threads are sampled from outside; the tasks of the event loop are
what the peer last recorded. What grows while a peer warms up (torch's allocator, caches, pages of
the fork server that it touches) is left out; over the rest, least squares give the slope.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tallynode.config import Mesh
from tallynode.errors import TallynodeError
from tallynode.lab.processes import ProcessMesh

MIB = 1 << 20
HOUR_S = 3600.0
SLOPE_MAX = 1.0  # MiB an hour
READ_S = 1.0  # seconds between two looks at the records


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at one peer."""

    t_s: float
    rss_mib: float
    own_mib: float  # of it what is not mapped from files: no library that was merely touched
    fds: int
    threads: int
    tasks: int
    rounds: int
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """What one peer came to after the warm-up.

    Pairs are medians of the first and of the last quarter: a look that finds a file open while it
    is saved is no leak.
    """

    peer: str
    rounds: int
    cpu_share: float
    slope_mib_h: float  # of resident memory
    own_slope_mib_h: float
    rss_mib: tuple[float, float]
    fds: tuple[float, float]
    threads: tuple[float, float]
    tasks: tuple[float, float]

    @property
    def flat(self) -> bool:
        """Whether nothing grew."""
        pairs = (self.fds, self.threads, self.tasks)
        return self.slope_mib_h < SLOPE_MAX and all(late <= early for early, late in pairs)


@dataclass(slots=True)
class _Watched:
    process: psutil.Process
    tasks: int = 0
    rounds: int = 0
    samples: list[Sample] = field(default_factory=list)


def soak(
    mesh: Mesh, folder: Path, *, seconds: float, every_s: float, tell: Callable[[float], None]
) -> dict[str, list[Sample]]:
    """Run the mesh for so long; the samples of each peer.

    Args:
        mesh: a mesh whose rounds do not end.
        folder: where the peers write.
        seconds: how long.
        every_s: seconds between two samples.
        tell: called with the seconds gone by after each sample.

    Raises:
        TallynodeError: a peer ended by itself.
    """
    processes = ProcessMesh(mesh, folder)
    try:
        watched = {name: _Watched(psutil.Process(processes.start(name))) for name in mesh.names}
        began = time.monotonic()
        due = every_s
        while (now := time.monotonic() - began) < seconds:
            for record in processes.new_records():
                of = watched[record["peer"]]
                # The midst of a round has a task more or less than its end: the record is the end.
                of.tasks, of.rounds = record["tasks"], record["round"]
            ended = {name: word for name, word in processes.exits().items() if word}
            if ended:
                raise TallynodeError(f"ended during the soak: {ended}")
            if now >= due:
                due += every_s
                for of in watched.values():
                    of.samples.append(_look(of, now))
                tell(now)
            time.sleep(READ_S)
    finally:
        processes.stop()
    return {name: of.samples for name, of in watched.items()}


def _look(of: _Watched, now: float) -> Sample:
    with of.process.oneshot():
        times, memory = of.process.cpu_times(), of.process.memory_info()
        return Sample(
            t_s=now,
            rss_mib=memory.rss / MIB,
            own_mib=(memory.rss - memory.shared) / MIB,
            fds=of.process.num_fds(),
            threads=of.process.num_threads(),
            tasks=of.tasks,
            rounds=of.rounds,
            cpu_s=times.user + times.system,
        )


def trend(peer: str, samples: Sequence[Sample], warm_up_s: float) -> Trend:
    """Sum up the samples of a peer after its warm-up; at least four are needed."""
    warm = [sample for sample in samples if sample.t_s >= warm_up_s]
    quarter = len(warm) // 4
    if not quarter:
        raise TallynodeError(f"{peer}: too few samples after a warm-up of {warm_up_s:g} s")
    first, last = warm[0], warm[-1]

    def slope(what: Callable[[Sample], float]) -> float:
        line = statistics.linear_regression([s.t_s for s in warm], [what(s) for s in warm])
        return line.slope * HOUR_S

    def pair(what: Callable[[Sample], float]) -> tuple[float, float]:
        early, late = warm[:quarter], warm[-quarter:]
        return statistics.median(map(what, early)), statistics.median(map(what, late))

    return Trend(
        peer=peer,
        rounds=last.rounds - first.rounds,
        cpu_share=(last.cpu_s - first.cpu_s) / (last.t_s - first.t_s),
        slope_mib_h=slope(lambda s: s.rss_mib),
        own_slope_mib_h=slope(lambda s: s.own_mib),
        rss_mib=pair(lambda s: s.rss_mib),
        fds=pair(lambda s: s.fds),
        threads=pair(lambda s: s.threads),
        tasks=pair(lambda s: s.tasks),
    )

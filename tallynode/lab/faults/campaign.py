"""Many seeds on all cores: what broke, what was exercised, how fast."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields

from tallynode.lab.faults.run import Outcome, run_seed

CHUNK = 8  # seeds handed to a process at once
# What a campaign of some hundred seeds must have met: a path that no seed takes is not tested.
PATHS = (
    "fault: kill",
    "fault: power",
    "fault: strike",
    "died inside a save",
    "died between two effects",
    "save torn",
    "rename undone by power cut",
    "checkpoint spoilt",
    "save refused",
    "resumed",
    "fault: pause",
    "fault: jump",
    "fault: slow",
    "fault: leave",
    "fault: flap",
    "fault: clog",
    "fault: oneway",
    "fault: island",
    "fault: halves",
    "message lost",
    "message twice",
    "message out of order",
    "link lost",
    "ask",
    "answer",
    "subscribe",
    "unsubscribe",
    "closed by all",
    "closed by quorum",
    "closed by deadline",
    "closed by behind",
    "closed by alone",
    "late ballot tallied",
    "rounds skipped",
    "coded as packed",
    "coded as alone",
    "coded as history",
    "coded as tally",
)


@dataclass(slots=True)
class Campaign:
    """The sum of many outcomes."""

    seeds: int = 0
    peer_rounds: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)  # seed -> what broke
    wall_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one seed."""
        self.seeds += 1
        self.peer_rounds += outcome.peer_rounds
        self.steps += outcome.steps
        self.virtual_s += outcome.virtual_s
        self.seen += outcome.seen
        if outcome.broken:
            self.broken[outcome.seed] = outcome.broken

    def as_json(self) -> dict[str, object]:
        """What the numbers were, for a file."""
        counts = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**counts, "seen": dict(sorted(self.seen.items())), "missed": self.missed()}

    def missed(self) -> list[str]:
        """Paths that no seed has taken."""
        return [path for path in PATHS if not self.seen[path]]


def outcomes(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    """Run seeds in so many processes; outcomes in the order of the seeds."""
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_seed, seeds, chunksize=CHUNK)


def campaign(seeds: range, jobs: int | None = None) -> Campaign:
    """Run seeds, with progress on standard error where a person watches."""
    total, began = Campaign(), time.monotonic()
    for outcome in outcomes(seeds, jobs or os.cpu_count() or 1):
        total.add(outcome)
        total.wall_s = time.monotonic() - began
        if outcome.broken:
            print(f"seed {outcome.seed}: {outcome.broken}", file=sys.stderr)
            print(f"  scripts/simulate_faults --seed {outcome.seed} --trace", file=sys.stderr)
        if sys.stderr.isatty() and total.seeds % CHUNK == 0:
            print(f"\r{total.seeds} of {len(seeds)} seeds", end="\r", file=sys.stderr)
    return total

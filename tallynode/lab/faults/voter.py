"""A trainer without learning: votes that change slowly, as a witness's do, and differ each time.

A round that is trained twice, as after a crash, gives other votes: that is what casting two ballots
for one round would show by.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol.settings import PeerSettings

ERRS = 0.2  # share of a new voter's votes that are not the truth
CHANGES = 0.05  # share of the votes that one training changes


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a voter takes."""

    train_s: float
    learn_s: float
    jitter: float  # share by which each training may take longer


class Voter:
    """Votes on every probe, drawn from a seed.

    Args:
        settings: its peer's.
        seed: what its votes are drawn from, with nothing else.
        pace: how long it takes.
    """

    def __init__(self, settings: PeerSettings, seed: tuple[int, int], pace: Pace) -> None:
        self._draw = np.random.Generator(np.random.PCG64(seed))
        self._pace = pace
        self._classes = settings.classes
        self.slow = 1.0  # factor by which everything takes longer now
        self.steady = False  # whether it takes equally long each time
        truth = np.arange(settings.probes) % settings.classes
        self._votes = self._change(truth, ERRS)

    def train(self, job: ef.Train) -> tuple[float, Callable[[], ev.Trained]]:
        """See Trainer."""
        self._votes = self._change(self._votes, CHANGES)
        voted = ev.Trained(round=job.round, content=self._votes[job.probes])
        return self._took(self._pace.train_s), lambda: voted

    def learn(self, job: ef.Learn) -> tuple[float, Callable[[], ev.Learned]]:
        """See Trainer."""
        learned = ev.Learned(round=job.round, metrics={})
        return self._took(self._pace.learn_s), lambda: learned

    def _change(self, votes: np.ndarray, share: float) -> np.ndarray:
        new = self._draw.integers(0, self._classes, len(votes))
        return np.where(self._draw.random(len(votes)) < share, new, votes)

    def _took(self, seconds: float) -> float:
        if self.steady:
            return seconds
        return seconds * self.slow * (1.0 + self._pace.jitter * float(self._draw.random()))

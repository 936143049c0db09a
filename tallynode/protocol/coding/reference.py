"""What sender and receiver of a ballot both know, and the contexts that follow from it.

The sender's own last ballots say most: which votes have stood for long, which changed a round ago,
and what they were before. Where both ends have tallied the same ballots, the consensus says more:
a vote that agrees with it, or that many others cast, seldom changes, and one that changes often
goes there. Everything here is integers, so that both ends get the same whatever their machine.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tallynode.errors import LocalError

DEPTH_MAX = 6  # previous ballots looked at; more gain below 1 %
DISTANCE_MAX = 255  # rounds back to the last of them that fit the name
HASH_BITS = 12  # a wrong reference of the right rounds passes once in 4,096 times
UNTALLIED, DISAGREES, AGREES = range(3)
RUNS = DEPTH_MAX * (DEPTH_MAX + 1) // 2  # contexts (depth, run) of each of the three
SUPPORTS = 9  # contexts of support, from nobody else to everybody
SPANS = 3  # of runs: 1, 2 to 4, more
RUN_CONTEXTS = 3 * RUNS
STAY_CONTEXTS = RUN_CONTEXTS + SUPPORTS * SPANS + 1  # the last: support unknown
UNKNOWN = -1  # no such class


@dataclass(frozen=True, slots=True)
class Common:
    """What a round's tally says to both ends."""

    labels: np.ndarray  # (n,) int, consensus class
    support: np.ndarray  # (n,) int, tallied ballots that vote as the sender's last one does
    voters: int  # ballots tallied

    @classmethod
    def of(cls, labels: np.ndarray, ballots: np.ndarray, previous: np.ndarray) -> "Common":
        """From a consensus: labels (n,), the tallied votes (voters, n), the sender's last (n,)."""
        return cls(labels, (ballots == previous).sum(axis=0), len(ballots))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The sender's last ballots over the same probes, and maybe the tally.

    `distance` is how many rounds before the coded ballot the last of `history` was cast; `common`
    belongs to that same round.
    """

    history: tuple[np.ndarray, ...]  # (n,) int each, oldest first, at least one
    distance: int = 1
    common: Common | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.distance <= DISTANCE_MAX:
            raise LocalError(f"a reference {self.distance} rounds back cannot be named")
        if not self.history or len({len(votes) for votes in self.history}) != 1:
            raise LocalError("a reference needs ballots, all over the same probes")

    @property
    def previous(self) -> np.ndarray:
        """The sender's last ballot, (n,) int."""
        return self.history[-1]

    @property
    def depth(self) -> int:
        """Ballots that are looked at."""
        return min(len(self.history), DEPTH_MAX)

    def hash(self, classes: int) -> int:
        """HASH_BITS over all that is looked at."""
        kind = "<u2" if classes <= 1 << 16 else "<u4"
        digest = hashlib.blake2b(digest_size=2)
        for votes in self.history[-self.depth :]:
            digest.update(votes.astype(kind).tobytes())
        if self.common:
            digest.update(self.common.labels.astype(kind).tobytes())
            digest.update(self.common.support.astype("<u2").tobytes())
            digest.update(self.common.voters.to_bytes(4, "little"))
        return int.from_bytes(digest.digest(), "big") >> 16 - HASH_BITS


class Contexts(NamedTuple):
    """A reference as the model reads it, (n,) int32 each."""

    previous: np.ndarray  # class
    run: np.ndarray  # context in [0, RUN_CONTEXTS)
    support: np.ndarray  # context in [RUN_CONTEXTS, STAY_CONTEXTS)
    before: np.ndarray  # the last other class that was voted, or UNKNOWN
    label: np.ndarray  # the consensus where it differs from previous, or UNKNOWN
    kind: np.ndarray  # in [0, 5): how before and consensus stand to each other


def contexts(reference: Reference) -> Contexts:
    """Look at each probe's past, in integers."""
    history, depth = reference.history[-reference.depth :], reference.depth
    previous = history[-1].astype(np.int32)
    run = np.ones(len(previous), dtype=np.int32)  # ballots for which the vote has stood
    before = np.full(len(previous), UNKNOWN, dtype=np.int32)
    stood = np.ones(len(previous), dtype=bool)
    for votes in history[-2::-1]:
        same = votes == previous
        before = np.where(stood & ~same, votes, before)
        stood &= same
        run += stood
    column = depth * (depth - 1) // 2 + run - 1
    common = reference.common
    if common is None:
        none = np.full(len(previous), UNKNOWN, dtype=np.int32)
        unknown = np.full(len(previous), STAY_CONTEXTS - 1, dtype=np.int32)
        return Contexts(
            previous, column, unknown, before.astype(np.int32), none, np.zeros_like(previous)
        )
    agrees = common.labels == previous
    others = np.clip(common.support - 1, 0, None) * (SUPPORTS - 1) // max(1, common.voters - 1)
    span = (run > 1).astype(np.int32) + (run > 4)
    kind = np.where(before == common.labels, 1, np.where(agrees, 2, 3))
    return Contexts(
        previous,
        (np.where(agrees, AGREES, DISAGREES) * RUNS + column).astype(np.int32),
        (RUN_CONTEXTS + np.minimum(others, SUPPORTS - 1) * SPANS + span).astype(np.int32),
        before.astype(np.int32),
        np.where(agrees, UNKNOWN, common.labels).astype(np.int32),
        kind.astype(np.int32),
    )

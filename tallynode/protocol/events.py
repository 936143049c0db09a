"""Everything that can happen to a peer. Time is not in them: `step` takes it beside the event."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The process runs and its outbox is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUp:
    """This peer is connected to the outbox of a neighbour."""

    neighbour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDown:
    """The connection to a neighbour's outbox is lost."""

    neighbour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expelled:
    """A voter is not trusted, or not any more, whoever passes its ballots on."""

    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A voter that was expelled is trusted again."""

    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A neighbour's outbox delivered a message."""

    neighbour: str
    topic: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The trainer finished training for a round and voted."""

    round: int
    content: np.ndarray  # votes (probes of the round,) int; what the method sends instead
    delta: bytes = b""  # what the learner has changed by, where the Train asked for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The trainer finished learning from a round's consensus."""

    round: int
    metrics: Mapping[str, object]  # carried into the report untouched
    refused: Mapping[str, str] = field(default_factory=dict)  # whose delta was damaged, and how


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaved:
    """The disk refused the last Save: what it was to cover is not covered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The instant that `deadline()` named has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The user asks this peer to end."""


Event = (
    Started
    | LinkUp
    | LinkDown
    | Expelled
    | Trusted
    | Received
    | Trained
    | Learned
    | Unsaved
    | Tick
    | Stop
)

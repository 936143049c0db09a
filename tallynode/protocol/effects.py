"""Everything that a peer can ask of the world. Their order in `step`'s answer is contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tallynode.protocol.contents import Outcome

Deltas = Mapping[str, Sequence[tuple[int, bytes]]]  # by neighbour: (round, delta), oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Train for a round and answer with Trained."""

    round: int
    probes: np.ndarray  # (n,) int64, the probes to vote on
    bridge: bool = False  # whether the answer is to hold a delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Learn:
    """Learn from what a round came to (None: from private data alone), answer with Learned."""

    round: int
    outcome: Outcome | None
    deltas: Deltas = field(default_factory=dict)  # to be merged first


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Make this state, with the trainer's, durable before any later effect of the same step."""

    round: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Put a message on this peer's own outbox."""

    topic: str
    data: bytes
    retain: bool = True  # later readers get it too


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """Read these topics of a neighbour's outbox."""

    neighbour: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """Stop reading these topics of a neighbour's outbox."""

    neighbour: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Keep a retained message of this peer's outbox; a restarted Peer gets it back."""

    topic: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shun:
    """Part from a neighbour, and for so long neither connect to it nor let it in."""

    neighbour: str
    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A round is over: one line of the run's records."""

    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Something a person should know."""

    level: str  # info | warning | error
    event: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Nothing more will happen: the process may end."""


Effect = (
    Train | Learn | Save | Publish | Subscribe | Unsubscribe | Keep | Shun | Report | Log | Finish
)

"""One round: its phases, its probes, and when it has waited long enough.

    STARTING ──► TRAINING ──► GATHERING ──► LEARNING ──► TRAINING … ──► DONE
                    ▲             ▲
                    └─ next round └─ a restored ballot

A peer that starts again when no round is left goes from STARTING to DONE, and one whose disk has
forgotten that it voted in the last round from TRAINING.

A round closes when every voter that is owed has voted; or, once a quorum is in, at the adaptive
deadline: median + LAG_SPREAD · MAD of the recent ballots' lags behind our own vote, within the
configured bounds; or, without a quorum, at the upper bound. The median absolute deviation is scaled
to a standard deviation of normal lags (1.4826), so that LAG_SPREAD counts deviations.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol import limits

LAG_SPREAD = 5.0  # deviations above the median lag; one late Wi-Fi burst stays within it
MAD_TO_SIGMA = 1.4826
OVERDUE_SHARE = 0.25  # of the least deadline; sooner a second road costs more than the wait


class Phase(Enum):
    """What the peer is doing."""

    STARTING = "starting"
    TRAINING = "training"
    GATHERING = "gathering"
    LEARNING = "learning"
    DONE = "done"
    STOPPED = "stopped"


class Turn(Enum):
    """What moves it on."""

    BEGIN = "begin"
    RESUME = "resume"
    VOTED = "voted"
    CLOSED = "closed"
    NEXT = "next"
    LAST = "last"
    STOP = "stop"


TRANSITIONS: dict[tuple[Phase, Turn], Phase] = {
    (Phase.STARTING, Turn.BEGIN): Phase.TRAINING,
    (Phase.STARTING, Turn.RESUME): Phase.GATHERING,
    (Phase.TRAINING, Turn.VOTED): Phase.GATHERING,
    (Phase.GATHERING, Turn.CLOSED): Phase.LEARNING,
    (Phase.STARTING, Turn.LAST): Phase.DONE,
    (Phase.TRAINING, Turn.LAST): Phase.DONE,
    (Phase.LEARNING, Turn.NEXT): Phase.TRAINING,
    (Phase.LEARNING, Turn.LAST): Phase.DONE,
    **{(phase, Turn.STOP): Phase.STOPPED for phase in Phase},
}


def turn(phase: Phase, what: Turn) -> Phase:
    """The phase that follows; a turn that the table does not know is our bug."""
    if (phase, what) not in TRANSITIONS:
        raise LocalError(f"no way on from {phase.value} by {what.value}")
    return TRANSITIONS[phase, what]


def probes_of_round(seed: int, round_: int, probes: int, per_round: int | None) -> np.ndarray:
    """(n,) int64, ascending: the probes that everybody votes on, drawn alike by every peer.

    The probes with the smallest of PCG64's raw numbers: numpy keeps those the same for ever, but
    not what its distributions make of them, and peers may run different versions of it.
    """
    if per_round is None or per_round >= probes:
        return np.arange(probes, dtype=np.int64)
    raw = np.random.PCG64([seed, round_]).random_raw(probes)  # (probes,) uint64
    return np.sort(np.argsort(raw, kind="stable")[:per_round]).astype(np.int64)


class Lags:
    """Recent arrival times of ballots, as seconds behind our own vote."""

    def __init__(self, low_s: float, high_s: float) -> None:
        self._low_s, self._high_s = low_s, high_s
        self._recent: deque[float] = deque(maxlen=limits.LAGS_HELD)
        self._voted = (0, 0.0)  # the last round that we voted in, and when
        self._usual: float | None = None  # what `usual_s` last said of them

    def voted(self, round_: int, now: float) -> None:
        """We cast our own ballot of a round."""
        self._voted = (round_, now)

    def heard(self, round_: int, now: float) -> None:
        """A ballot came; one of the round that follows ours was no delay at all.

        Those of later rounds say nothing: a single voter could send any number of them.
        """
        round_voted, at = self._voted
        if round_ in (round_voted, round_voted + 1):
            self._recent.append(now - at if round_ == round_voted else 0.0)
            self._usual = None

    def usual_s(self) -> float:
        """How long after our own vote nearly every ballot has come: what is later is overdue."""
        if not self._recent:
            return self._low_s
        if self._usual is None:  # asked after every event, while ballots are few
            lags = sorted(self._recent)
            middle = _middle(lags)
            spread = _middle(sorted([abs(lag - middle) for lag in lags])) * MAD_TO_SIGMA
            self._usual = middle + LAG_SPREAD * spread
        return self._usual

    def overdue_s(self) -> float:
        """How long after our own vote a missing ballot is asked for at other neighbours too."""
        return min(self.patience_s(), max(OVERDUE_SHARE * self._low_s, self.usual_s()))

    def patience_s(self) -> float:
        """How long after our own vote a quorum waits for the rest."""
        return min(self._high_s, max(self._low_s, self.usual_s()))


def _middle(ordered: Sequence[float]) -> float:
    """The median of sorted numbers, at least one."""
    half, odd = divmod(len(ordered), 2)
    return ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2

"""Parameters: a peer's whole model, and what a peer makes of the models that it hears.

Federated averaging (McMahan et al. 2017, arXiv 1602.05629) without a server: each peer mixes what
it hears by the weights of protocol/mixing.py. A model travels with the number of samples that it
was trained on, as one more value (float32 holds whole numbers to 2^24); nobody can check that
number, as nobody can check the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tallynode.protocol.ballots import BALLOTS_MIN, BallotBox
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.contents.floats import Floats
from tallynode.protocol.mixing import weights
from tallynode.protocol.settings import PeerSettings

SAMPLES_MAX = 1 << 24  # samples that a model may claim; more would drown everybody else's


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """The weighted mean of the models of a round."""

    values: np.ndarray  # (parameters,) float32
    voters: int
    probes: np.ndarray  # (n,) int64, of the round, for whoever distils
    models: Sequence[np.ndarray]  # (parameters,) float32 each, by name; none unless distilled

    def agreement(self, own: np.ndarray) -> None:
        """Models do not agree or disagree."""


class Parameters(Floats):
    """Codes and averages models: (parameters + 1,) values, the last being the samples.

    Args:
        settings: this peer's view of the mesh.
        box: the ballots that are held.
    """

    def __init__(self, settings: PeerSettings, box: BallotBox) -> None:
        super().__init__((settings.parameters + 1,), box)
        self._settings = settings

    def restore(self, body: bytes) -> np.ndarray:
        """Bytes of `alone` -> the values; DecodeError also for a number of samples that is none."""
        values = super().restore(body)
        if not 1 <= values[-1] <= SAMPLES_MAX:
            raise DecodeError(f"a model of {values[-1]:g} samples")
        return values

    def outcome(
        self, round_: int, given: Mapping[str, np.ndarray], late: int, probes: np.ndarray
    ) -> Average | None:
        """The weighted mean, added in the order of the names; None of fewer than two."""
        if len(given) < BALLOTS_MIN:
            return None
        mine = self._settings
        shares = weights(mine.name, {k: float(v[-1]) for k, v in given.items()}, mine.heard)
        mean = np.zeros(mine.parameters)
        for name in sorted(given):
            mean += shares[name] * given[name][:-1]
        models = [given[name][:-1] for name in sorted(given)] if mine.method == "feddf" else []
        return Average(
            values=mean.astype(np.float32), voters=len(given), probes=probes, models=models
        )

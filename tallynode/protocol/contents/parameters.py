"""Parameters: a peer's whole model, and what a peer makes of the models that it hears.

Federated averaging (McMahan et al. 2017, arXiv 1602.05629) without a server: each peer mixes what
it hears by the weights of protocol/mixing.py. A model travels with the number of samples that it
was trained on, as one more value (float32 holds whole numbers to 2^24); nobody can check that
number, as nobody can check the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tallynode.protocol.ballots import BALLOTS_MIN, BallotBox, Held
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.coding.ballot import Coding
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


class Parameters:
    """Codes and averages models; float32, as the papers count them.

    Args:
        settings: this peer's view of the mesh.
        box: the ballots that are held.
    """

    def __init__(self, settings: PeerSettings, box: BallotBox) -> None:
        self._settings = settings
        self._size = settings.parameters + 1
        self._box = box

    def encode(self, round_: int, content: np.ndarray) -> Held:
        """Code this peer's own (parameters + 1,) values, the last being its samples."""
        return Held(Coding.FLOATS, self.alone(content), content.astype(np.float32))

    def alone(self, content: np.ndarray) -> bytes:
        """Values as bytes."""
        return content.astype("<f4").tobytes()

    def restore(self, body: bytes) -> np.ndarray:
        """Bytes of `alone` -> (parameters + 1,) float32."""
        if len(body) != 4 * self._size:
            raise DecodeError(f"{len(body)} bytes for a model of {self._size - 1} parameters")
        values = np.frombuffer(body, dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise DecodeError("a parameter that is not finite")
        if not 1 <= values[-1] <= SAMPLES_MAX:
            raise DecodeError(f"a model of {values[-1]:g} samples")
        return values

    def decode(self, origin: str, round_: int, coding: Coding, data: bytes) -> Held:
        """Take in the values of `origin`.

        Raises:
            DecodeError: not as many finite values as a model has here.
        """
        if coding is not Coding.FLOATS:
            raise DecodeError("coded as something else than parameters")
        return Held(coding, data, self.restore(data))

    def chain(self, origin: str, round_: int) -> list[tuple[int, Coding, bytes]]:
        """Every model stands alone."""
        held = self._box.get(origin, round_)
        return [(round_, held.coding, held.coded)] if held else []

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

"""Parameters: a peer's whole model, and the mean over the peers.

Federated averaging (McMahan et al. 2017, arXiv 1602.05629) without a server: where every peer hears
every other, each computes the average that the server would have sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tallynode.protocol.ballots import BallotBox, Held, summed
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.settings import PeerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """The mean of the models of a round."""

    values: np.ndarray  # (parameters,) float32
    voters: int

    def agreement(self, own: np.ndarray) -> None:
        """Models do not agree or disagree."""


class Parameters:
    """Codes and averages models; float32, as the papers count them.

    Args:
        settings: this peer's view of the mesh.
        box: the ballots that are held.
    """

    def __init__(self, settings: PeerSettings, box: BallotBox) -> None:
        self._size = settings.parameters
        self._box = box

    def encode(self, round_: int, content: np.ndarray) -> Held:
        """Code this peer's own (parameters,) values."""
        return Held(Coding.FLOATS, self.alone(content), content.astype(np.float32))

    def alone(self, content: np.ndarray) -> bytes:
        """Values as bytes."""
        return content.astype("<f4").tobytes()

    def restore(self, body: bytes) -> np.ndarray:
        """Bytes of `alone` -> (parameters,) float32."""
        if len(body) != 4 * self._size:
            raise DecodeError(f"{len(body)} bytes for a model of {self._size} parameters")
        values = np.frombuffer(body, dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise DecodeError("a parameter that is not finite")
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
        """The mean of all, added in the order of the names; None of fewer than two."""
        total = summed(given)
        if total is None:
            return None
        return Average(values=(total / len(given)).astype(np.float32), voters=len(given))

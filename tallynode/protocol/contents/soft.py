"""Soft labels: the probabilities that a peer gives every class, and their mean over the peers.

Federated distillation (Jeong et al. 2018, arXiv 1811.11479) averages them; CFD (Sattler et al.
2021, arXiv 2012.00632) quantises them first and codes them against those of the round before. Where
a hub aggregates, it hears all others and they hear it alone, so what either comes to is the mean of
what the other side said; where every peer aggregates, the mean is quantised as a hub would have
done.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tallynode.protocol.ballots import BALLOTS_MIN, BallotBox, Held, summed
from tallynode.protocol.coding import DecodeError, soft
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.settings import PeerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftConsensus:
    """The mean soft labels of one round's probes."""

    probes: np.ndarray  # (n,) int64, indices into the probe set, ascending
    posterior: np.ndarray  # (n, classes) float32, rows that sum to one
    voters: int

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64, the likeliest class."""
        labels: np.ndarray = self.posterior.argmax(axis=1)
        return labels

    @property
    def confidence(self) -> np.ndarray:
        """(n,) float32, its probability."""
        confidence: np.ndarray = self.posterior.max(axis=1)
        return confidence

    @property
    def heard(self) -> np.ndarray:
        """(n,) bool, the probes that have a label: all."""
        return np.ones(len(self.probes), dtype=bool)

    @property
    def worth(self) -> float:
        """All: soft labels say how sure they are themselves."""
        return 1.0

    @property
    def counts(self) -> np.ndarray:
        """(n, classes) float32: what all have said in sum, as a histogram is of votes."""
        return self.posterior

    @property
    def weighed(self) -> np.ndarray:
        """(n, classes) float32: the same, for nobody's soft labels are weighed."""
        return self.posterior

    @property
    def said(self) -> np.ndarray:
        """(n, classes) shares of what was said of each probe."""
        return self.posterior

    def agreement(self, own: np.ndarray) -> float:
        """Share of the labels that a peer's own soft labels (n, classes) confirm."""
        return float((own.argmax(axis=1) == self.labels).mean())


class SoftLabels:
    """Codes and averages soft labels.

    Args:
        settings: this peer's view of the mesh.
        box: the ballots that are held; an origin's last one is the reference of its next.
    """

    def __init__(self, settings: PeerSettings, box: BallotBox) -> None:
        self._settings = settings
        self._box = box
        self._shape = (settings.voted, settings.classes)

    def encode(self, round_: int, content: np.ndarray) -> Held:
        """Code this peer's own (n, classes) probabilities of a round."""
        name = self._settings.name
        bits, history = self._bits(name), self._before(name, round_)
        units = content if bits == soft.FLOAT else soft.quantise(content, bits)
        return Held(Coding.SOFT, soft.encode(units, bits, history), units)

    def alone(self, content: np.ndarray) -> bytes:
        """Soft labels as bytes that need nothing to be read: probabilities, not yet quantised."""
        return soft.encode(content, soft.FLOAT)

    def restore(self, body: bytes) -> np.ndarray:
        """Bytes of `alone` -> (n, classes) float32 probabilities."""
        return soft.decode(body, *self._shape)[1]

    def decode(self, origin: str, round_: int, coding: Coding, data: bytes) -> Held:
        """Take in the coded soft labels of `origin`.

        Raises:
            MissingReference: it takes earlier ones that are not held here.
            DecodeError: they are damaged, or coarser or finer than this mesh's.
        """
        if coding is not Coding.SOFT:
            raise DecodeError("coded as something else than soft labels")
        bits, units = soft.decode(data, *self._shape, self._before(origin, round_))
        if bits != self._bits(origin):
            raise DecodeError(f"soft labels of {bits} bits, not {self._bits(origin)}")
        return Held(coding, data, units)

    def chain(self, origin: str, round_: int) -> list[tuple[int, Coding, bytes]]:
        """The ballot of that round, standing alone."""
        held = self._box.get(origin, round_)
        if held is None:
            return []
        return [(round_, Coding.SOFT, soft.encode(held.content, self._bits(origin)))]

    def outcome(
        self, round_: int, given: Mapping[str, np.ndarray], late: int, probes: np.ndarray
    ) -> SoftConsensus | None:
        """The mean of all, added in the order of the names; None of fewer than two."""
        mine = self._settings
        if len(given) < BALLOTS_MIN:
            return None
        total = summed({k: v for k, v in given.items() if k != mine.name} if mine.hub else given)
        posterior = (total / total.sum(axis=1, keepdims=True)).astype(np.float32)
        if mine.bits_down and not mine.hub:
            units = soft.quantise(posterior, mine.bits_down)
            posterior = soft.dequantise(units, mine.bits_down)
        return SoftConsensus(probes=probes, posterior=posterior, voters=len(given))

    def _bits(self, origin: str) -> int:
        mine = self._settings
        return mine.bits_down if origin == mine.hub else mine.bits

    def _before(self, origin: str, round_: int) -> tuple[np.ndarray, ...]:
        """The soft labels of the round before, which are the reference, if they are held."""
        held = self._box.get(origin, round_ - 1)
        mine = self._settings
        use = mine.delta_coding and mine.per_round is None and self._bits(origin)
        return (held.content,) if held is not None and use else ()

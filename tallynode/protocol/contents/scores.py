"""Scores: what a net gives every class of a probe before any softmax, and their mean.

FedMD (Li & Wang 2019, arXiv 1910.03581, algorithm 1) averages these, so that models of any kind can
come nearer to each other's answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tallynode.protocol.ballots import BALLOTS_MIN, BallotBox, summed
from tallynode.protocol.contents.floats import Floats
from tallynode.protocol.settings import PeerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanScores:
    """The mean scores of one round's probes."""

    probes: np.ndarray  # (n,) int64, indices into the probe set, ascending
    scores: np.ndarray  # (n, classes) float32
    voters: int

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64, the class with the highest score."""
        labels: np.ndarray = self.scores.argmax(axis=1)
        return labels

    @property
    def heard(self) -> np.ndarray:
        """(n,) bool, the probes that have a label: all."""
        return np.ones(len(self.probes), dtype=bool)

    @property
    def said(self) -> np.ndarray:
        """(n, classes) shares of what was said of each probe: the softmax of the mean."""
        raised = np.exp(self.scores - self.scores.max(axis=1, keepdims=True))
        shares: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
        return shares

    def agreement(self, own: np.ndarray) -> float:
        """Share of the labels that a peer's own scores (n, classes) confirm."""
        return float((own.argmax(axis=1) == self.labels).mean())


class Scores(Floats):
    """Codes and averages scores, (n, classes) float32.

    Args:
        settings: this peer's view of the mesh.
        box: the ballots that are held.
    """

    def __init__(self, settings: PeerSettings, box: BallotBox) -> None:
        super().__init__((settings.voted, settings.classes), box)

    def outcome(
        self, round_: int, given: Mapping[str, np.ndarray], late: int, probes: np.ndarray
    ) -> MeanScores | None:
        """The mean of all, added in the order of the names; None of fewer than two."""
        if len(given) < BALLOTS_MIN:
            return None
        mean = (summed(given) / len(given)).astype(np.float32)
        return MeanScores(probes=probes, scores=mean, voters=len(given))

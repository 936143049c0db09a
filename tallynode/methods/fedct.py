"""The method `fedct`: federated co-training, hard labels added to what a peer trains on.

Abourayya et al. 2025 (arXiv 2310.05696, "Little is enough", algorithm 1): peers send the class that
they give every probe, the majority's class is the probe's pseudo-label, and each peer trains on its
private samples and the pseudo-labelled probes as one set of equal samples until the next round
labels them anew. One net, no confidence, no weight. The prior that is taken out is that of the
whole set, pseudo-labels and all.
"""

import numpy as np
import torch
from torch import Tensor

from tallynode.errors import DataError
from tallynode.learning import evaluate
from tallynode.learning.samples import PeerData, Samples
from tallynode.learning.settings import TrainSettings
from tallynode.methods.method import Method, Metrics
from tallynode.protocol.contents import Outcome
from tallynode.protocol.tally import Consensus

UNLABELLED = -1


class FedCtMethod(Method):
    """`train` gives a peer's votes, `learn` takes the majority's labels in."""

    def __init__(
        self, data: PeerData, settings: TrainSettings, *, classes: int, seed: int, index: int
    ) -> None:
        super().__init__(data, settings, classes=classes, seed=seed, index=index)
        self._pseudo = torch.full((len(data.probes),), UNLABELLED)  # (probes,) int64

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train on private samples and pseudo-labelled probes; (n,) int64 classes."""
        self._loss = self._fit(self._learner, round)
        self._trained = round
        return evaluate.votes(self._learner.net, self.data.probes[torch.from_numpy(probes)])

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Label the round's probes; None: the labels stay as they are."""
        accuracy = None
        if outcome is not None:
            assert isinstance(outcome, Consensus)
            accuracy = self._accuracy_of(outcome)
            self._pseudo = torch.full_like(self._pseudo, UNLABELLED)
            self._pseudo[torch.from_numpy(outcome.probes)] = torch.from_numpy(outcome.labels)
            self._gather()
        return self._metrics(self._loss, tally_accuracy=accuracy)

    def take(self, data: PeerData) -> None:
        """Go on with other private and test samples; the pseudo-labels stay."""
        super().take(data)
        self._gather()

    def _gather(self) -> None:
        """Put private samples and pseudo-labelled probes together."""
        known, own = self._pseudo != UNLABELLED, self.data.private
        x = torch.cat([own.x, self.data.probes[known]])
        self._labelled(Samples(x, torch.cat([own.y, self._pseudo[known].to(own.y.device)])))

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, the pseudo-labels among it."""
        return super().state() | {"pseudo": self._pseudo.clone()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned; DataError if it belongs to something else."""
        pseudo = tensors.get("pseudo")
        if pseudo is None or pseudo.shape != self._pseudo.shape:
            raise DataError("state: not of this model and method: pseudo-labels of other probes")
        super().load(tensors)
        self._pseudo = pseudo.clone()
        self._gather()

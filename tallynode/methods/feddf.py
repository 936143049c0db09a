"""The method `feddf`: average whole models, then teach the average what the models say together.

Lin et al. 2020 (arXiv 2006.07242, algorithm 1): the average is distilled on the probes towards the
softmax of the mean logits of all models heard, by Adam. There a server does it; here every peer
plays the server, in the same order of batches, so that peers that hear the same end with the same
model. The probes need no labels, and cost no byte.
"""

import numpy as np
import torch
from torch import Tensor

from tallynode.learning import evaluate, train
from tallynode.learning.distil import Lesson
from tallynode.methods.fedavg import FedAvgMethod
from tallynode.methods.method import Metrics
from tallynode.methods.once import Once
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.parameters import Average

_taught: Once[np.ndarray] = Once()

DISTIL_RATE = 1e-3  # of Adam, as in the paper, whatever optimiser trains


class FedDfMethod(FedAvgMethod):
    """`learn` distils the mean of the models' logits into their average."""

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Distil the average; None: go on with the own model."""
        if outcome is not None:
            assert isinstance(outcome, Average)
            x = self.data.probes[torch.from_numpy(outcome.probes)]
            how = f"{self.settings} {self._seed[0]} {round}"
            taught = _taught.of(
                lambda: self._teach_average(outcome, x, round),
                how,
                x.cpu().numpy(),
                outcome.values,
                *outcome.models,
            )
            self._learner.load_flat(taught)
        return self._metrics(self._loss)

    def _teach_average(self, outcome: Average, x: Tensor, round: int) -> np.ndarray:
        """(parameters,) float32 of the average after it has been taught."""
        shares = self._ensemble(outcome, x)
        self._learner.load_flat(outcome.values)
        self._distil(Lesson.of(x, shares), round)
        return self._learner.flat()

    def _ensemble(self, outcome: Average, x: Tensor) -> Tensor:
        """(n, classes) softmax of the mean logits of all models."""
        total = torch.zeros(len(x), self.classes, dtype=torch.float64)
        for model in outcome.models:
            self._learner.load_flat(model)
            total += torch.from_numpy(evaluate.logits(self._learner.net, x))
        return (total / len(outcome.models)).softmax(dim=1).float()

    def _distil(self, taught: Lesson, round: int) -> None:
        parameters = self._learner.net.parameters()
        optimiser = torch.optim.Adam(parameters, DISTIL_RATE, fused=True)
        order = train.seed_of(self._seed[0], round, "distil")  # alike on every peer
        self._teach(taught, order, optimiser)

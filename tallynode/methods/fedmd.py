"""The method `fedmd`: peers of any model come nearer to the mean of all scores.

Li & Wang 2019 (arXiv 1910.03581, algorithm 1). A round is *communicate*, the scores on the round's
probes (`task.probes.per_round` draws fresh ones each round, 5,000 in the paper's code); *digest*,
towards their mean in the mean absolute error; *revisit*, private data. Before the first round a
peer trains on private data; the paper's training on labelled public data before that is left out,
for probes have no labels here. The prior is taken out of the private loss alone, which leaves the
scores of differently skewed peers comparable.
"""

import numpy as np
import torch
from torch.nn import functional

from tallynode.learning import evaluate, train
from tallynode.methods.method import Method, Metrics
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.scores import MeanScores


class FedMdMethod(Method):
    """`train` gives a peer's scores, `learn` digests their mean and revisits private data."""

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """(n, classes) float32 scores; there is training in it only before the first of them."""
        if self._trained < 0:
            self._loss = self._fit(self._learner, round)
            self._trained = round
        return evaluate.logits(self._learner.net, self.data.probes[torch.from_numpy(probes)])

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Digest and revisit; None: revisit alone."""
        accuracy = None
        if outcome is not None:
            assert isinstance(outcome, MeanScores)
            accuracy = self._accuracy_of(outcome)
            self._digest(outcome, round)
        self._loss = self._fit(self._learner, round)
        return self._metrics(self._loss, tally_accuracy=accuracy)

    def _digest(self, said: MeanScores, round: int) -> None:
        net = self._learner.net
        x = self.data.probes[torch.from_numpy(said.probes)]
        scores = torch.from_numpy(said.scores).to(x.device)
        net.train()
        for batch in self._passes(len(x), train.seed_of(*self._seed, round, "digest")):
            loss = functional.l1_loss(net(x[batch]), scores[batch])
            train.step(loss, self._learner.optimiser)

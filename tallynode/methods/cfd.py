"""The method `cfd`: compressed federated distillation.

Sattler et al. 2021 (arXiv 2012.00632, algorithm 1), CFD-b_up-b_down. A round: distil the last
aggregate, the soft cross-entropy on the probes without any temperature; train on private data; send
soft labels of `bits` bits, delta coded where the probes stay the same. Ours closes with the
distillation, so that what is measured is a net as the aggregate has taught it, which is what the
paper measures of its server.

- On a star the first peer is the paper's server and the others its clients (*dual distillation*):
  it trains on the aggregate alone and not on private data, and sends down soft labels of its own
  net, of `bits_down` bits. Those of round r are what it learnt in round r - 1; in round 1 it knows
  nothing, and nobody listens.
- On any other graph every peer aggregates for itself and quantises the mean to `bits_down` bits, as
  if a hub had sent it. Nothing is sent down.

`initialise` says what a net distils from: its own last state (`keep`), the weights that all began
with (`shared`), or new ones of its own (`random`).
"""

import numpy as np
import torch

from tallynode.learning import evaluate, train
from tallynode.learning.distil import Lesson
from tallynode.methods.method import Method, Metrics
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.soft import SoftConsensus


class CfdMethod(Method):
    """`train` gives a peer's soft labels, `learn` distils the aggregate."""

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train on private data, unless this is a hub; (n, classes) float32 probabilities."""
        if self.settings.place != "hub":
            self._loss = self._fit(self._learner, round)
        self._trained = round
        return evaluate.probabilities(self._learner.net, self.data.probes[torch.from_numpy(probes)])

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Distil; None: go on with what private data gave."""
        accuracy = None
        nothing_yet = self.settings.place == "leaf" and round == 1
        if outcome is not None and not nothing_yet:
            assert isinstance(outcome, SoftConsensus)
            accuracy = self._accuracy_of(outcome)
            self._distil(outcome, round)
        return self._metrics(self._loss, tally_accuracy=accuracy)

    def _distil(self, said: SoftConsensus, round: int) -> None:
        seed, index = self._seed
        if self.settings.initialise == "shared":
            self._begin("learner", train.seed_of(seed, "weights"))
        elif self.settings.initialise == "random":
            self._begin("learner", train.seed_of(seed, index, round, "weights"))
        x = self.data.probes[torch.from_numpy(said.probes)]
        taught = Lesson.of(x, torch.from_numpy(said.posterior))
        order = train.seed_of(seed, index, round, "distil")
        self._teach(taught, order, self._learner.optimiser)

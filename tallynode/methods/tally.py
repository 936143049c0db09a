"""The method `tally`: publish votes, learn from the tallied consensus.

A peer votes what it has witnessed, not what it has been told. Once voters are trained on the
consensus their votes repeat it and the tally stops improving; so the *witness*, a copy trained on
private data alone, casts the votes, and the *learner*, trained on private data together with the
consensus, is what the user gets. Both see private data equally often, so a learner that hears
nobody is exactly the peer that trains alone.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tallynode.learning import evaluate
from tallynode.learning.diagnose import diagnose
from tallynode.learning.distil import Lesson, lesson
from tallynode.learning.samples import PeerData
from tallynode.learning.settings import TrainSettings
from tallynode.methods.method import Method, Metrics
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.soft import SoftConsensus
from tallynode.protocol.tally import Consensus


class TallyMethod(Method):
    """`train` gives a peer's votes, `learn` takes the consensus in."""

    def __init__(
        self, data: PeerData, settings: TrainSettings, *, classes: int, seed: int, index: int
    ) -> None:
        self.roles = ("learner", "witness") if settings.witness else ("learner",)
        super().__init__(data, settings, classes=classes, seed=seed, index=index)
        self._voter = self._copies.get("witness", self._learner)

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train the voter on private data alone and return what it says of the probes (n,)."""
        self._loss = self._fit(self._voter, round)
        self._trained = round
        return self._said(self._voter.net, self.data.probes[torch.from_numpy(probes)])

    def _said(self, net: nn.Module, x: Tensor) -> np.ndarray:
        """(n,) int64 classes, with levels of sureness where the mesh asks for them."""
        if self.settings.levels > 1:
            return evaluate.sure_votes(net, x, self.settings.levels)
        return evaluate.votes(net, x)

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Train the learner on private data and the consensus; None: on private data alone."""
        taught, accuracy, found = None, None, None
        if outcome is not None:
            assert isinstance(outcome, Consensus | SoftConsensus)
            taught = lesson(self.data.probes, outcome, self.settings.target)
            accuracy = self._accuracy_of(outcome)
            if isinstance(outcome, Consensus):
                found = diagnose(outcome, self._truth(outcome.probes))
        loss = self._fit_learner(round, taught)
        return self._metrics(loss, tally_accuracy=accuracy, tally=found)

    def _fit_learner(self, round: int, taught: Lesson | None) -> float:
        one_copy_is_done = (
            taught is None and self._voter is self._learner and self._trained == round
        )
        return self._loss if one_copy_is_done else self._fit(self._learner, round, taught)

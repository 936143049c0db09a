"""The method `tally`: publish votes, learn from the tallied consensus.

A peer votes what it has witnessed, not what it has been told. Once voters are trained on the
consensus their votes repeat it and the tally stops improving; so the *witness*, a copy trained on
private data alone, casts the votes, and the *learner*, trained on private data together with the
consensus, is what the user gets. Both see private data equally often, so a learner that hears
nobody is exactly the peer that trains alone.

Witnesses know no more than their own data. A learner that has caught up with the tally carries on
(`sampled_from`): from then on it votes, and each vote is *drawn* from what it believes. An argmax
would confirm a wrong label that all have learnt; draws leave a probe on which all doubt with an
open histogram, which is then the target, each voter in it worth how far it agrees with the tally.
A draw is a soft label in one symbol, right on the average over peers and rounds. Its noise follows
from the public seed and the round; DOUBT is how much of it there is. Each peer finds out for itself
when that is (`auto`): once its learner gives CAUGHT_UP of a round's probes the label that the tally
gave them.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tallynode.learning import evaluate, train
from tallynode.learning.diagnose import diagnose
from tallynode.learning.distil import Lesson, lesson
from tallynode.learning.samples import PeerData
from tallynode.learning.settings import TrainSettings
from tallynode.methods.copies import Copy
from tallynode.methods.method import Method, Metrics
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.soft import SoftConsensus
from tallynode.protocol.tally import Consensus

CAUGHT_UP = 0.85  # .8 to .92 do as well, see LAB_LOG; too early, all repeat what few have learnt
DOUBT = 0.7  # temperature of a drawn vote; at 1 it follows the belief itself, and codes larger


class TallyMethod(Method):
    """`train` gives a peer's votes, `learn` takes the consensus in."""

    def __init__(
        self, data: PeerData, settings: TrainSettings, *, classes: int, seed: int, index: int
    ) -> None:
        self.roles = ("learner", "witness") if settings.witness else ("learner",)
        super().__init__(data, settings, classes=classes, seed=seed, index=index)
        start = settings.sampled_from
        self._decides = start == "auto"
        self._draws_from = start if isinstance(start, int) else None  # round

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train the voter on private data alone and return what it says of the probes (n,)."""
        voter = self._voter(round)
        self._loss = self._fit(voter, round)
        self._trained = round
        x = self.data.probes[torch.from_numpy(probes)]
        if not self._draws(round):
            return self._said(voter.net, x)
        seed = train.seed_of(*self._seed, round, "doubt")
        return evaluate.sampled_votes(voter.net, x, DOUBT, torch.Generator().manual_seed(seed))

    def _draws(self, round: int) -> bool:
        return self._draws_from is not None and round >= self._draws_from

    def _voter(self, round: int) -> Copy:
        return self._learner if self._draws(round) else self._copies[self.roles[-1]]

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
            target = "weighed" if self._draws(round) else self.settings.target
            taught = lesson(self.data.probes, outcome, target)
            accuracy = self._accuracy_of(outcome)
            if isinstance(outcome, Consensus):
                found = diagnose(outcome, self._truth(outcome.probes))
                found["learner_votes"] = self._draws(round)
        loss = self._fit_learner(round, taught)
        if self._decides and self._draws_from is None and isinstance(outcome, Consensus):
            said = evaluate.votes(
                self._learner.net, self.data.probes[torch.from_numpy(outcome.probes)]
            )
            if (outcome.agreement(said) or 0.0) >= CAUGHT_UP:
                self._draws_from = round + 1
        return self._metrics(loss, tally_accuracy=accuracy, tally=found)

    def _fit_learner(self, round: int, taught: Lesson | None) -> float:
        one_copy_is_done = (
            taught is None and self._voter(round) is self._learner and self._trained == round
        )
        return self._loss if one_copy_is_done else self._fit(self._learner, round, taught)

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, since when the learner votes among it."""
        start = -1 if self._draws_from is None else self._draws_from
        return super().state() | ({"draws_from": torch.tensor(start)} if self._decides else {})

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned; DataError if it belongs to something else."""
        super().load(tensors)
        if self._decides and "draws_from" in tensors:
            start = int(tensors["draws_from"])
            self._draws_from = start if start >= 0 else None

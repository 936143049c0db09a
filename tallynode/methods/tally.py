"""The method `tally`: publish votes, learn from the tallied consensus.

A peer votes what it has witnessed, not what it has been told. Once voters are trained on the
consensus their votes repeat it and the tally stops improving; so the *witness*, a copy trained on
private data alone, casts the votes, and the *learner*, trained on private data together with the
consensus, is what the user gets. Both see private data equally often, so a learner that hears
nobody is exactly the peer that trains alone.

Witnesses know no more than their own data. A learner that has nearly caught up with the tally
carries on (`sampled_from`): from then on it votes, and each vote is *drawn* from what it believes.
An argmax would confirm a wrong label that all have learnt; draws leave a probe on which all doubt
with an open histogram, which is then the target, each vote in it worth how far its voter agrees
with the tally, and what it holds of that class (protocol/holdings.py). A draw is a soft label in
one symbol: on the mean over peers and rounds it is what they believe. Where on a probe's [0, 1)
each draws is public and spread evenly, so that ten peers who believe .3 of a class cast three votes
for it and not one or six by luck. Each peer finds out for itself when it carries on (`auto`): once
its learner gives CAUGHT_UP of a round's probes the label that the tally gave them. Once it gives
SETTLED of them it draws from less than its DOUBT: until then that would make what all have wrong
for certain, from then on it ends sooner and codes smaller.

All peers begin with the same weights, and where nobody has learnt anything yet, all say what those
say: voters agree, and learners with them, on noise. A tally that does (`ECHO`) teaches nothing to a
peer whose own voter hardly believes what it says (`EMPTY`).
"""

from functools import cached_property

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

CAUGHT_UP = 0.7  # of the tally's labels; too late, and all have learnt what few witnesses had wrong
SETTLED = 0.9
ECHO = 0.5  # kappa of a tally with what the first weights say
EMPTY = 0.3  # mean of a voter's highest beliefs, from 0, as if by chance, to 1
DOUBT, SETTLED_DOUBT = 1.0, 0.7  # temperatures of a drawn vote; at 1 it follows the belief itself
BY_PEER, BY_ROUND = 0.6180339887, 0.7548776662  # steps in [0, 1) that come back nowhere near


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
        self._agreed = 0.0  # share of the last tally's labels that the learner gives

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train the voter on private data alone and return what it says of the probes (n,)."""
        voter = self._voter(round)
        self._loss = self._fit(voter, round)
        self._trained = round
        x = self.data.probes[torch.from_numpy(probes)]
        if not self._draws(round):
            return self._said(voter.net, x)
        doubt = SETTLED_DOUBT if self._agreed >= SETTLED else DOUBT
        return evaluate.drawn_votes(voter.net, x, doubt, self._draws_at(round)[probes])

    def _draws_at(self, round: int) -> np.ndarray:
        """(probes,) float64 in [0, 1): for each probe evenly spread over peers and over rounds."""
        mesh, index = self._seed
        generator = torch.Generator().manual_seed(train.seed_of(mesh, "draws"))
        start = torch.rand(len(self.data.probes), generator=generator, dtype=torch.float64)
        at: np.ndarray = (start.numpy() + index * BY_PEER + round * BY_ROUND) % 1
        return at

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
            if not self._echoes(round, outcome):
                taught = lesson(self.data.probes, outcome, target)
            accuracy = self._accuracy_of(outcome)
            if isinstance(outcome, Consensus):
                found = diagnose(outcome, self._truth(outcome.probes))
                found["learner_votes"] = self._draws(round)
        loss = self._fit_learner(round, taught)
        if self.settings.sampled_from is not None and isinstance(outcome, Consensus):
            self._compare(round, outcome, new=taught is not None)
        return self._metrics(loss, tally_accuracy=accuracy, tally=found)

    @cached_property
    def _untaught(self) -> np.ndarray:
        """(probes,) int64 classes that the first weights give; looked at with the first tally."""
        first = self._new_net(train.seed_of(self._seed[0], "weights"))
        return evaluate.votes(first, self.data.probes)

    def _echoes(self, round: int, outcome: Consensus | SoftConsensus) -> bool:
        """Whether a tally says what all peers began with, and this one has learnt nothing yet."""
        if not isinstance(outcome, Consensus):
            return False
        if outcome.agreements(self._untaught[None, outcome.probes])[0] < ECHO:
            return False
        x = self.data.probes[torch.from_numpy(outcome.probes)]
        sure = evaluate.probabilities(self._voter(round).net, x).max(axis=1).mean()
        return bool(sure - 1 / self.classes < EMPTY * (1 - 1 / self.classes))

    def _compare(self, round: int, outcome: Consensus, *, new: bool) -> None:
        """See how far the learner is with the tally, and whether it is to vote from now on."""
        x = self.data.probes[torch.from_numpy(outcome.probes)]
        self._agreed = outcome.agreement(evaluate.votes(self._learner.net, x)) or 0.0
        if self._decides and self._draws_from is None and new and self._agreed >= CAUGHT_UP:
            self._draws_from = round + 1

    def _fit_learner(self, round: int, taught: Lesson | None) -> float:
        one_copy_is_done = (
            taught is None and self._voter(round) is self._learner and self._trained == round
        )
        return self._loss if one_copy_is_done else self._fit(self._learner, round, taught)

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, when and how the learner draws among it."""
        if self.settings.sampled_from is None:
            return super().state()
        start = -1 if self._draws_from is None else self._draws_from
        return super().state() | {
            "draws_from": torch.tensor(start),
            "agreed": torch.tensor(self._agreed, dtype=torch.float64),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned; DataError if it belongs to something else."""
        super().load(tensors)
        if self.settings.sampled_from is not None and "agreed" in tensors:
            self._agreed = float(tensors["agreed"])
        if self._decides and "draws_from" in tensors:
            start = int(tensors["draws_from"])
            self._draws_from = start if start >= 0 else None

"""The method `tally` with private votes: noise goes over a ballot before anybody else sees it."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from tallynode.learning.samples import PeerData
from tallynode.learning.settings import TrainSettings
from tallynode.methods.method import Metrics
from tallynode.methods.responses import Responses
from tallynode.methods.tally import TallyMethod
from tallynode.protocol.contents import Outcome


class PrivateTallyMethod(TallyMethod):
    """`train` gives a peer's randomised responses, `learn` reports what they have spent."""

    def __init__(
        self,
        data: PeerData,
        settings: TrainSettings,
        responses: Responses,
        *,
        classes: int,
        seed: int,
        index: int,
    ) -> None:
        super().__init__(data, settings, classes=classes, seed=seed, index=index)
        self._responses = responses

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train the voter; (n,) int64 classes to be said."""
        return self._responses.answer(round, probes, super().train(round, probes))

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Learn as ever; the metrics hold the account."""
        return replace(super().learn(round, outcome), privacy=self._responses.spent())

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs, the standing answers among it."""
        return super().state() | self._responses.state()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned; DataError if it belongs to something else."""
        self._responses.load(tensors)
        super().load(tensors)

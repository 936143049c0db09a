"""The method `fd`: federated distillation from soft labels, for comparison.

Jeong et al. 2018 (arXiv 1811.11479): peers send the probabilities that they give every class of
every probe, and learn from the mean. It is `tally` with more said and less asked of the tally. With
a `temperature` T the mean is made surer before it teaches, softmax(mean / T): the entropy-reducing
aggregation of DS-FL (Itahara et al. 2020, arXiv 2008.06180, section 3.3, where T = 0.1).
"""

from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from tallynode.learning import evaluate
from tallynode.methods.method import Metrics
from tallynode.methods.tally import TallyMethod
from tallynode.protocol.contents import Outcome
from tallynode.protocol.contents.soft import SoftConsensus


class FdMethod(TallyMethod):
    """`train` gives a peer's soft labels, `learn` takes their mean in."""

    def _said(self, net: nn.Module, x: Tensor) -> np.ndarray:
        """(n, classes) float32 probabilities."""
        return evaluate.probabilities(net, x)

    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Train the learner on private data and the mean; None: on private data alone."""
        if outcome is not None and self.settings.temperature is not None:
            assert isinstance(outcome, SoftConsensus)
            surer = sharpened(outcome.posterior, self.settings.temperature)
            outcome = replace(outcome, posterior=surer)
        return super().learn(round, outcome)


def sharpened(mean: np.ndarray, temperature: float) -> np.ndarray:
    """(n, classes) float32 probabilities -> softmax(mean / T), likewise."""
    scaled = (mean - mean.max(axis=1, keepdims=True)) / temperature
    shares: np.ndarray = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    return shares.astype(np.float32)

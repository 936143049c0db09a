"""The method `fd`: federated distillation from soft labels, for comparison.

Jeong et al. 2018 (arXiv 1811.11479): peers send the probabilities that they give every class of
every probe, and learn from the mean. It is `tally` with more said and less asked of the tally.
"""

import numpy as np
from torch import Tensor, nn

from tallynode.learning import evaluate
from tallynode.methods.tally import TallyMethod


class FdMethod(TallyMethod):
    """`train` gives a peer's soft labels, `learn` takes their mean in."""

    def _said(self, net: nn.Module, x: Tensor) -> np.ndarray:
        """(n, classes) float32 probabilities."""
        return evaluate.probabilities(net, x)

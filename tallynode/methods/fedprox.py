"""The method `fedprox`: average whole models that were not let far from the last average.

Li et al. 2020 (arXiv 1812.06127, equation 2): a peer's loss is its private one and
mu / 2 · |w - w_t|^2, w_t being what the round began with. The rest is `fedavg`.
"""

import torch
from torch import Tensor, nn

from tallynode.methods.fedavg import FedAvgMethod
from tallynode.methods.method import Pull


class FedProxMethod(FedAvgMethod):
    """`train` stays near the last average."""

    def _pull(self) -> Pull:
        start = [parameter.detach().clone() for parameter in self._learner.net.parameters()]
        half = self.settings.mu / 2

        def pull(net: nn.Module) -> Tensor:
            pairs = zip(net.parameters(), start, strict=True)
            return half * torch.stack([(now - was).square().sum() for now, was in pairs]).sum()

        return pull

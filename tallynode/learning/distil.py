"""What a learner takes from the tally: a loss towards the consensus on the probes.

The tally says how much it is worth as a whole, and each probe counts by the confidence of its
consensus: that replaces the weight that TallyTrain (arXiv 2607.00173) decays by hand. Noise teaches
nothing, and a probe on which the voters are split pulls little. The target is
the winning class (`hard`), the vote histogram (`histogram`), the same with each vote worth how far
its voter agrees with the tally and what it holds of that class (`weighed`), or what the tally
believes of each class, tempered so that the runners-up stay visible (`posterior`).
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tallynode.learning.settings import Target

POSTERIOR_POWER = 0.3  # a tally's posterior is nearly 0 or 1, and teaches no more than its label


class Labelled(Protocol):
    """What a round came to on n probes."""

    @property
    def probes(self) -> np.ndarray: ...  # (n,) int64, indices into the probe set
    @property
    def labels(self) -> np.ndarray: ...  # (n,) int64
    @property
    def heard(self) -> np.ndarray: ...  # (n,) bool, the probes that have a label


class Tally(Labelled, Protocol):
    """The part of a consensus that is learnt from."""

    @property
    def confidence(self) -> np.ndarray: ...  # (n,) float32 in [0, 1]
    @property
    def worth(self) -> float: ...  # of the whole, in [0, 1]
    @property
    def counts(self) -> np.ndarray: ...  # (n, classes), votes
    @property
    def weighed(self) -> np.ndarray: ...  # (n, classes) float32, votes by what voters are worth
    @property
    def posterior(self) -> np.ndarray: ...  # (n, classes) float32


@dataclass(frozen=True, slots=True)
class Lesson:
    """One consensus as tensors, ready to train on."""

    x: Tensor  # (n, channels, height, width) float32, the probes
    target: Tensor  # (n,) int64 classes, or (n, classes) float32 shares
    weight: Tensor  # (n,) float32, its mean what the consensus is worth

    @classmethod
    def of(cls, x: Tensor, target: Tensor, weight: Tensor | None = None) -> Self:
        """Put all of it where the probes are; every probe counts alike without a weight."""
        weight = torch.ones(len(x)) if weight is None else weight
        return cls(x, target.to(x.device), weight.to(x.device))

    def __len__(self) -> int:
        return len(self.weight)


def lesson(probes: Tensor, consensus: Tally, target: Target) -> Lesson | None:
    """Make a lesson of the consensus on some `probes` (m, ch, h, w); None: it says nothing."""
    heard, worth = consensus.heard, consensus.worth
    if not heard.any() or not worth:
        return None
    x = probes[torch.from_numpy(consensus.probes[heard])]
    weight = torch.from_numpy(consensus.confidence[heard]).float()
    weight = weight * (worth / weight.mean().clamp(min=1e-6))
    if target == "hard":
        return Lesson.of(x, torch.from_numpy(consensus.labels[heard]), weight)
    if target in ("histogram", "weighed"):
        votes = consensus.counts if target == "histogram" else consensus.weighed
        shares = torch.from_numpy(votes[heard]).float()
    else:
        shares = torch.from_numpy(consensus.posterior[heard]).pow(POSTERIOR_POWER)
    return Lesson.of(x, shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-6), weight)


def consensus_loss(net: nn.Module, taught: Lesson, batch: Tensor) -> Tensor:
    """Return the weighted mean loss () of the probes at the indices `batch` (b,)."""
    losses = functional.cross_entropy(net(taught.x[batch]), taught.target[batch], reduction="none")
    return (losses * taught.weight[batch]).mean()

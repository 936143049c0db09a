"""The bridge of a method: its learner merged with those of its neighbours, now and then."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tallynode.methods.copies import Copy
from tallynode.methods.merge import Merge, MergePlan


class Bridge:
    """What is sent of a learner, and what is merged into it; its optimiser's moments stay its own.

    Args:
        learner: as it is before its first step, alike on every peer.
        plan: how it is merged.
    """

    def __init__(self, learner: Copy, plan: MergePlan) -> None:
        self._learner = learner
        self._merge = Merge(plan, learner.flat())

    def publish(self, round_: int) -> bytes:
        """What the learner has changed by; nothing of one that has come to nothing."""
        model = self._learner.flat()
        return self._merge.publish(model, round_) if np.isfinite(model).all() else b""

    def merge(self, deltas: Mapping[str, Sequence[tuple[int, bytes]]]) -> dict[str, str]:
        """Merge what the neighbours sent; why that of some cannot be used, by name."""
        if not deltas:
            return {}
        merged, refused = self._merge.merge(self._learner.flat(), deltas)
        self._learner.load_flat(merged)
        return refused

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs."""
        return {key: torch.from_numpy(value) for key, value in self._merge.state().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; KeyError or ValueError if it is that of another model."""
        self._merge.load({key: value.numpy() for key, value in tensors.items()})

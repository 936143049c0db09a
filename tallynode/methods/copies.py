"""One net with its optimiser: what a method trains, saves and loads."""

import numpy as np
import torch
from torch import Tensor, nn

from tallynode.learning.settings import TrainSettings


class Copy:
    """One net with its optimiser."""

    def __init__(self, net: nn.Module, settings: TrainSettings) -> None:
        self.net = net
        self._moments = f"{settings.optimiser}."  # under which they stand in a state
        rate = settings.learning_rate
        self.optimiser: torch.optim.Optimizer
        if settings.optimiser == "sgd":
            momentum = settings.momentum
            self.optimiser = torch.optim.SGD(net.parameters(), rate, momentum, fused=True)
        else:
            self.optimiser = torch.optim.Adam(net.parameters(), rate, fused=True)

    def state(self) -> dict[str, Tensor]:
        """Return weights and moments, cloned."""
        tensors = {f"net.{key}": value for key, value in self.net.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            found = {key: value for key, value in moments.items() if value is not None}
            tensors |= {f"{self._moments}{number}.{key}": value for key, value in found.items()}
        return {key: value.detach().clone() for key, value in tensors.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned; ValueError if it is another optimiser's."""
        prefix = "net."
        self.net.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(self._moments):
                _, number, name = key.split(".")
                moments.setdefault(int(number), {})[name] = value.clone()
            elif not key.startswith(prefix):
                raise ValueError(f"has {key}, of another optimiser")
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})

    def flat(self) -> np.ndarray:
        """Return all parameters of the net as one vector (parameters,) float32."""
        flat = torch.cat([p.detach().reshape(-1) for p in self.net.parameters()])
        values: np.ndarray = flat.cpu().numpy()
        return values

    def load_flat(self, values: np.ndarray) -> None:
        """Take over what `flat` returned; the optimiser's moments stay."""
        parameters = list(self.net.parameters())
        parts = torch.split(torch.from_numpy(values), [p.numel() for p in parameters])
        with torch.no_grad():
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.copy_(part.view(parameter.shape))


def learner_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From a method's whole state, the weights that the user gets, by their names in the net."""
    prefix = "learner.net."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

"""The method `tally`: publish votes, learn from the tallied consensus.

A peer votes what it has witnessed, not what it has been told. Once voters are trained on the
consensus their votes repeat it and the tally stops improving; so the *witness*, a copy trained on
private data alone, casts the votes, and the *learner*, trained on private data together with the
consensus, is what the user gets. Both see private data equally often, so a learner that hears
nobody is exactly the peer that trains alone.

Randomness is derived from (mesh seed, peer, round): nothing of it needs saving, and a round gives
the same bits whether or not the process was restarted before it. All peers start from the same
weights, which later lets parameter differences be merged.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tallynode.errors import DataError
from tallynode.learning import evaluate, models, train
from tallynode.learning.distil import Lesson, consensus_loss, lesson
from tallynode.learning.samples import PeerData
from tallynode.learning.settings import TrainSettings
from tallynode.protocol.tally import Consensus


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How a learner did in one round."""

    accuracy: float  # on the peer's test samples
    loss: float  # mean training loss of the round
    per_class: tuple[float | None, ...]  # recall of each class; None: not in the test samples
    tally_accuracy: float | None  # consensus labels against the truth, where it is known


def learner_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """From a method's whole state, the weights that the user gets, by their names in the net."""
    prefix = "learner.net."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class _Copy:
    """One net with its optimiser."""

    def __init__(self, net: nn.Module, learning_rate: float) -> None:
        self.net = net
        self.optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate, fused=True)

    def state(self) -> dict[str, Tensor]:
        """Return weights and moments, cloned."""
        tensors = {f"net.{key}": value for key, value in self.net.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{key}": value for key, value in moments.items()}
        return {key: value.detach().clone() for key, value in tensors.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        prefix = "net."
        self.net.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, number, name = key.split(".")
                moments.setdefault(int(number), {})[name] = value.clone()
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


class TallyMethod:
    """Trains one peer: `train` gives its votes, `learn` takes the consensus in."""

    def __init__(
        self, data: PeerData, settings: TrainSettings, *, classes: int, seed: int, index: int
    ) -> None:
        """Build the nets.

        Args:
            data: the peer's samples and the probes.
            settings: how it trains.
            classes: number of classes.
            seed: of the mesh; gives every peer the same initial weights.
            index: of the peer in the mesh; gives it batch orders of its own.
        """
        self.data = data
        self.settings = settings
        self.classes = classes
        self._seed = (seed, index)
        initial = train.seed_of(seed, "weights")
        roles = ("learner", "witness") if settings.witness else ("learner",)
        self._copies = {
            role: _Copy(
                models.build(settings.model, data.shape, classes, initial), settings.learning_rate
            )
            for role in roles
        }
        self._learner = self._copies["learner"]
        self._voter = self._copies.get("witness", self._learner)
        self._prior = train.log_prior(data.private.y, classes) if settings.prior else None
        self._trained = -1  # the last round in which the voter saw private data
        self._voter_loss = 0.0  # mean loss of that round

    @property
    def parameters(self) -> int:
        """Number of the learner's parameters."""
        return sum(parameter.numel() for parameter in self._learner.net.parameters())

    def take(self, data: PeerData) -> None:
        """Go on with other private and test samples.

        Raises:
            DataError: the classes or the probes are not the same any more.
        """
        same = data.probes.shape == self.data.probes.shape and torch.equal(
            data.probes, self.data.probes
        )
        if data.classes != self.data.classes or not same:
            raise DataError("data: classes or probes changed while running; start the peer again")
        self.data = data
        if self._prior is not None:
            self._prior = train.log_prior(data.private.y, self.classes)

    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train the voter on private data alone and return its votes.

        Args:
            round: counter; seeds the batch order.
            probes: (n,) int, indices into the probe set.

        Returns:
            (n,) int64 classes.
        """
        self._voter_loss = self._fit(self._voter, round, None)
        self._trained = round
        return evaluate.votes(self._voter.net, self.data.probes[torch.from_numpy(probes)])

    def learn(self, round: int, consensus: Consensus | None) -> Metrics:
        """Train the learner on private data and the consensus; None: on private data alone."""
        taught, tally_accuracy = None, None
        if consensus is not None and len(consensus.probes):
            heard = torch.from_numpy(consensus.probes)
            taught = lesson(self.data.probes[heard], consensus, self.settings.target)
            if self.data.probe_labels is not None:
                truth = self.data.probe_labels[heard].numpy()
                tally_accuracy = evaluate.accuracy(consensus.labels, truth)
        one_copy_is_done = (
            taught is None and self._voter is self._learner and self._trained == round
        )
        loss = self._voter_loss if one_copy_is_done else self._fit(self._learner, round, taught)
        truth = self.data.test.y.numpy()
        predicted = evaluate.votes(self._learner.net, self.data.test.x)
        return Metrics(
            accuracy=evaluate.accuracy(predicted, truth),
            loss=loss,
            per_class=evaluate.per_class_accuracy(predicted, truth, self.classes),
            tally_accuracy=tally_accuracy,
        )

    def _fit(self, copy: _Copy, round: int, taught: Lesson | None) -> float:
        """Train one copy for a round and return the mean loss of its steps."""
        private, settings = self.data.private, self.settings
        heard = len(taught) if taught else 0
        most = settings.local_epochs * max(len(private), heard)
        steps = settings.local_steps or -(-most // settings.batch_size)
        own = self._batches("private", round, len(private), steps)
        other = self._batches("consensus", round, heard, steps) if taught else None
        total = 0.0
        copy.net.train()
        for _ in range(steps):
            loss = train.private_loss(copy.net, private, next(own), self._prior)
            if taught and other:
                loss = loss + consensus_loss(copy.net, taught, next(other))
            train.step(loss, copy.optimiser)
            total += loss.item()
        return total / steps

    def _batches(self, role: str, round: int, count: int, steps: int) -> Iterator[Tensor]:
        """Yield index batches, `steps` of which pass the samples `local_epochs` times."""
        seed = train.seed_of(*self._seed, round, role)
        size = -(-count * self.settings.local_epochs // steps)
        if self.settings.local_steps:
            size = self.settings.batch_size
        return train.batches(count, size, torch.Generator().manual_seed(seed))

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs: weights, moments, the round of the last votes."""
        tensors = {
            "trained": torch.tensor(self._trained),
            "voter_loss": torch.tensor(self._voter_loss, dtype=torch.float64),
        }
        for role, copy in self._copies.items():
            tensors |= {f"{role}.{key}": value for key, value in copy.state().items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            DataError: the tensors are those of another model or method.
        """
        try:
            for role, copy in self._copies.items():
                prefix = f"{role}."
                copy.load(
                    {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
                )
            self._trained = int(tensors["trained"])
            self._voter_loss = float(tensors["voter_loss"])
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"state: not of this model and method: {reason}") from error

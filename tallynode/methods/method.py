"""What every method shares: copies of a net, training them for a round, saying how they do.

A method answers two questions a round: what does this peer send (`train`), and what does it make of
what all have sent (`learn`). Randomness is derived from (mesh seed, peer, round): nothing of it
needs saving, and a round gives the same bits whether or not the process was restarted before it.
All peers of one model start from the same weights, which lets parameters be averaged.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from tallynode.errors import DataError
from tallynode.learning import evaluate, models, train
from tallynode.learning.distil import Labelled, Lesson, consensus_loss
from tallynode.learning.samples import PeerData, Samples
from tallynode.learning.settings import TrainSettings
from tallynode.methods.bridge import Bridge
from tallynode.methods.copies import Copy
from tallynode.methods.merge import MergePlan
from tallynode.protocol.contents import Outcome

Pull = Callable[[nn.Module], Tensor]

_FOREIGN = "the saved state is not of this model and method"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How a learner did in one round."""

    accuracy: float  # on the peer's test samples
    loss: float  # mean training loss of the round
    per_class: tuple[float | None, ...]  # recall of each class; None: not in the test samples
    tally_accuracy: float | None = None  # consensus labels against the truth, where it is known
    tally: Mapping[str, object] | None = None  # what was tallied, see learning/diagnose.py
    privacy: Mapping[str, float] | None = None  # ε spent, see methods/responses.py


class Method(ABC):
    """Trains one peer.

    Args:
        data: the peer's samples and the probes.
        settings: how it trains.
        classes: number of classes.
        seed: of the mesh; gives every peer the same initial weights.
        index: of the peer in the mesh; gives it batch orders of its own.
    """

    roles: Sequence[str] = ("learner",)  # the copies that it trains

    def __init__(
        self, data: PeerData, settings: TrainSettings, *, classes: int, seed: int, index: int
    ) -> None:
        self.data = data.to(settings.device)
        self.settings = settings
        self.classes = classes
        self._seed = (seed, index)
        self._copies: dict[str, Copy] = {}
        for role in self.roles:
            self._begin(role, train.seed_of(seed, "weights"))
        self.bridge: Bridge | None = None
        self._labelled(self.data.private)
        self._trained = -1  # the last round in which what is sent was trained
        self._loss = 0.0  # mean loss of that round

    def _begin(self, role: str, seed: int) -> None:
        """Set a copy to weights of this seed, its optimiser to nothing."""
        self._copies[role] = Copy(self._new_net(seed), self.settings)

    def _new_net(self, seed: int) -> nn.Module:
        of = self.settings
        return models.build(of.model, self.data.shape, self.classes, seed, of.device)

    @property
    def _learner(self) -> Copy:
        return self._copies["learner"]

    @abstractmethod
    def train(self, round: int, probes: np.ndarray) -> np.ndarray:
        """Train for a round on private data; what to send, over the probes (n,) int."""

    @abstractmethod
    def learn(self, round: int, outcome: Outcome | None) -> Metrics:
        """Learn from what a round came to; None: from private data alone."""

    def join(self, plan: MergePlan) -> None:
        """Let the learner be merged with those of its neighbours; before anything is trained."""
        self.bridge = Bridge(self._learner, plan)

    @property
    def finite(self) -> bool:
        """Whether all weights of all copies are numbers."""
        return all(
            bool(torch.isfinite(parameter).all())
            for copy in self._copies.values()
            for parameter in copy.net.parameters()
        )

    @property
    def held(self) -> np.ndarray:
        """(classes,) int64 private samples of each class."""
        counts: np.ndarray = np.bincount(self.data.private.y.cpu().numpy(), minlength=self.classes)
        return counts

    @property
    def parameters(self) -> int:
        """Number of the learner's parameters."""
        return sum(parameter.numel() for parameter in self._learner.net.parameters())

    def take(self, data: PeerData) -> None:
        """Go on with other private and test samples.

        Raises:
            DataError: the classes or the probes are not the same any more.
        """
        data = data.to(self.settings.device)
        same = data.probes.shape == self.data.probes.shape and torch.equal(
            data.probes, self.data.probes
        )
        if data.classes != self.data.classes or not same:
            raise DataError("data: classes or probes changed while running; start the peer again")
        self.data = data
        self._labelled(data.private)

    def _labelled(self, samples: Samples) -> None:
        """Train on these samples from now on, their class prior taken out if it is to be."""
        self._samples = samples
        of = samples.y
        self._prior = train.log_prior(of, self.classes) if self.settings.prior else None

    def _metrics(self, loss: float, **of_tally: object) -> Metrics:
        truth = self.data.test.y.numpy()
        predicted = self._tested()
        return Metrics(
            accuracy=evaluate.accuracy(predicted, truth),
            loss=loss,
            per_class=evaluate.per_class_accuracy(predicted, truth, self.classes),
            **of_tally,  # type: ignore[arg-type]
        )

    def _tested(self) -> np.ndarray:
        """(n,) int64 classes that the learner gives the test samples."""
        return evaluate.votes(self._learner.net, self.data.test.x)

    def _fit(
        self, copy: Copy, round: int, taught: Lesson | None = None, pull: Pull | None = None
    ) -> float:
        """Train one copy for a round and return the mean loss of its steps.

        Args:
            copy: what is trained, on the labelled samples at hand.
            round: gives the order of the batches.
            taught: trained on beside them.
            pull: a further loss, of the parameters alone.
        """
        private, settings = self._samples, self.settings
        heard = len(taught) if taught else 0
        most = settings.local_epochs * max(len(private), heard)
        steps = settings.local_steps or -(-most // settings.batch_size)
        own = self._batches("private", round, len(private), steps)
        other = self._batches("consensus", round, heard, steps) if taught else None
        total = torch.zeros((), dtype=torch.float64, device=settings.device)
        copy.net.train()
        for _ in range(steps):
            loss = train.private_loss(copy.net, private, next(own), self._prior)
            if taught and other:
                loss = loss + consensus_loss(copy.net, taught, next(other))
            if pull:
                loss = loss + pull(copy.net)
            train.step(loss, copy.optimiser)
            total += loss.detach()
        return total.item() / steps

    def _batches(self, role: str, round: int, count: int, steps: int) -> Iterator[Tensor]:
        """Yield index batches, `steps` of which pass the samples `local_epochs` times."""
        seed = train.seed_of(*self._seed, round, role)
        size = -(-count * self.settings.local_epochs // steps)
        if self.settings.local_steps:
            size = self.settings.batch_size
        return train.batches(count, size, seed, self.settings.device)

    def _teach(self, taught: Lesson, seed: int, optimiser: torch.optim.Optimizer) -> None:
        """Train the learner on a lesson alone, in an order of this seed."""
        net = self._learner.net
        net.train()
        for batch in self._passes(len(taught), seed):
            train.step(consensus_loss(net, taught, batch), optimiser)

    def _passes(self, count: int, seed: int) -> Iterator[Tensor]:
        """Yield index batches that pass `count` probes `distil_epochs` times."""
        size = self.settings.batch_size
        order = train.batches(count, size, seed, self.settings.device)
        return islice(order, self.settings.distil_epochs * -(-count // size))

    def _accuracy_of(self, said: Labelled) -> float | None:
        """Share of the labels that the mesh gave which are right; None: not known, or no label."""
        truth, heard = self._truth(said.probes), said.heard
        if truth is None or not heard.any():
            return None
        return evaluate.accuracy(said.labels[heard], truth[heard])

    def _truth(self, probes: np.ndarray) -> np.ndarray | None:
        """(n,) int64 right classes, where they are known."""
        labels = self.data.probe_labels
        return None if labels is None else labels[torch.from_numpy(probes)].numpy()

    def state(self) -> dict[str, Tensor]:
        """Return everything that resuming needs: weights, moments, the round of the last votes."""
        tensors = {
            "trained": torch.tensor(self._trained),
            "voter_loss": torch.tensor(self._loss, dtype=torch.float64),
        }
        for role, copy in self._copies.items():
            tensors |= {f"{role}.{key}": value for key, value in copy.state().items()}
        if self.bridge:
            tensors |= {f"bridge.{key}": value for key, value in self.bridge.state().items()}
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            DataError: the tensors are those of another model or method.
        """
        try:
            for role, copy in self._copies.items():
                copy.load(_under(f"{role}.", tensors))
            if self.bridge:
                self.bridge.load(_under("bridge.", tensors))
            self._trained = int(tensors["trained"])
            self._loss = float(tensors["voter_loss"])
        except RuntimeError as error:  # torch's, a line for each tensor
            why = f"{_FOREIGN}: it has other tensors than a {self.settings.model} of this method"
            raise DataError(why) from error
        except (KeyError, ValueError) as error:
            raise DataError(f"{_FOREIGN}: {error}") from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

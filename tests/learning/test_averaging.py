"""The methods that average models, each against a twin that is written out by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tallynode.errors import DataError
from tallynode.learning import models, train
from tallynode.learning.data import PeerData, load_peer_data
from tallynode.learning.settings import DataSettings, TrainSettings
from tallynode.methods.fedavg import FedAvgMethod
from tallynode.protocol.contents.parameters import Average

SGD = TrainSettings(optimiser="sgd", momentum=0.9, learning_rate=0.05, prior=False)
NOTHING = np.zeros(0, dtype=np.int64)


@pytest.fixture(scope="module")
def data() -> PeerData:
    """Ninety digits of few classes."""
    of = DataSettings(source="digits", probes=100, per_peer=90, dirichlet=0.3, share=(0, 4))
    train.use_threads(1)
    return load_peer_data(of)


Pull = Callable[[list[torch.Tensor]], torch.Tensor]  # a further loss, of the parameters


def twin(data: PeerData, start: np.ndarray, settings: TrainSettings, round_: int, pull: Pull):  # type: ignore[no-untyped-def]
    """(parameters,) after a round of SGD with momentum, each step written out."""
    net = models.build("mlp", data.shape, 10, 0)
    parameters = list(net.parameters())
    torch.nn.utils.vector_to_parameters(torch.from_numpy(start), parameters)
    speed = [torch.zeros_like(p) for p in parameters]
    seed = train.seed_of(3, 0, round_, "private")
    order = train.batches(len(data.private), 30, torch.Generator().manual_seed(seed))
    for _ in range(3 * settings.local_epochs):  # ninety samples are three even batches
        batch = next(order)
        loss = functional.cross_entropy(net(data.private.x[batch]), data.private.y[batch])
        slopes = torch.autograd.grad(loss + pull(parameters), parameters)
        with torch.no_grad():
            for p, v, slope in zip(parameters, speed, slopes, strict=True):
                v.mul_(settings.momentum).add_(slope)
                p.sub_(settings.learning_rate * v)
    return torch.nn.utils.parameters_to_vector(parameters).detach().numpy()


def no_pull(parameters: list[torch.Tensor]) -> torch.Tensor:
    """Nothing but the private loss."""
    return torch.zeros(())


def test_fedavg_sends_the_model_that_plain_sgd_gives_and_its_samples(data: PeerData) -> None:
    """Two passes from the shared weights, then the average is what it goes on from."""
    settings = replace(SGD, local_epochs=2)
    method = FedAvgMethod(data, settings, classes=10, seed=3, index=0)
    start = method.state()
    weights = np.concatenate(
        [start[f"learner.net.{k}"].numpy().ravel() for k in ("1.weight", "1.bias")]
        + [start[f"learner.net.{k}"].numpy().ravel() for k in ("3.weight", "3.bias")]
    )
    sent = method.train(1, NOTHING)
    assert sent[-1] == 90
    assert sent[:-1] == pytest.approx(twin(data, weights, settings, 1, no_pull), abs=1e-5)
    average = Average(values=sent[:-1] / 2, voters=2)
    method.learn(1, average)
    assert np.array_equal(method._learner.flat().numpy(), average.values)


def test_momentum_survives_a_restart(data: PeerData) -> None:
    """Stored and loaded between two rounds: the same bits follow."""
    whole = FedAvgMethod(data, SGD, classes=10, seed=3, index=0)
    whole.train(1, NOTHING)
    other = FedAvgMethod(data, SGD, classes=10, seed=3, index=0)
    other.load(whole.state())
    assert np.array_equal(whole.train(2, NOTHING), other.train(2, NOTHING))


def test_the_moments_of_another_optimiser_are_refused(data: PeerData) -> None:
    """They would be dropped without a word otherwise."""
    before = FedAvgMethod(data, replace(SGD, optimiser="adam"), classes=10, seed=3, index=0)
    before.train(1, NOTHING)
    after = FedAvgMethod(data, SGD, classes=10, seed=3, index=0)
    with pytest.raises(DataError, match="of another optimiser"):
        after.load(before.state())

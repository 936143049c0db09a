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
from tallynode.methods.feddf import FedDfMethod
from tallynode.methods.fedprox import FedProxMethod
from tallynode.protocol.contents.parameters import Average

SGD = TrainSettings(optimiser="sgd", momentum=0.9, learning_rate=0.05, prior=False)
NOTHING, PROBES = np.zeros(0, dtype=np.int64), np.arange(100)


@pytest.fixture(scope="module")
def data() -> PeerData:
    """Ninety digits of few classes."""
    of = DataSettings(source="digits", probes=100, per_peer=90, dirichlet=0.3, share=(0, 4))
    train.use_threads(1)
    return load_peer_data(of)


def flat(method: FedAvgMethod) -> np.ndarray:
    """(parameters,) float32, a copy."""
    return method._learner.flat()


def average(models: list[np.ndarray]) -> Average:
    """What the mesh made of models of equally many samples."""
    mean = np.mean(models, axis=0, dtype=np.float32)
    return Average(values=mean, voters=len(models), probes=PROBES, models=models)


Pull = Callable[[list[torch.Tensor]], torch.Tensor]  # a further loss, of the parameters


def twin(data: PeerData, start: np.ndarray, settings: TrainSettings, round_: int, pull: Pull):  # type: ignore[no-untyped-def]
    """(parameters,) after a round of SGD with momentum, each step written out."""
    net = models.build("mlp", data.shape, 10, 0)
    parameters = list(net.parameters())
    torch.nn.utils.vector_to_parameters(torch.from_numpy(start.copy()), parameters)
    speed = [torch.zeros_like(p) for p in parameters]
    seed = train.seed_of(3, 0, round_, "private")
    order = train.batches(len(data.private), 30, seed)
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
    weights = flat(method)
    sent = method.train(1, NOTHING)
    assert sent[-1] == 90
    assert sent[:-1] == pytest.approx(twin(data, weights, settings, 1, no_pull), abs=1e-5)
    method.learn(1, average([sent[:-1], np.zeros_like(sent[:-1])]))
    assert np.array_equal(flat(method), sent[:-1] / 2)


def test_fedprox_is_pulled_towards_what_the_round_began_with(data: PeerData) -> None:
    """Each step goes down mu (w - w_t) too; without mu it is fedavg."""
    settings = replace(SGD, mu=0.5, local_epochs=2)
    method = FedProxMethod(data, settings, classes=10, seed=3, index=0)
    weights = flat(method)
    start = torch.from_numpy(weights)

    def pull(parameters: list[torch.Tensor]) -> torch.Tensor:
        away = torch.nn.utils.parameters_to_vector(parameters) - start
        return 0.25 * (away @ away)

    sent = method.train(1, NOTHING)[:-1]
    assert sent == pytest.approx(twin(data, weights, settings, 1, pull), abs=1e-5)
    free = FedAvgMethod(data, settings, classes=10, seed=3, index=0).train(1, NOTHING)[:-1]
    assert np.linalg.norm(sent - weights) < 0.95 * np.linalg.norm(free - weights)


def test_feddf_distils_the_average_towards_the_mean_logits(data: PeerData) -> None:
    """Adam on the probes, from the average, each step written out; every peer gets the same."""
    settings = replace(SGD, local_epochs=20, distil_epochs=2)
    of = DataSettings(source="digits", probes=100, per_peer=90, dirichlet=0.3, share=(1, 4))
    both = enumerate((data, load_peer_data(of)))
    peers = [FedDfMethod(own, settings, classes=10, seed=3, index=i) for i, own in both]
    models_ = [peer.train(1, PROBES)[:-1] for peer in peers]
    for peer in peers:
        peer.learn(1, average(models_))
    net = models.build("mlp", data.shape, 10, 0)
    logits = []
    for model in models_:
        torch.nn.utils.vector_to_parameters(torch.from_numpy(model), net.parameters())
        logits.append(net(data.probes).detach())
    target = ((logits[0] + logits[1]) / 2).softmax(dim=1)
    mean = torch.from_numpy((models_[0] + models_[1]) / 2)
    torch.nn.utils.vector_to_parameters(mean, net.parameters())
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    order = train.batches(len(PROBES), 32, train.seed_of(3, 1, "distil"))
    before = functional.cross_entropy(net(data.probes), target).item()
    for _ in range(2 * 4):  # a hundred probes are four batches
        batch = next(order)
        optimiser.zero_grad()
        functional.cross_entropy(net(data.probes[batch]), target[batch]).backward()
        optimiser.step()
    wanted = torch.nn.utils.parameters_to_vector(net.parameters()).detach().numpy()
    moved = np.linalg.norm(wanted - np.mean(models_, axis=0))
    assert np.linalg.norm(flat(peers[0]) - wanted) < 0.05 * moved  # Adam enlarges what is rounded
    assert np.array_equal(flat(peers[0]), flat(peers[1]))
    assert functional.cross_entropy(net(data.probes), target).item() < before


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

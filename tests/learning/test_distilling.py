"""The methods that learn from the probes, each against a twin or a figure worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tallynode.errors import DataError
from tallynode.learning import evaluate, models, train
from tallynode.learning.data import PeerData, load_peer_data
from tallynode.learning.samples import Samples
from tallynode.learning.settings import DataSettings, TrainSettings
from tallynode.methods.cfd import CfdMethod
from tallynode.methods.fd import FdMethod, sharpened
from tallynode.methods.fedct import FedCtMethod
from tallynode.methods.fedmd import FedMdMethod
from tallynode.methods.method import Method
from tallynode.protocol.contents.scores import MeanScores
from tallynode.protocol.contents.soft import SoftConsensus
from tallynode.protocol.tally import Consensus, tally

SETTINGS = TrainSettings(optimiser="sgd", learning_rate=0.05, distil_epochs=2)
PROBES = np.arange(100)


@pytest.fixture(scope="module")
def data() -> PeerData:
    """Ninety digits of few classes."""
    of = DataSettings(source="digits", probes=100, per_peer=90, dirichlet=0.3, share=(0, 4))
    train.use_threads(1)
    return load_peer_data(of)


def flat(method: Method) -> np.ndarray:
    """(parameters,) float32, a copy."""
    return method._learner.flat()


def soft(seed: int) -> SoftConsensus:
    """The mean of made-up soft labels."""
    shares = np.random.default_rng(seed).dirichlet(np.ones(10), 100).astype(np.float32)
    return SoftConsensus(probes=PROBES, posterior=shares, voters=4)


def test_a_sharpened_mean_by_hand() -> None:
    """DS-FL at T = 0.1: five points of lead are a factor of e^0.5; the order stays."""
    mean = np.array([[0.50, 0.45, 0.05], [1 / 3, 1 / 3, 1 / 3]], dtype=np.float32)
    surer = sharpened(mean, 0.1)
    assert surer[0, 0] / surer[0, 1] == pytest.approx(np.exp(0.5), rel=1e-5)
    assert surer[0, 0] / surer[0, 2] == pytest.approx(np.exp(4.5), rel=1e-5)
    assert surer.sum(axis=1) == pytest.approx([1, 1])
    assert surer[1] == pytest.approx([1 / 3] * 3)


def test_fd_learns_from_the_sharpened_mean(data: PeerData) -> None:
    """With a temperature it is fd that was told the sharpened mean itself."""
    told, surer = soft(1), replace(soft(1), posterior=sharpened(soft(1).posterior, 0.1))
    settings = replace(SETTINGS, target="histogram")
    one = FdMethod(data, replace(settings, temperature=0.1), classes=10, seed=3, index=0)
    two = FdMethod(data, settings, classes=10, seed=3, index=0)
    plain = FdMethod(data, settings, classes=10, seed=3, index=0)
    for method, outcome in ((one, told), (two, surer), (plain, told)):
        method.learn(1, outcome)
    assert np.array_equal(flat(one), flat(two))
    assert not np.array_equal(flat(one), flat(plain))


@pytest.mark.parametrize("initialise", ["keep", "shared", "random"])
def test_cfd_distils_from_where_it_was_told_to(data: PeerData, initialise: str) -> None:
    """The plain soft cross-entropy over two passes, each step written out, from three places."""
    settings = replace(SETTINGS, initialise=initialise)  # type: ignore[arg-type]
    method = CfdMethod(data, settings, classes=10, seed=3, index=2)
    said = method.train(1, PROBES)
    assert said.sum(axis=1) == pytest.approx(np.ones(100), abs=1e-5)
    own = {"keep": flat(method), "shared": None, "random": None}[initialise]
    seed = (3, "weights") if initialise == "shared" else (3, 2, 1, "weights")
    net = models.build("mlp", data.shape, 10, train.seed_of(*seed))
    if own is not None:
        torch.nn.utils.vector_to_parameters(torch.from_numpy(own.copy()), net.parameters())
    method.learn(1, soft(1))
    target = torch.from_numpy(soft(1).posterior)
    order = train.batches(100, 32, train.seed_of(3, 2, 1, "distil"))
    for _ in range(2 * 4):
        batch = next(order)
        shares = net(data.probes[batch]).log_softmax(dim=1)
        slopes = torch.autograd.grad(-(target[batch] * shares).sum(dim=1).mean(), net.parameters())
        with torch.no_grad():
            for parameter, slope in zip(net.parameters(), slopes, strict=True):
                parameter.sub_(0.05 * slope)
    wanted = torch.nn.utils.parameters_to_vector(net.parameters()).detach().numpy()
    assert flat(method) == pytest.approx(wanted, abs=1e-5)


def test_a_hub_of_cfd_trains_on_what_it_hears_alone(data: PeerData) -> None:
    """Its private data change nothing; a leaf does not listen to a hub that knows nothing yet."""
    hub = CfdMethod(data, replace(SETTINGS, place="hub"), classes=10, seed=3, index=0)
    start = flat(hub)
    hub.train(1, PROBES)
    assert np.array_equal(flat(hub), start)
    hub.learn(1, soft(1))
    assert not np.array_equal(flat(hub), start)
    leaf = CfdMethod(data, replace(SETTINGS, place="leaf"), classes=10, seed=3, index=1)
    leaf.train(1, PROBES)
    trained = flat(leaf)
    assert leaf.learn(1, soft(1)).tally_accuracy is None
    assert np.array_equal(flat(leaf), trained)
    leaf.learn(2, soft(1))
    assert not np.array_equal(flat(leaf), trained)


def majority(seed: int) -> Consensus:
    """Three voters of made-up votes on every second probe."""
    votes = np.random.default_rng(seed).integers(0, 10, (3, 50))
    return tally(dict(zip("abc", votes, strict=True)), PROBES[::2], 10)


@pytest.mark.parametrize("prior", [True, False])
def test_fedct_trains_on_private_samples_and_pseudo_labels_as_one_set(
    data: PeerData, prior: bool
) -> None:
    """It is the peer that owned those probes with those labels from the start."""
    settings = replace(SETTINGS, prior=prior)
    method = FedCtMethod(data, settings, classes=10, seed=3, index=0)
    said = majority(1)
    method.learn(1, majority(2))
    method.learn(2, said)  # the labels of a round replace those of the one before
    more = Samples(
        torch.cat([data.private.x, data.probes[::2]]),
        torch.cat([data.private.y, torch.from_numpy(said.labels)]),
    )
    rich = FedCtMethod(replace(data, private=more), settings, classes=10, seed=3, index=0)
    assert np.array_equal(method.train(3, PROBES), rich.train(3, PROBES))
    assert np.array_equal(flat(method), flat(rich))
    poor = FedCtMethod(data, settings, classes=10, seed=3, index=0)
    poor.train(3, PROBES)
    assert not np.array_equal(flat(method), flat(poor))


def test_pseudo_labels_survive_a_restart_and_new_private_data(data: PeerData) -> None:
    """Stored and loaded, or given other samples: what was labelled stays labelled."""
    whole, other = (FedCtMethod(data, SETTINGS, classes=10, seed=3, index=0) for _ in range(2))
    whole.learn(1, majority(1))
    other.load(whole.state())
    for method in (whole, other):
        method.take(data)
        assert len(method._samples) == 90 + 50
    assert np.array_equal(whole.train(2, PROBES), other.train(2, PROBES))
    assert np.array_equal(flat(whole), flat(other))
    with pytest.raises(DataError, match="pseudo-labels of other probes"):
        other.load({key: value for key, value in whole.state().items() if key != "pseudo"})


def test_fedmd_digests_scores_and_then_revisits_private_data(data: PeerData) -> None:
    """The mean absolute error goes down on the probes; without a consensus it only revisits."""
    method = FedMdMethod(data, SETTINGS, classes=10, seed=3, index=0)
    said = method.train(1, PROBES)
    assert np.array_equal(said, evaluate.logits(method._learner.net, data.probes))
    twin = FedMdMethod(data, SETTINGS, classes=10, seed=3, index=0)
    twin.train(1, PROBES)
    target = MeanScores(probes=PROBES, scores=said + 1, voters=2)
    method.learn(1, target)
    net, goal = twin._learner.net, torch.from_numpy(target.scores)
    order = train.batches(100, 32, train.seed_of(3, 0, 1, "digest"))
    before = functional.l1_loss(net(data.probes), goal).item()
    for _ in range(2 * 4):  # two passes of four batches
        batch = next(order)
        loss = (net(data.probes[batch]) - goal[batch]).abs().mean()
        train.step(loss, twin._learner.optimiser)
    assert functional.l1_loss(net(data.probes), goal).item() < before
    twin.learn(1, None)
    assert flat(method) == pytest.approx(flat(twin), abs=1e-5)


def test_fedmd_trains_on_private_data_once_before_it_first_speaks(data: PeerData) -> None:
    """Later rounds say what the last revisit left."""
    method = FedMdMethod(data, SETTINGS, classes=10, seed=3, index=0)
    start = flat(method)
    method.train(1, PROBES)
    first = flat(method)
    assert not np.array_equal(start, first)
    method.train(2, PROBES)
    assert np.array_equal(flat(method), first)

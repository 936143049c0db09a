"""Nets, batches, losses and measures: the pieces that a method is made of."""

import numpy as np
import pytest
import torch
from torch import nn

from tallynode.errors import ConfigError
from tallynode.learning import distil, evaluate, models, train
from tallynode.learning.samples import Samples
from tallynode.learning.torchvision_cure import import_torchvision
from tallynode.protocol.tally import tally


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("mlp", (1, 8, 8), 4_810),
        ("lenet5", (1, 28, 28), 61_706),
        ("resnet8", (3, 32, 32), 77_850),
    ],
)
def test_nets_have_the_sizes_that_the_documentation_states(
    name: str, shape: models.Shape, parameters: int
) -> None:
    """The named nets take their images and give one logit a class."""
    net = models.build(name, shape, 10, seed=1)
    assert sum(weight.numel() for weight in net.parameters()) == parameters
    assert net(torch.rand(3, *shape)).shape == (3, 10)


@pytest.mark.parametrize("name", models.MODELS)
def test_weights_come_from_the_seed_and_leave_torchs_generator_alone(name: str) -> None:
    """Equal seeds, equal nets; another seed differs; nothing global is drawn from or set."""
    before = torch.random.get_rng_state()
    nets = [models.build(name, (1, 28, 28), 4, seed) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    flat = [torch.cat([p.reshape(-1) for p in net.parameters()]) for net in nets]
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])
    assert bool(torch.isfinite(flat[0]).all())


def test_what_cannot_be_built_is_named() -> None:
    """An unknown net lists the known ones; a net says which images are too small for it."""
    with pytest.raises(ConfigError, match="unknown 'lenet', known are mlp, lenet5, resnet8"):
        models.build("lenet", (1, 28, 28), 10, 1)
    with pytest.raises(ConfigError, match="lenet5 needs images of 12 × 12 or more, not 8 × 8"):
        models.build("lenet5", (1, 8, 8), 10, 1)


def test_an_epoch_of_batches_visits_every_sample_once() -> None:
    """Batches of one epoch partition the samples; the next epoch is in another order."""
    stream = train.batches(10, 4, seed=1)
    epochs = [torch.cat([next(stream) for _ in range(3)]) for _ in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_derived_seeds_differ_by_every_part() -> None:
    """Rounds, peers and roles draw from streams of their own; the value is fixed for ever."""
    seeds = {train.seed_of(1, 2, 3), train.seed_of(12, 3), train.seed_of(1, 2, "3x"), 0}
    assert len(seeds) == 4
    assert train.seed_of(1, 2, "private") == 1_983_014_631_232_388_576


def test_the_prior_makes_a_skewed_peer_fair_to_rare_classes() -> None:
    """Overlapping classes, 190 to 10: without the prior the rare one is found far oftener."""
    draw = torch.Generator().manual_seed(5)

    def samples(*counts: int) -> Samples:
        y = torch.repeat_interleave(torch.arange(2), torch.tensor(counts))
        x = y.view(-1, 1, 1, 1) * 1.5 + torch.randn(len(y), 1, 1, 1, generator=draw)
        return Samples(x, y)

    private, test = samples(190, 10), samples(500, 500)

    def rare_recall(prior: torch.Tensor | None) -> float:
        net = models.build("mlp", (1, 1, 1), 2, seed=1)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(60):
            train.step(train.private_loss(net, private, torch.arange(200), prior), optimiser)
        predicted = evaluate.votes(net, test.x)
        recall = evaluate.per_class_accuracy(predicted, test.y.numpy(), 2)[1]
        assert recall is not None
        return recall

    assert rare_recall(train.log_prior(private.y, 2)) > rare_recall(None) + 0.3


def test_an_absent_class_keeps_a_finite_prior() -> None:
    """A class never seen counts as half a sample, so that no logit is moved without bound."""
    prior = train.log_prior(torch.tensor([0, 0, 0]), 2).exp()
    assert torch.allclose(prior, torch.tensor([3 / 3.5, 0.5 / 3.5]))


VOTES = {"a": [0, 1], "b": [0, 1], "c": [0, 0], "d": [1, 2]}  # shares 3/4, 1/4 and 1/4, 2/4, 1/4
BALLOTS = {name: np.array(votes) for name, votes in VOTES.items()}
TALLY = tally(BALLOTS, np.array([1, 2]), 3)


@pytest.fixture(autouse=True)
def _worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two probes show nothing; let the tally be worth a half."""
    monkeypatch.setattr("tallynode.protocol.tally.worth", lambda votes, agreed: 0.5)


def test_a_lesson_weighs_probes_by_confidence_and_has_the_asked_target() -> None:
    """Weights average what the tally is worth; label, shares or tempered belief are taught."""
    x = torch.arange(3.0).view(3, 1, 1, 1)
    hard, histogram, posterior = (
        distil.lesson(x, TALLY, target) for target in ("hard", "histogram", "posterior")
    )
    assert hard
    assert histogram
    assert posterior
    assert hard.weight.tolist() == posterior.weight.tolist() == pytest.approx([0.6, 0.4])
    assert hard.x.flatten().tolist() == [1, 2]
    assert hard.target.tolist() == [0, 1]
    shares = torch.tensor([[0.75, 0.25, 0], [0.25, 0.5, 0.25]])
    assert torch.allclose(histogram.target, shares)
    tempered = shares**distil.POSTERIOR_POWER
    assert torch.allclose(posterior.target, tempered / tempered.sum(dim=1, keepdim=True))


def test_a_silenced_probe_is_not_taught() -> None:
    """The guard leaves the probe with two votes of lead; where it leaves none, no lesson."""
    x = torch.arange(3.0).view(3, 1, 1, 1)
    guarded = distil.lesson(x, tally(BALLOTS, np.array([1, 2]), 3, byzantine=1), "hard")
    assert guarded
    assert (guarded.x.flatten().tolist(), guarded.target.tolist()) == ([1], [0])
    assert distil.lesson(x, tally(BALLOTS, np.array([1, 2]), 3, byzantine=2), "hard") is None


def test_a_worthless_tally_is_not_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise gives no lesson at all: a learner that hears it is the peer that trains alone."""
    monkeypatch.setattr("tallynode.protocol.tally.worth", lambda votes, agreed: 0.0)
    assert distil.lesson(torch.zeros(3, 1, 1, 1), TALLY, "hard") is None


def test_the_consensus_loss_is_the_weighted_mean() -> None:
    """One probe of weight 0.6 and one of 0.4: the loss is their weighted cross-entropies' mean."""
    logits = torch.tensor([[9.0, 9, 9], [2.0, 0, 0], [0, 2.0, 1.0]])
    net = nn.Flatten()  # hands its input on as logits
    taught = distil.lesson(logits.view(3, 3, 1, 1), TALLY, "hard")
    assert taught
    each = torch.logsumexp(logits[1:], dim=1) - 2
    expected = (0.6 * each[0] + 0.4 * each[1]) / 2
    assert torch.isclose(distil.consensus_loss(net, taught, torch.tensor([0, 1])), expected)


def test_measures_count_hits_and_leave_out_what_the_test_lacks() -> None:
    """Accuracy is the share of hits; a class without test samples has no recall, not zero."""
    truth = np.array([0, 0, 2, 2])
    predicted = np.array([0, 2, 2, 2])
    assert evaluate.accuracy(predicted, truth) == 0.75
    assert evaluate.per_class_accuracy(predicted, truth, 3) == (0.5, None, 1.0)


def test_votes_do_not_depend_on_the_size_of_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Splitting bounds memory and changes nothing."""
    net, x = models.build("mlp", (1, 8, 8), 10, 1), torch.rand(50, 1, 8, 8)
    whole = evaluate.votes(net, x)
    monkeypatch.setattr(evaluate, "EVALUATE_BATCH", 7)
    assert np.array_equal(whole, evaluate.votes(net, x))
    assert whole.dtype == np.int64


def test_votes_are_drawn_from_the_tempered_belief() -> None:
    """Each class is drawn on as long a piece of [0, 1) as softmax(logits / doubt) gives it."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    at = np.arange(20_000) / 20_000
    for doubt in (0.7, 1.0):
        drawn = evaluate.drawn_votes(nn.Flatten(), logits.expand(20_000, 1, 1, 4), doubt, at)
        shares = np.bincount(drawn, minlength=4) / len(at)
        assert np.allclose(shares, (logits / doubt).softmax(dim=0), atol=1e-4)
        assert (np.diff(drawn) >= 0).all()


def test_a_class_of_no_chance_is_never_drawn() -> None:
    """Neither at 0 nor just below 1, where rounding could run over the end."""
    x = torch.tensor([-1e4, 3.0, 2.0, -1e4]).expand(2, 1, 1, 4)
    at = np.array([0.0, np.nextafter(1, 0)])
    assert evaluate.drawn_votes(nn.Flatten(), x, 1.0, at).tolist() == [1, 2]


def test_torchvision_imports_whatever_operators_its_build_brings() -> None:
    """The data sets are usable and torch.library is left as it was."""
    register = torch.library.register_fake
    assert import_torchvision().datasets.MNIST.resources
    assert torch.library.register_fake is register


@pytest.mark.parametrize("side", [12, 13, 28])
def test_a_net_says_the_same_with_and_without_gradients(side: int) -> None:
    """lenet5 pools in another way where nothing is learnt: bit for bit the same, odd sizes too."""
    net = models.build("lenet5", (1, side, side), 10, 1)
    x = torch.rand(30, 1, side, side, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        said = net(x)
    assert torch.equal(said, net(x).detach())

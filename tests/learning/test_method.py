"""The method `tally` on real digits: it gains, it repeats, it resumes, and its baseline is fair."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tallynode.errors import DataError, DivergedError
from tallynode.learning import evaluate, models, train
from tallynode.learning.data import PeerData, load_peer_data
from tallynode.learning.distil import Lesson
from tallynode.learning.settings import DataSettings, TrainSettings
from tallynode.methods import METHODS
from tallynode.methods import tally as tally_method
from tallynode.methods.copies import learner_weights
from tallynode.methods.jobs import trained
from tallynode.methods.merge import MergePlan
from tallynode.methods.method import Metrics
from tallynode.methods.tally import TallyMethod
from tallynode.protocol import effects as ef
from tallynode.protocol.tally import Consensus, tally

DATA = DataSettings(source="digits", probes=500, per_peer=125, dirichlet=0.1)
SETTINGS = TrainSettings(learning_rate=1e-2)
PROBES = np.arange(500)
PEERS = 8


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    train.use_threads(1)


@pytest.fixture(scope="module")
def parts() -> list[PeerData]:
    """The private data of eight peers."""
    return [load_peer_data(replace(DATA, share=(index, PEERS))) for index in range(PEERS)]


def _mesh(parts: Sequence[PeerData], settings: TrainSettings) -> list[TallyMethod]:
    return [
        TallyMethod(data, settings, classes=10, seed=3, index=index)
        for index, data in enumerate(parts)
    ]


def _round(mesh: Sequence[TallyMethod], number: int, probes: np.ndarray = PROBES) -> list[Metrics]:
    """Every peer hears every ballot."""
    ballots = {str(index): peer.train(number, probes) for index, peer in enumerate(mesh)}
    consensus = tally(ballots, probes, 10)
    return [peer.learn(number, consensus) for peer in mesh]


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def alone(data: PeerData, index: int, rounds: int) -> list[Metrics]:
    """The twin that never votes and never hears anybody, one copy and no more."""
    single = replace(SETTINGS, witness=False)
    method = TallyMethod(data, single, classes=10, seed=3, index=index)
    return [method.learn(number, None) for number in range(rounds)]


def test_the_mesh_gains_25_points_over_the_same_peers_alone(parts: list[PeerData]) -> None:
    """Strong label skew, twelve rounds, plurality of witnesses: what the project is for."""
    mesh = _mesh(parts, SETTINGS)
    together = [_round(mesh, number) for number in range(12)][-1]
    single = [alone(data, index, 12)[-1] for index, data in enumerate(parts)]
    gain = np.mean([m.accuracy for m in together]) - np.mean([m.accuracy for m in single])
    assert gain > 0.25
    assert together[0].tally_accuracy is not None
    assert together[0].tally_accuracy > 0.5


@pytest.mark.parametrize("witness", [True, False])
@pytest.mark.parametrize("target", ["hard", "histogram"])
def test_the_same_seed_gives_the_same_bits(
    parts: list[PeerData], witness: bool, target: str
) -> None:
    """Two runs of two peers end in equal metrics and equal states."""
    settings = replace(SETTINGS, witness=witness, target=target)  # type: ignore[arg-type]
    meshes = [_mesh(parts[:2], settings) for _ in range(2)]
    metrics = [[_round(mesh, number) for number in range(3)] for mesh in meshes]
    assert metrics[0] == metrics[1]
    assert _same(meshes[0][1].state(), meshes[1][1].state())


def test_peers_start_alike_and_train_apart(parts: list[PeerData]) -> None:
    """One seed gives all peers equal first weights; the index gives them batches of their own."""
    first, second = _mesh([parts[0], parts[0]], SETTINGS)
    assert _same(first.state(), second.state())
    first.learn(0, None)
    second.learn(0, None)
    assert not _same(first.state(), second.state())


@pytest.mark.parametrize(
    ("witness", "sampled"), [(True, None), (False, None), (True, 2), (True, "auto")]
)
@pytest.mark.parametrize("voted", [True, False])
def test_resumed_equals_uninterrupted(
    parts: list[PeerData],
    tmp_path: Path,
    witness: bool,
    sampled: int | Literal["auto"] | None,
    voted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped between rounds or between vote and tally, stored and loaded: the same bits follow."""
    monkeypatch.setattr(tally_method, "CAUGHT_UP", 0.2)
    settings = replace(SETTINGS, witness=witness, sampled_from=sampled)
    whole, other = _mesh(parts[:2], settings)
    for number in range(2):
        _round([whole, other], number)
    ballots = {"0": whole.train(2, PROBES), "1": other.train(2, PROBES)} if voted else {}
    save_file(whole.state(), tmp_path / "state")
    resumed = TallyMethod(parts[0], settings, classes=10, seed=3, index=0)
    resumed.load(load_file(tmp_path / "state"))
    results = []
    for peer in (whole, resumed):
        heard = ballots or {"0": peer.train(2, PROBES), "1": np.zeros(500, dtype=np.int64)}
        metrics = [peer.learn(2, tally(heard, PROBES, 10))]
        votes = peer.train(3, PROBES)
        metrics.append(peer.learn(3, None))
        results.append((metrics, votes.tolist()))
    assert results[0] == results[1]
    assert _same(whole.state(), resumed.state())


@pytest.mark.parametrize("published", [True, False])
def test_a_bridged_peer_resumes_like_an_uninterrupted_one(
    parts: list[PeerData], tmp_path: Path, published: bool
) -> None:
    """Stopped before or after its delta left: the same bits follow, nothing is merged twice."""
    peers = [TallyMethod(parts[i], SETTINGS, classes=10, seed=3, index=i) for i in (0, 1, 0)]
    for place, peer in enumerate(peers):
        peer.join(MergePlan(weights={"b" if place != 1 else "a": 0.5}, density=0.05))
    whole, other, resumed = peers
    bridges = [peer.bridge for peer in peers]
    assert all(bridges)
    for number in (1, 2):
        for peer in (whole, other):
            peer.train(number, PROBES)
        sent = [bridge.publish(number) for bridge in bridges[:2]]
        bridges[0].merge({"b": [(number, sent[1])]})
        bridges[1].merge({"a": [(number, sent[0])]})
        for peer in (whole, other):
            peer.learn(number, None)
    last = sent[1]
    own = bridges[0].publish(3) if published else b""
    save_file(whole.state(), tmp_path / "state")
    resumed.load(load_file(tmp_path / "state"))
    if not published:
        own, again = (bridges[i].publish(3) for i in (0, 2))
        assert own == again
    theirs = bridges[1].publish(3)
    for place in (0, 2):
        assert bridges[place].merge({"b": [(2, last), (3, theirs)]}) == {}
    assert _same(whole.state(), resumed.state())
    assert own != bridges[0].publish(4) == bridges[2].publish(4)


def test_a_state_is_a_snapshot(parts: list[PeerData]) -> None:
    """Training on does not change a state that was taken, nor does a loaded peer."""
    peer, copy = _mesh([parts[0]] * 2, SETTINGS)
    peer.learn(0, None)
    state = peer.state()
    kept = {key: value.clone() for key, value in state.items()}
    copy.load(state)
    peer.learn(1, None)
    copy.learn(1, None)
    assert _same(state, kept)


@pytest.mark.parametrize(
    "change", [{"model": "resnet8"}, {"witness": True}], ids=["another net", "a copy more"]
)
def test_a_foreign_state_is_refused(parts: list[PeerData], change: dict[str, object]) -> None:
    """The state of another net or method ends in one clear line."""
    settings = replace(SETTINGS, witness=False)
    state = TallyMethod(parts[0], settings, classes=10, seed=3, index=0).state()
    other = replace(settings, **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"not of this model and method: .* this method$"):
        TallyMethod(parts[0], other, classes=10, seed=3, index=0).load(state)


def test_the_baseline_is_the_learner_that_hears_nobody(parts: list[PeerData]) -> None:
    """`alone`, a learner without consensus, its witness and a single copy are bit for bit equal."""
    peer = TallyMethod(parts[0], SETTINGS, classes=10, seed=3, index=0)
    single = TallyMethod(parts[0], replace(SETTINGS, witness=False), classes=10, seed=3, index=0)
    for number, baseline in enumerate(alone(parts[0], 0, 3)):
        peer.train(number, PROBES)
        single.train(number, PROBES)
        assert peer.learn(number, None) == baseline
        assert single.learn(number, None) == baseline
    state = peer.state()
    learner = {key.removeprefix("learner."): state[key] for key in state if "learner." in key}
    witness = {key.removeprefix("witness."): state[key] for key in state if "witness." in key}
    assert _same(learner, witness)
    assert len(learner) > 4


def test_votes_are_cast_on_the_asked_probes_in_their_order(parts: list[PeerData]) -> None:
    """A sample of probes gets the votes that the whole set would have given it."""
    whole, some = (TallyMethod(parts[0], SETTINGS, classes=10, seed=3, index=0) for _ in range(2))
    sample = np.array([7, 3, 499])
    votes = whole.train(0, PROBES)
    assert votes.dtype == np.int64
    assert np.array_equal(some.train(0, sample), votes[sample])


def test_a_witness_never_hears_the_consensus(parts: list[PeerData]) -> None:
    """What the mesh says changes the learner and leaves the voter as it was."""
    one, two = (TallyMethod(parts[0], SETTINGS, classes=10, seed=3, index=0) for _ in range(2))
    for number in range(2):
        assert np.array_equal(one.train(number, PROBES), two.train(number, PROBES))
        for peer, said in ((one, 0), (two, 9)):
            votes = (PROBES + said) % 10
            peer.learn(number, tally({"a": votes, "b": votes}, PROBES, 10))
    assert not torch.equal(one.state()["learner.net.1.weight"], two.state()["learner.net.1.weight"])


def test_local_steps_replace_epochs(parts: list[PeerData]) -> None:
    """With `local_steps` a round takes that many optimiser steps, with and without a consensus."""
    settings = replace(SETTINGS, local_steps=5)
    peer = TallyMethod(parts[0], settings, classes=10, seed=3, index=0)
    votes = peer.train(0, PROBES)
    peer.learn(0, tally({"a": votes, "b": votes}, PROBES, 10))
    assert peer.state()["witness.adam.0.step"] == 5
    assert peer.state()["learner.adam.0.step"] == 5
    peer.learn(1, None)
    assert peer.state()["learner.adam.0.step"] == 10


def test_a_consensus_on_no_probe_teaches_nothing(parts: list[PeerData]) -> None:
    """Where every probe is silenced the learner trains alone instead of dividing by nothing."""
    two = TallyMethod(parts[0], SETTINGS, classes=10, seed=3, index=0)
    nothing = np.zeros(0, dtype=np.int64)
    silent = tally({"a": np.zeros(500, dtype=np.int64)}, PROBES, 10, byzantine=1)
    baseline = two.learn(0, None)
    for consensus in (tally({"a": nothing}, nothing, 10), silent):
        one = TallyMethod(parts[0], SETTINGS, classes=10, seed=3, index=0)
        taught = one.learn(0, consensus)
        assert (taught.accuracy, taught.loss) == (baseline.accuracy, baseline.loss)
        assert taught.tally_accuracy is None


def test_what_is_not_known_is_not_measured(parts: list[PeerData]) -> None:
    """Without labels of the probes the tally has no accuracy; without a consensus neither."""
    blind = replace(parts[0], probe_labels=None)
    peer = TallyMethod(blind, SETTINGS, classes=10, seed=3, index=0)
    consensus = tally({"a": peer.train(0, PROBES)}, PROBES, 10)
    assert peer.learn(0, consensus).tally_accuracy is None
    peer = TallyMethod(parts[0], SETTINGS, classes=10, seed=3, index=0)
    metrics = peer.learn(0, None)
    assert metrics.tally_accuracy is None
    assert len(metrics.per_class) == 10
    assert metrics.loss > 0


def test_new_private_data_are_taken_in_but_not_other_probes() -> None:
    """Private samples may change between rounds; classes and probes may not."""
    data = load_peer_data(DataSettings(source="digits", share=(0, 4), per_peer=100))
    other = load_peer_data(DataSettings(source="digits", share=(1, 4), per_peer=100))
    method = TallyMethod(data, TrainSettings(), classes=10, seed=1, index=0)
    method.take(other)
    assert method.data is other
    moved = load_peer_data(DataSettings(source="digits", share=(0, 4), partition_seed=8))
    with pytest.raises(DataError, match="start the peer again"):
        method.take(moved)


def test_the_learner_is_what_the_user_gets() -> None:
    """The exported weights are the learner's, under the names that the net itself has."""
    data = load_peer_data(DataSettings(source="digits", share=(0, 4), per_peer=100))
    method = TallyMethod(data, TrainSettings(), classes=10, seed=1, index=0)
    accuracy = method.learn(1, None).accuracy
    net = models.build("mlp", data.shape, 10, 0)
    net.load_state_dict(learner_weights(method.state()))
    predicted = evaluate.votes(net, data.test.x)
    assert evaluate.accuracy(predicted, data.test.y.numpy()) == accuracy


def test_a_vote_may_say_how_sure_it_is(parts: list[PeerData]) -> None:
    """The class is the one that would have been voted without; each level has as many votes."""
    plain = TallyMethod(parts[0], SETTINGS, classes=10, seed=3, index=0)
    sure = TallyMethod(parts[0], replace(SETTINGS, levels=4), classes=10, seed=3, index=0)
    said = sure.train(0, PROBES)
    assert np.array_equal(said // 4, plain.train(0, PROBES))
    assert np.bincount(said % 4).tolist() == [125] * 4


def test_from_a_round_on_learners_vote_with_doubt(parts: list[PeerData]) -> None:
    """Until then nothing differs; then what is drawn from the learner counts, and as histogram."""
    plain, drawn = (
        TallyMethod(parts[0], replace(SETTINGS, sampled_from=start), classes=10, seed=3, index=0)
        for start in (None, 3)
    )
    assert parts[0].probe_labels is not None
    votes = parts[0].probe_labels.numpy()
    consensus = tally({"a": votes, "b": votes}, PROBES, 10)
    for number in range(3):
        assert np.array_equal(plain.train(number, PROBES), drawn.train(number, PROBES))
        assert plain.learn(number, consensus) == drawn.learn(number, consensus)
    witnessed = drawn.state()["witness.net.1.weight"]
    said = drawn.train(3, PROBES)
    assert torch.equal(witnessed, drawn.state()["witness.net.1.weight"])
    sure = evaluate.votes(drawn._learner.net, parts[0].probes)
    assert 0.5 < (said == sure).mean() < 1
    taught: list[Lesson] = []
    drawn._fit_learner = lambda round, lesson: taught.append(lesson) or 0.0  # type: ignore[assignment, func-returns-value]
    drawn.learn(3, consensus)
    assert taught[0].target.dtype == torch.float32


def test_a_learner_votes_once_it_has_caught_up(
    parts: list[PeerData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever agrees with the tally by now speaks for itself from the next round on, for good."""
    peer = TallyMethod(
        parts[0], replace(SETTINGS, sampled_from="auto"), classes=10, seed=3, index=0
    )
    assert parts[0].probe_labels is not None
    votes = parts[0].probe_labels.numpy()
    consensus = tally({"a": votes, "b": votes}, PROBES, 10)
    shares, spoke = [], []
    monkeypatch.setattr(Consensus, "agreement", lambda *_: shares[-1])
    for number, share in enumerate([0.5, tally_method.CAUGHT_UP, 0.0, 0.0]):
        shares.append(share)
        peer.train(number, PROBES)
        found = peer.learn(number, consensus).tally
        assert found is not None
        spoke.append(found["learner_votes"])
    assert spoke == [False, False, True, True]


@pytest.mark.parametrize(
    ("method", "steps"),
    [(name, 8) for name in ("tally", "fd", "cfd", "fedmd", "fedavg", "feddf")]
    + [(name, 1) for name in ("fd", "cfd", "fedmd")],  # whose weights still are numbers
)
def test_training_that_diverges_says_so(parts: list[PeerData], method: str, steps: int) -> None:
    """Before anything is sent that is no number; also where the last step alone was too far."""
    wild = replace(SETTINGS, optimiser="sgd", learning_rate=1e38, local_steps=steps)
    peer = METHODS[method](parts[0], wild, classes=10, seed=3, index=0)
    with pytest.raises(DivergedError, match="round 4: training diverged"):
        trained(peer, ef.Train(round=4, probes=PROBES, bridge=False))


def test_an_echo_of_the_first_weights_teaches_nothing(parts: list[PeerData]) -> None:
    """Where all still say what they began with, learners stay alone, and none takes over for it."""
    slow = replace(
        SETTINGS, optimiser="sgd", learning_rate=1e-4, local_steps=2, sampled_from="auto"
    )
    mesh = _mesh(parts, slow)
    ballots = {str(index): peer.train(0, PROBES) for index, peer in enumerate(mesh)}
    echo = tally(ballots, PROBES, 10)
    assert echo.worth > 0.9
    found = [peer.learn(0, echo) for peer in mesh]
    assert mesh[0]._agreed > tally_method.CAUGHT_UP
    for index, peer in enumerate(mesh):
        single = TallyMethod(parts[index], slow, classes=10, seed=3, index=index)
        assert single.learn(0, None).accuracy == found[index].accuracy
        assert not peer._draws(1)
    truth = parts[0].probe_labels
    assert truth is not None
    taught = mesh[0].learn(1, tally({"a": truth.numpy(), "b": truth.numpy()}, PROBES, 10))
    assert taught.loss > 2 * found[0].loss  # of both: what is news is learnt


def test_what_the_first_weights_got_right_by_luck_is_no_echo(parts: list[PeerData]) -> None:
    """Of two classes a new net may have most right: who has learnt from its own data goes on."""
    peer = TallyMethod(parts[0], replace(SETTINGS, local_epochs=20), classes=10, seed=3, index=0)
    peer.train(0, PROBES)
    lucky = evaluate.votes(peer._learner.net, parts[0].probes)  # what all began with
    alone = TallyMethod(parts[0], replace(SETTINGS, local_epochs=20), classes=10, seed=3, index=0)
    same = tally({"a": lucky, "b": lucky}, PROBES, 10)
    assert peer.learn(0, same).loss != alone.learn(0, None).loss


def test_draws_are_spread_evenly_over_peers_and_over_rounds(parts: list[PeerData]) -> None:
    """Eight peers who believe the same cast the votes of their mean, to within two."""
    peers = [
        TallyMethod(parts[0], replace(SETTINGS, sampled_from=1), classes=10, seed=3, index=i)
        for i in range(8)
    ]
    for among in ([p._draws_at(5) for p in peers], [peers[2]._draws_at(n) for n in range(8)]):
        at = np.stack(among)  # (8, probes)
        for share in (0.3, 0.5, 0.9):
            votes = (at < share).sum(axis=0)
            assert np.abs(votes - 8 * share).max() < 2
        assert np.abs((at < 0.3).mean() - 0.3) < 0.01
    elsewhere = TallyMethod(parts[0], SETTINGS, classes=10, seed=4, index=0)
    assert np.abs(elsewhere._draws_at(5) - peers[0]._draws_at(5)).mean() > 0.2


def test_draws_are_surer_once_the_learner_is_settled(
    parts: list[PeerData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agreement with the last tally decides, of the probes that it was about."""
    peer = TallyMethod(parts[0], replace(SETTINGS, sampled_from=1), classes=10, seed=3, index=0)
    doubts: list[float] = []
    monkeypatch.setattr(
        evaluate, "drawn_votes", lambda net, x, doubt, at: doubts.append(doubt) or PROBES * 0
    )
    ballots = {"a": PROBES * 0, "b": PROBES * 0}
    for agreed in (0.0, tally_method.SETTLED, 0.5):
        monkeypatch.setattr(Consensus, "agreement", lambda *_, agreed=agreed: agreed)
        peer.learn(len(doubts), tally(ballots, PROBES, 10))
        peer.train(len(doubts) + 1, PROBES)
    assert doubts == [tally_method.DOUBT, tally_method.SETTLED_DOUBT, tally_method.DOUBT]

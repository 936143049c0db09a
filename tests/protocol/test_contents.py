"""What ballots of other methods hold: the same back, sums in any order, nothing hostile in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.coding import DecodeError
from tallynode.protocol.coding.ballot import Coding, MissingReference
from tallynode.protocol.coding.soft import quantise
from tallynode.protocol.contents import Contents, contents_of
from tallynode.protocol.contents.parameters import Average
from tallynode.protocol.contents.scores import MeanScores
from tallynode.protocol.contents.soft import SoftConsensus
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.tally import Consensus

PROBES = np.arange(6)


def made(method: str, **changes: Any) -> tuple[Contents, BallotBox]:
    """The contents of a peer `a` that hears `b`, and its box."""
    fields: dict[str, Any] = {
        "mesh": "m",
        "name": "a",
        "reach": {"b": {"b": 1}},
        "hops": 1,
        "classes": 3,
        "probes": 6,
        "per_round": None,
        "probe_digest": bytes(8),
        "method": method,
        "seed": 1,
        "parameters": 5 if method == "fedavg" else 0,
    }
    box = BallotBox(0)
    return contents_of(PeerSettings(**(fields | changes)), box), box


def soft(seed: int) -> np.ndarray:
    """(6, 3) float32 probabilities."""
    values = np.random.default_rng(seed).random((6, 3)) + 0.01
    return (values / values.sum(axis=1, keepdims=True)).astype(np.float32)


def model(seed: int, samples: int = 600) -> np.ndarray:
    """(6,) float32: five parameters, and how many samples they were trained on."""
    values = np.random.default_rng(seed).random(5)
    return np.append(values, samples).astype(np.float32)


def test_models_count_by_their_samples() -> None:
    """The weighted mean of McMahan et al. where everybody hears everybody, by hand."""
    contents, _ = made("fedavg", heard={"a": 1, "b": 1})
    given_ = {"a": model(1, 100), "b": model(2, 300)}
    mean = contents.outcome(1, given_, 0, PROBES)
    assert isinstance(mean, Average)
    assert mean.values == pytest.approx(model(1)[:-1] / 4 + model(2)[:-1] * 3 / 4)
    assert len(mean.models) == 0


def test_who_distils_gets_the_models_too() -> None:
    """In the order of the names, without their numbers of samples."""
    contents, _ = made("feddf", parameters=5)
    mean = contents.outcome(1, {"b": model(2), "a": model(1)}, 0, PROBES)
    assert isinstance(mean, Average)
    assert np.array_equal(mean.models, [model(1)[:-1], model(2)[:-1]])


@pytest.mark.parametrize("bits", [0, 1, 4])
def test_soft_labels_come_back_as_they_were_sent(bits: int) -> None:
    """Alone at first, then against the round before; who asks gets one that stands alone."""
    sender, sent = made("fd", bits=bits)
    receiver, got = made("fd", bits=bits)
    late, _ = made("fd", bits=bits)
    for number in (1, 2):
        held = sender.encode(number, soft(number))
        sent.put("a", number, held)
        read = receiver.decode("a", number, held.coding, held.coded)
        got.put("a", number, read)
        assert np.array_equal(read.content, held.content)
    if bits > 1:  # at one bit they are votes, and may be shorter alone
        with pytest.raises(MissingReference):
            late.decode("a", 2, held.coding, held.coded)
    ((number, coding, coded),) = receiver.chain("a", 2)
    assert number == 2
    assert np.array_equal(late.decode("a", 2, coding, coded).content, held.content)
    assert sender.chain("a", 9) == []


def test_without_delta_coding_every_soft_ballot_stands_alone() -> None:
    """Whoever comes late reads it."""
    sender, sent = made("cfd", bits=4, delta_coding=False)
    late, _ = made("cfd", bits=4, delta_coding=False)
    for number in (1, 2):
        held = sender.encode(number, soft(number))
        sent.put("a", number, held)
    assert np.array_equal(late.decode("a", 2, held.coding, held.coded).content, held.content)


def test_a_hub_and_its_leaves_learn_from_the_other_side_alone() -> None:
    """The hub from the mean of its leaves, a leaf from the hub, each in the other's bits."""
    fields = {"bits": 8, "bits_down": 1}
    leaf, _ = made("cfd", **fields, hub="b")
    hub, _ = made("cfd", **fields, hub="a", reach={"b": {"b": 1}, "c": {"c": 1}})
    up = [quantise(soft(seed), 8) for seed in (1, 2)]
    down = quantise(soft(3), 1)
    from_leaf, from_hub = leaf.encode(1, soft(1)), hub.encode(1, soft(3))
    assert np.array_equal(from_leaf.content, up[0])
    assert np.array_equal(from_hub.content, down)
    assert np.array_equal(leaf.decode("b", 1, from_hub.coding, from_hub.coded).content, down)
    with pytest.raises(DecodeError, match="soft labels of 8 bits, not 1"):
        leaf.decode("b", 1, from_leaf.coding, from_leaf.coded)
    taught = leaf.outcome(1, {"a": up[0], "b": down}, 0, PROBES)
    mean = hub.outcome(1, {"a": down, "b": up[0], "c": up[1]}, 0, PROBES)
    assert isinstance(taught, SoftConsensus)
    assert isinstance(mean, SoftConsensus)
    assert np.array_equal(taught.posterior, down.astype(np.float32))
    assert mean.posterior == pytest.approx((up[0] + up[1]) / (2 * 255))
    assert hub.outcome(1, {"a": down}, 0, PROBES) is None


def test_where_nobody_is_the_hub_the_mean_is_quantised_all_the_same() -> None:
    """Every peer learns from what a hub would have sent of its aggregate."""
    contents, _ = made("cfd", bits=0, bits_down=2)
    found = contents.outcome(1, {"a": soft(1), "b": soft(2)}, 0, PROBES)
    assert isinstance(found, SoftConsensus)
    assert found.posterior * 3 == pytest.approx(quantise((soft(1) + soft(2)) / 2, 2), abs=1e-6)


def test_soft_labels_finer_than_agreed_are_refused() -> None:
    """A peer of another mesh file is told so."""
    fine, _ = made("fd", bits=8)
    coarse, _ = made("fd", bits=2)
    held = fine.encode(1, soft(1))
    with pytest.raises(DecodeError, match="soft labels of 8 bits, not 2"):
        coarse.decode("b", 1, held.coding, held.coded)


def test_parameters_come_back_as_they_were_sent() -> None:
    """Every model stands alone, at four bytes a parameter."""
    sender, box = made("fedavg")
    values = np.array([1, -2, 3.5, 0, 1e-9, 600], dtype=np.float32)
    held = sender.encode(1, values)
    box.put("a", 1, held)
    assert len(held.coded) == 24
    assert np.array_equal(sender.decode("a", 1, held.coding, held.coded).content, values)
    assert sender.chain("a", 1) == [(1, Coding.FLOATS, held.coded)]
    assert sender.chain("b", 1) == []


@pytest.mark.parametrize(
    ("method", "coding", "data"),
    [
        ("fedavg", Coding.FLOATS, bytes(23)),
        ("fedavg", Coding.FLOATS, np.full(6, np.nan, dtype="<f4").tobytes()),
        ("fedavg", Coding.FLOATS, np.zeros(6, dtype="<f4").tobytes()),  # of no sample
        ("fedavg", Coding.FLOATS, np.full(6, 2.0**25, dtype="<f4").tobytes()),  # of too many
        ("fedavg", Coding.PACKED, bytes(24)),
        ("fedmd", Coding.FLOATS, bytes(71)),
        ("fedmd", Coding.SOFT, bytes(72)),
        ("fd", Coding.PACKED, bytes(3)),
        ("fd", Coding.SOFT, b""),
        ("tally", Coding.SOFT, bytes(3)),
        ("tally", Coding.FLOATS, bytes(20)),
    ],
)
def test_what_is_not_of_this_method_is_refused(method: str, coding: Coding, data: bytes) -> None:
    """One kind of error, whatever the bytes."""
    contents, _ = made(method)
    with pytest.raises(DecodeError):
        contents.decode("b", 1, coding, data)


@given(
    st.sampled_from(["fd", "fedmd", "fedavg", "tally"]),
    st.sampled_from(Coding),
    st.binary(max_size=90),
)
def test_any_bytes_are_a_content_or_refused(method: str, coding: Coding, data: bytes) -> None:
    """Decoders of all kinds raise nothing but DecodeError."""
    contents, _ = made(method, bits=3)
    try:
        held = contents.decode("b", 1, coding, data)
    except DecodeError:
        return
    assert len(held.content) == 6


@pytest.mark.parametrize(
    ("method", "content"),
    [
        ("fd", soft),
        ("fedmd", soft),
        ("fedavg", model),
    ],
)
def test_the_mean_is_the_same_in_any_order(
    method: str, content: Callable[[int], np.ndarray]
) -> None:
    """Floats are added in the order of the names; one alone says nothing new."""
    contents, _ = made(method)
    given_ = {name: content(seed) for seed, name in enumerate("abcde")}
    turned = dict(reversed(given_.items()))
    one, other = (contents.outcome(1, of, 0, PROBES) for of in (given_, turned))
    what = {"fd": "posterior", "fedmd": "scores", "fedavg": "values"}[method]
    assert isinstance(one, SoftConsensus | MeanScores | Average)
    assert getattr(one, what).tobytes() == getattr(other, what).tobytes()
    mean = np.mean(list(given_.values()), axis=0)
    assert getattr(one, what) == pytest.approx(mean[:-1] if method == "fedavg" else mean, abs=1e-6)
    assert contents.outcome(1, {"a": given_["a"]}, 0, PROBES) is None


@pytest.mark.parametrize("method", ["tally", "fd", "fedmd", "fedavg"])
def test_a_saved_content_is_restored(method: str) -> None:
    """What a crash must not lose comes back without any reference; damage is noticed."""
    contents, _ = made(method, bits=3)
    values = {
        "tally": np.array([0, 1, 2, 2, 1, 0]),
        "fd": soft(1),
        "fedmd": soft(1) - 4,
        "fedavg": np.ones(6),
    }[method]
    body = contents.alone(values)
    assert contents.restore(body) == pytest.approx(values)
    with pytest.raises(DecodeError):
        contents.restore(body[:-1])


def test_sampled_votes_are_a_histogram() -> None:
    """From that round on no voter is weighed: a class is worth its share of the votes."""
    votes = {name: np.array(said) for name, said in {"a": [0] * 6, "b": [0] * 5 + [1]}.items()}
    for number, counted in ((3, False), (4, True)):
        contents, _ = made("tally", tally="reliability", sampled_from=4)
        outcome = contents.outcome(number, votes, 0, PROBES)
        assert isinstance(outcome, Consensus)
        assert (outcome.confidence[-1] == 0.5) == counted


def test_a_chain_is_read_whatever_else_is_held() -> None:
    """Who asks may hold ballots that who answers has lost, or never had."""
    draw = np.random.default_rng(1)
    asked, held = made("tally", probes=600, per_round=None)
    asking, got = made("tally", probes=600, per_round=None)
    votes = draw.integers(0, 3, 600)
    for number in range(1, 9):
        votes = np.where(draw.random(600) < 0.1, draw.integers(0, 3, 600), votes)
        ballot = Held(Coding.PACKED, b"", votes)
        if number in (1, 4, 6, 8):
            held.put("b", number, ballot)
        if number in (1, 2, 3, 5):
            got.put("b", number, ballot)
    chain = asked.chain("b", 8)
    assert [number for number, _, _ in chain] == [1, 4, 6, 8]
    assert {coding for _, coding, _ in chain[1:]} == {Coding.HISTORY}
    for number, coding, coded in chain:
        read = asking.decode("b", number, coding, coded)
        got.put("b", number, read)
    assert np.array_equal(read.content, votes)

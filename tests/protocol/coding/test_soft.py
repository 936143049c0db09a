"""Soft labels: the quantiser against its definition, and the coding of what it makes."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError, ballot, soft
from tallynode.protocol.coding.reference import Reference


def probabilities(seed: int, probes: int, classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([0.3] * classes, probes)


def drifting(seed: int, bits: int, *, probes: int = 40, classes: int = 5) -> list[np.ndarray]:
    """Units of four rounds in which a few rows change."""
    draw = np.random.default_rng(seed)
    rounds = [probabilities(seed, probes, classes)]
    for step in range(3):
        new = probabilities(seed + 1 + step, probes, classes)
        rounds.append(np.where(draw.random((probes, 1)) < 0.3, new, rounds[-1]))
    return [soft.quantise(p, bits) for p in rounds]


@given(st.integers(0, 1 << 20), st.integers(1, 4), st.sampled_from([1, 2]))
def test_quantise_is_the_nearest_point_of_the_grid(seed: int, classes: int, bits: int) -> None:
    """No other row of the grid that sums to one is nearer in the sum of absolute differences."""
    whole = (1 << bits) - 1
    row = probabilities(seed, 1, classes)
    units = soft.quantise(row, bits)[0]
    grid = [u for u in product(range(whole + 1), repeat=classes) if sum(u) == whole]
    nearest = min(float(np.abs(np.array(u) / whole - row[0]).sum()) for u in grid)
    assert float(np.abs(units / whole - row[0]).sum()) == pytest.approx(nearest, abs=1e-12)


@given(st.integers(0, 1 << 20), st.integers(1, 16), st.integers(1, 30), st.integers(1, 20))
def test_rows_sum_to_one(seed: int, bits: int, probes: int, classes: int) -> None:
    """Whatever the number of bits, a row's units make a whole and none is off by more than one."""
    p = probabilities(seed, probes, classes) if classes > 1 else np.ones((probes, 1))
    units, whole = soft.quantise(p, bits), (1 << bits) - 1
    assert (units.sum(axis=1) == whole).all()
    assert (units >= 0).all()
    assert np.abs(units - p * whole).max() <= 1
    assert np.allclose(soft.dequantise(units, bits), p, atol=1 / whole)


def test_one_bit_is_the_vote() -> None:
    """b = 1 gives the argmax, the smaller class where two are equal."""
    p = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0, 0, 1]])
    assert soft.quantise(p, 1).argmax(axis=1).tolist() == [1, 0, 2]


@given(st.integers(0, 1 << 20), st.integers(1, 16), st.integers(0, 3))
def test_round_trip(seed: int, bits: int, known: int) -> None:
    """Labels come back with and without what was sent before."""
    *history, labels = drifting(seed, bits)
    data = soft.encode(labels, bits, history[3 - known :])
    found, back = soft.decode(data, 40, 5, history[3 - known :])
    assert found == bits
    assert np.array_equal(back, labels)


def test_float32_round_trip() -> None:
    """Unquantised labels take four bytes each and come back exactly."""
    p = probabilities(0, 7, 3).astype(np.float32)
    data = soft.encode(p, soft.FLOAT)
    assert len(data) == 1 + 4 * 21
    assert np.array_equal(soft.decode(data, 7, 3)[1], p)


@pytest.mark.parametrize("factor", [0.0, 0.99, 1.01, 1e30])
def test_floats_that_do_not_sum_to_one_are_refused(factor: float) -> None:
    """Else one voter would weigh as much as it likes, and a row of zeros has no mean."""
    p = probabilities(0, 7, 3).astype(np.float32)
    p[3] *= np.float32(factor)
    with pytest.raises(DecodeError, match="do not sum to one"):
        soft.decode(soft.encode(p, soft.FLOAT), 7, 3)


def test_one_bit_costs_what_the_vote_costs() -> None:
    """b = 1 is the ballot and one byte."""
    *history, labels = drifting(1, 1, probes=1_000, classes=10)
    votes = [units.argmax(axis=1) for units in history]
    _, data = ballot.encode(labels.argmax(axis=1), 10, Reference(history=tuple(votes)))
    assert len(soft.encode(labels, 1, history)) == len(data) + 1


def test_rows_that_stay_cost_little() -> None:
    """A thousand rows as before take a few bytes, at sixteen bits a class."""
    labels = soft.quantise(probabilities(2, 1_000, 10), 16)
    assert len(soft.encode(labels, 16, [labels])) < 20


@pytest.mark.parametrize("bits", [1, 4])
def test_other_labels_before_are_noticed(bits: int) -> None:
    """Without the sender's last labels, or with others, the receiver is told to ask."""
    first, second, _, last = drifting(3, bits, probes=200)
    data = soft.encode(last, bits, [first])
    for history in ([], [second], [first[:10]]):
        with pytest.raises(ballot.MissingReference):
            soft.decode(data, 200, 5, history)


@given(st.binary(max_size=60), st.booleans())
def test_junk_is_refused_or_means_rows_that_sum_to_one(data: bytes, known: bool) -> None:
    """Any bytes raise the one error or decode to labels of the declared shape."""
    history = drifting(4, 3)[:1] if known else []
    try:
        bits, labels = soft.decode(data, 40, 5, history)
    except DecodeError:
        return
    assert labels.shape == (40, 5)
    assert bits == soft.FLOAT or (labels.sum(axis=1) == (1 << bits) - 1).all()


@pytest.mark.parametrize(
    "data", [b"", b"\x00", b"\x1f", b"\x82", b"\x62", b"\x20", b"\x00" + b"\xff" * 16, b"\x11"]
)
def test_malformed_labels_are_refused(data: bytes) -> None:
    """Unknown widths and modes, short floats, and floats that are no probabilities."""
    with pytest.raises(DecodeError):
        soft.decode(data, 2, 2)


def test_our_own_mistakes_crash() -> None:
    """Widths beyond 16, rows that do not sum to one, negative probabilities: bugs of ours."""
    with pytest.raises(LocalError):
        soft.quantise(np.ones((1, 2)), 17)
    with pytest.raises(LocalError):
        soft.quantise(np.array([[-1.0, 2.0]]), 2)
    with pytest.raises(LocalError):
        soft.encode(np.array([[1, 1]]), 2)

"""Sparse deltas: exact selection, error feedback, and bytes from strangers."""

import lzma
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError, delta
from tallynode.protocol.coding.delta import Values

kinds = st.sampled_from(Values)


def vector(seed: int, size: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return (draw.normal(size=size) * 10.0 ** draw.integers(-6, 3)).astype(np.float32)


@given(st.integers(0, 1 << 20), st.integers(1, 300), kinds, st.data())
def test_what_is_sent_and_what_is_left_make_the_whole(
    seed: int, size: int, kind: Values, data: st.DataObject
) -> None:
    """The receiver's entries and the sender's remainder add up to the delta, float for float."""
    whole, count = vector(seed, size), data.draw(st.integers(1, size))
    coded, left = delta.encode(whole, count, kind)
    indices, values = delta.decode(coded, size, count)
    again = whole.copy()
    again[indices] -= values
    assert np.array_equal(again, left)
    assert len(indices) == count
    assert len(coded) <= delta.bytes_max(size, count, kind)


@pytest.mark.parametrize("kind", list(Values))
@pytest.mark.parametrize("density", [0.0001, 0.01, 0.3, 1.0])
def test_a_bound_on_the_bytes_holds_without_any_pattern(kind: Values, density: float) -> None:
    """Random positions and values do not compress; a large delta stays within its bound."""
    size = 300_000
    count = int(size * density)
    coded, _ = delta.encode(vector(3, size), count, kind)
    assert len(coded) <= delta.bytes_max(size, count, kind)


@given(st.integers(0, 1 << 20), st.integers(1, 200), st.data())
def test_the_largest_are_taken(seed: int, size: int, data: st.DataObject) -> None:
    """No entry left out is larger than one taken, as a full sort would have it."""
    whole, count = vector(seed, size), data.draw(st.integers(1, size))
    indices = delta.largest(whole, count)
    twin = sorted(map(abs, whole.tolist()), reverse=True)[:count]
    assert sorted(map(abs, whole[indices].tolist()), reverse=True) == twin
    assert (np.diff(indices) > 0).all()


@given(st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=50))
def test_varints_are_those_of_the_twin(gaps: list[int]) -> None:
    """Base 128, least digit first, as a loop over each number writes it."""

    def one(number: int) -> bytes:
        head = number & 127
        return bytes([head]) if number < 128 else bytes([head | 128]) + one(number >> 7)

    coded = delta._varints(np.array(gaps))
    assert coded == b"".join(map(one, gaps))
    assert delta._gaps(coded, len(gaps)).tolist() == gaps


def test_values_survive_as_well_as_their_kind_allows() -> None:
    """float16 to a thousandth, int8 to half a step of the largest, signs as signs of the mean."""
    whole = vector(1, 1_000)
    for kind in Values:
        coded, _ = delta.encode(whole, 100, kind)
        indices, values = delta.decode(coded, 1_000, 100)
        error = np.abs(values - whole[indices])
        if kind is Values.FLOAT16:
            assert (error <= np.abs(whole[indices]) * 2.0**-10).all()
        elif kind is Values.INT8:
            assert error.max() <= np.abs(whole).max() / 127 * 0.51
        else:
            assert (np.sign(values) == np.sign(whole[indices])).all()
            assert len(set(np.abs(values).tolist())) == 1


def test_an_empty_change_can_be_sent() -> None:
    """A delta of noughts is a delta."""
    for kind in Values:
        coded, left = delta.encode(np.zeros(10, dtype=np.float32), 3, kind)
        assert not delta.decode(coded, 10, 3)[1].any()
        assert not left.any()


def test_feedback_sends_everything_in_the_end() -> None:
    """A constant delta sent a tenth at a time arrives in full after a few rounds."""
    whole, left, arrived = vector(3, 500), np.zeros(500, dtype=np.float32), np.zeros(500)
    for round_ in range(40):
        coded, left = delta.encode(left + (whole if round_ == 0 else 0), 50, Values.INT8)
        indices, values = delta.decode(coded, 500, 50)
        arrived[indices] += values
    assert np.allclose(arrived, whole, atol=np.abs(whole).max() * 1e-3)


def test_clustered_positions_cost_less_than_the_uniform_bound() -> None:
    """A hundred neurons that move whole cost less than log2 C(n, k) for their positions."""
    draw = np.random.default_rng(0)
    whole = draw.normal(size=200_000).astype(np.float32) * 1e-3
    rows = draw.choice(2_000, 20, replace=False)
    whole.reshape(2_000, 100)[rows] += 1
    coded, _ = delta.encode(whole, 2_000, Values.SIGN)
    assert len(coded) * 8 / 2_000 < 4  # log2 C(n, k) / k is 8.1


def hostile(
    *, kind: int = 1, count: int = 2, scale: float = 1.0, raw: bytes = b"", values: bytes = b"\1\1"
) -> bytes:
    positions = delta._squeeze(raw or b"\0" * count)
    return (
        struct.pack("<BIfI", kind, count, scale, len(positions))
        + positions
        + delta._squeeze(values)
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        hostile()[:-1],
        hostile() + b"\0",
        hostile(kind=3),
        hostile(count=0, raw=b"\0"),
        hostile(count=1 << 31, raw=b"\0"),
        hostile(scale=float("nan")),
        hostile(scale=float("inf")),
        hostile(scale=-1.0),
        hostile(scale=3e38, values=b"\x7f\x7f"),
        hostile(kind=0, values=b"\0\0\x7c\x7c"),
        hostile(raw=b"\0"),
        hostile(raw=b"\0\0\0"),
        hostile(raw=b"\x7f\x7f"),
        hostile(raw=b"\x80\0\0"),
        hostile(raw=b"\0\xff\xff\xff\xff\xff\x01"),
        hostile(values=b"\1"),
        hostile(values=bytes(10_000_000)),
        hostile(raw=bytes(10_000_000)),
        struct.pack("<BIfI", 1, 2, 1.0, 1 << 31) + b"\0",
    ],
)
def test_malformed_deltas_are_refused(data: bytes) -> None:
    """Each field out of range, positions beyond the net, and what unpacks to more than declared."""
    with pytest.raises(DecodeError):
        delta.decode(data, 100, 50)
    assert delta.decode(hostile(), 100, 50)[0].tolist() == [0, 1]


def test_another_compressor_is_refused() -> None:
    """A body that is not raw LZMA is refused with the one error."""
    body = lzma.compress(b"\0\0")
    with pytest.raises(DecodeError):
        delta.decode(struct.pack("<BIfI", 1, 2, 1.0, len(body)) + body, 100, 50)


def test_our_own_mistakes_crash() -> None:
    """More entries than there are, or a delta that is not finite, is a bug of ours."""
    for whole, count in ((np.ones(3), 4), (np.ones(3), 0), (np.array([1, np.nan]), 1)):
        with pytest.raises(LocalError):
            delta.encode(whole.astype(np.float32), count, Values.INT8)

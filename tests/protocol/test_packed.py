"""Packed ballots against a twin that writes bits into one big integer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError, packed


def twin_encode(votes: list[int], classes: int) -> bytes:
    """The same bytes by way of a string of zeros and ones."""
    width = next(w for w in range(1, 64) if 2**w >= classes)
    bits = "".join(format(vote, f"0{width}b") for vote in votes)
    bits += "0" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


@st.composite
def ballots(draw: st.DrawFn) -> tuple[list[int], int]:
    """Votes and the number of classes they are among."""
    classes = draw(st.sampled_from([2, 3, 4, 5, 10, 16, 17, 100, 255, 256, 257, 50_000, 65_536]))
    return draw(st.lists(st.integers(0, classes - 1), max_size=60)), classes


@given(ballots())
def test_round_trip_and_twin(ballot: tuple[list[int], int]) -> None:
    """Votes survive, and the bytes are those that the definition says."""
    votes, classes = ballot
    data = packed.encode(np.array(votes, dtype=np.int64), classes)
    assert data == twin_encode(votes, classes)
    assert len(data) == packed.packed_bytes(len(votes), classes)
    decoded = packed.decode(data, len(votes), classes)
    assert decoded.dtype == np.int64
    assert decoded.tolist() == votes


@given(ballots(), st.binary(min_size=1, max_size=4), st.integers(0, 1000))
def test_another_length_is_refused(ballot: tuple[list[int], int], junk: bytes, cut: int) -> None:
    """Truncated or extended bytes are refused, never read short or long."""
    votes, classes = ballot
    data = packed.encode(np.array(votes, dtype=np.int64), classes)
    with pytest.raises(DecodeError, match="bytes for"):
        packed.decode(data + junk, len(votes), classes)
    if data:
        with pytest.raises(DecodeError, match="bytes for"):
            packed.decode(data[: cut % len(data)], len(votes), classes)


@given(st.binary(max_size=40), st.integers(0, 80), st.integers(2, 65_536))
def test_any_bytes_decode_to_votes_in_range_or_are_refused(
    data: bytes, count: int, classes: int
) -> None:
    """What is accepted is canonical: encoding it again gives the same bytes."""
    try:
        votes = packed.decode(data, count, classes)
    except DecodeError:
        return
    assert len(votes) == count
    assert packed.encode(votes, classes) == data


def test_padding_must_be_zero() -> None:
    """A set bit behind the last vote is refused, so that a ballot has one form only."""
    data = packed.encode(np.array([1, 2, 3]), 4)
    assert data == b"\x6c"
    with pytest.raises(DecodeError, match="padding"):
        packed.decode(b"\x6d", 3, 4)


def test_a_vote_outside_the_classes_is_refused() -> None:
    """Five classes take three bits; the three values left over are no votes."""
    assert packed.decode(b"\x80", 1, 5).tolist() == [4]
    with pytest.raises(DecodeError, match="not below 5"):
        packed.decode(b"\xa0", 1, 5)


@pytest.mark.parametrize("vote", [-1, 5])
def test_encoding_a_vote_outside_the_classes_is_our_own_bug(vote: int) -> None:
    """Our own trainer's impossible vote crashes instead of going out as another one."""
    with pytest.raises(LocalError, match=r"outside 0\.\.4"):
        packed.encode(np.array([0, vote]), 5)


@pytest.mark.parametrize(
    ("classes", "bits"), [(2, 1), (3, 2), (10, 4), (16, 4), (17, 5), (256, 8), (65_536, 16)]
)
def test_bits_a_vote(classes: int, bits: int) -> None:
    """A vote takes the logarithm of the classes, rounded up."""
    assert packed.bits_a_vote(classes) == bits

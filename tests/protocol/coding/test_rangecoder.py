"""The range coder against a twin that keeps the whole number and never shifts a byte out."""

from hypothesis import given
from hypothesis import strategies as st

from tallynode.protocol.coding import DecodeError
from tallynode.protocol.coding.rangecoder import ONE, Decoder, Encoder

bits = st.lists(st.tuples(st.booleans(), st.integers(1, ONE - 1)), max_size=300)
unlikely = st.lists(st.tuples(st.booleans(), st.sampled_from([1, 2, ONE - 1])), max_size=60)


def encode(coded: list[tuple[bool, int]]) -> bytes:
    coder = Encoder()
    for bit, one in coded:
        coder.code(bit, one)
    return coder.finish()


def twin(coded: list[tuple[bool, int]]) -> bytes:
    """The same interval, as one integer of any length."""
    low, width, shifted = 0, (1 << 32) - 1, 0
    for bit, one in coded:
        bound = (width >> 16) * one
        low, width = (low, bound) if bit else (low + bound, width - bound)
        while width < 1 << 24:
            low, width, shifted = low << 8, width << 8, shifted + 1
    tail = next(
        t
        for t in range(5)
        if (low + (1 << 32 - 8 * t) - 1 >> 32 - 8 * t << 32 - 8 * t) < low + width
    )
    cut = 32 - 8 * tail
    return (low + (1 << cut) - 1 >> cut).to_bytes(shifted + tail, "big")


@given(bits | unlikely)
def test_makes_the_bytes_of_the_twin(coded: list[tuple[bool, int]]) -> None:
    """Carries and shifts give the bytes that exact arithmetic gives."""
    assert encode(coded) == twin(coded)


@given(bits | unlikely)
def test_round_trip(coded: list[tuple[bool, int]]) -> None:
    """What was coded comes back, and the end is accepted."""
    coder = Decoder(encode(coded))
    assert [bool(coder.code(0, one)) for _, one in coded] == [bit for bit, _ in coded]
    coder.finish()


@given(st.binary(max_size=40), st.lists(st.integers(1, ONE - 1), max_size=200))
def test_whatever_is_accepted_is_canonical(data: bytes, ones: list[int]) -> None:
    """Bytes either fail or are exactly what the encoder makes of the bits that they decode to."""
    try:
        coder = Decoder(data)
        found = [(bool(coder.code(0, one)), one) for one in ones]
        coder.finish()
    except DecodeError:
        return
    assert encode(found) == data


@given(bits, st.binary(min_size=1, max_size=5))
def test_appended_bytes_are_noticed(coded: list[tuple[bool, int]], junk: bytes) -> None:
    """With anything behind them, coded bits are refused or mean other bits, never the same."""
    coder = Decoder(encode(coded) + junk)
    try:
        found = [bool(coder.code(0, one)) for _, one in coded]
        coder.finish()
    except DecodeError:
        return
    assert found != [bit for bit, _ in coded]

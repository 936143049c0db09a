"""Soft labels, for the methods that distil from probabilities instead of votes.

Constrained uniform quantisation Q_b of CFD (Sattler et al. 2021, arXiv 2012.00632, eq. 10): every
probability becomes a multiple of 1 / (2^b - 1) and every row still sums to one. Rounding down and
giving what is missing to the largest remainders is the nearest such point; at b = 1 that is the
vote. Rows are sent as integers, each entry against the same entry of the sender's last soft labels
(eq. 13), through the range coder with adaptive bits; b = 1 goes through the ballot codings.

    b (5 bits; 0: float32) | coding of a ballot, or whether against the last ones (3) | hash | bits

A row ends where its units are used up, and the last class is what remains, so no row is sent that
does not sum to one.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError, ballot
from tallynode.protocol.coding.rangecoder import ONE, Coder, Decoder, Encoder
from tallynode.protocol.coding.reference import DEPTH_MAX, Reference

FLOAT = 0  # the `bits` of float32
BITS_MAX = 16
_HASH_BYTES = 2
_SUM_OFF_MAX = 1e-3  # of a row of float32; more, and one voter could outweigh all others
_RATE = 4  # adaptive bits move by 1/16 of their error
_SIZES = BITS_MAX + 1  # contexts: bit length of the entry before
_LENGTHS = BITS_MAX  # contexts: bit length of the difference so far


def quantise(probabilities: np.ndarray, bits: int) -> np.ndarray:
    """(n, classes) rows that sum to one -> (n, classes) int64 multiples of 1 / (2^bits - 1).

    Rows sum to 2^bits - 1; equal remainders go to the smaller class. O(n · classes · log classes).
    """
    _check_bits(bits, 1)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all()):
        raise LocalError("probabilities must be finite and not negative")
    whole = (1 << bits) - 1
    scaled = probabilities.astype(np.float64)
    scaled = scaled / scaled.sum(axis=1, keepdims=True) * whole
    units = np.floor(scaled).astype(np.int64)
    order = np.argsort(units - scaled, axis=1, kind="stable")  # largest remainder first
    missing = whole - units.sum(axis=1, keepdims=True)
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(units.shape[1])[None, :], axis=1)
    repaired: np.ndarray = units + (place < missing)
    return repaired


def dequantise(units: np.ndarray, bits: int) -> np.ndarray:
    """(n, classes) units -> float32 probabilities."""
    return (units / ((1 << bits) - 1)).astype(np.float32)


def encode(labels: np.ndarray, bits: int, history: Sequence[np.ndarray] = ()) -> bytes:
    """Soft labels -> bytes.

    Args:
        labels: (n, classes) units of `quantise`; with bits FLOAT float32 probabilities.
        bits: b, or FLOAT.
        history: the units sent before over the same probes, oldest first; the receiver's too.
    """
    if bits == FLOAT:
        return bytes([FLOAT]) + labels.astype("<f4").tobytes()
    _check_bits(bits, 1)
    whole = (1 << bits) - 1
    if (labels < 0).any() or (labels.sum(axis=1) != whole).any():
        raise LocalError(f"rows must be non-negative and sum to {whole}")
    if bits == 1:
        reference = _votes_before(history)
        coding, data = ballot.encode(labels.argmax(axis=1), labels.shape[1], reference)
        return bytes([bits | coding << 5]) + data
    coder = Encoder()
    rows = labels.tolist()
    _through(coder, rows, history[-1].tolist() if history else None, whole)
    name = _hash(history[-1]) if history else b""
    return bytes([bits | bool(history) << 5]) + name + coder.finish()


def decode(
    data: bytes, count: int, classes: int, history: Sequence[np.ndarray] = ()
) -> tuple[int, np.ndarray]:
    """Bytes -> b and the (count, classes) labels, as given to `encode`.

    Raises:
        ballot.MissingReference: against other labels than the last of `history`.
        DecodeError: not what `encode` makes.
    """
    if not data:
        raise DecodeError("no soft labels")
    bits, mode = data[0] % 32, data[0] >> 5
    if bits == FLOAT and not mode:
        return bits, _floats(data[1:], count, classes)
    if bits == 1 and mode <= ballot.Coding.TALLY:
        reference = _votes_before(history)
        votes = ballot.decode(ballot.Coding(mode), data[1:], count, classes, reference)
        return bits, (votes[:, None] == np.arange(classes)).astype(np.int64)
    if not 2 <= bits <= BITS_MAX or mode > 1:
        raise DecodeError(f"soft labels of {bits} bits in mode {mode}")
    before, rest = None, data[1:]
    if mode:
        if not history or history[-1].shape != (count, classes):
            raise ballot.MissingReference("against soft labels that are not known here")
        if rest[:_HASH_BYTES] != _hash(history[-1]):
            raise ballot.MissingReference("against other soft labels than the ones known here")
        before, rest = history[-1].tolist(), rest[_HASH_BYTES:]
    coder = Decoder(rest)
    rows = [[0] * classes for _ in range(count)]
    _through(coder, rows, before, (1 << bits) - 1)
    coder.finish()
    return bits, np.array(rows, dtype=np.int64).reshape(count, classes)


def _check_bits(bits: int, least: int) -> None:
    if not least <= bits <= BITS_MAX:
        raise LocalError(f"soft labels of {bits} bits")


def _votes_before(history: Sequence[np.ndarray]) -> Reference | None:
    votes = tuple(units.argmax(axis=1) for units in history[-DEPTH_MAX:])
    return Reference(history=votes) if votes else None


def _hash(units: np.ndarray) -> bytes:
    return hashlib.blake2b(units.astype("<u2").tobytes(), digest_size=_HASH_BYTES).digest()


def _floats(data: bytes, count: int, classes: int) -> np.ndarray:
    if len(data) != 4 * count * classes:
        raise DecodeError(f"{len(data)} bytes for {count} × {classes} floats")
    values = np.frombuffer(data, dtype="<f4").reshape(count, classes).astype(np.float32)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise DecodeError("a probability that is none")
    if (np.abs(values.sum(axis=1, dtype=np.float64) - 1) > _SUM_OFF_MAX).any():
        raise DecodeError("probabilities that do not sum to one")
    return values


def _through(
    coder: Coder, rows: list[list[int]], before: list[list[int]] | None, whole: int
) -> None:
    """Code rows of units that sum to `whole`; decoding fills them."""
    bits = _AdaptiveBits(coder)
    row_same = 0  # whether the row above was as before
    for i, row in enumerate(rows):
        if before is not None:
            row_same = bits.code(("row", row_same), row == before[i])
            if row_same:
                row[:] = before[i]
                continue
        left, moved = whole, 0
        for c in range(len(row) - 1):
            if left:
                expected = min(before[i][c], left) if before else 0
                row[c] = bits.entry(row[c], expected, left, moved)
                moved = int(row[c] != expected)
            else:
                row[c] = 0
            left -= row[c]
        row[-1] = left


class _AdaptiveBits:
    """Bits with a probability for each context, all even at first."""

    def __init__(self, coder: Coder) -> None:
        self._coder = coder
        self._one: dict[object, int] = {}

    def code(self, context: object, bit: int) -> int:
        """Code a bit; return it."""
        one = self._one.get(context, ONE // 2)
        bit = self._coder.code(bit, one)
        self._one[context] = one + ((ONE - one if bit else -one) >> _RATE) or 1
        return bit

    def entry(self, value: int, expected: int, most: int, moved: int) -> int:
        """Code a value in [0, most], `expected` being likely; return it."""
        size = expected.bit_length()
        if self.code(("same", size, moved), value == expected):
            return expected
        up = expected == 0 or (expected < most and self.code(("up", size), value > expected))
        room = most - expected if up else expected  # the difference is in [1, room]
        difference = value - expected if up else expected - value
        length, longest = 1, room.bit_length()
        while length < longest and self.code(("length", size, up, length), difference >> length):
            length += 1
        found = 1
        for place in range(length - 2, -1, -1):
            context = ("digit", length, place) if place == length - 2 else ("low",)
            found = found << 1 | self.code(context, difference >> place & 1)
        if found > room:
            raise DecodeError("an entry larger than what is left of its row")
        return expected + found if up else expected - found

"""Packed ballots: ceil(log2 C) bits a vote, most significant bit first, zero padding to a byte.

The ceiling of what a ballot costs, self-contained, and the fallback of every coding that needs a
reference.
"""

from functools import cache

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError


def bits_a_vote(classes: int) -> int:
    """Bits that one vote among `classes` takes."""
    return max(1, (classes - 1).bit_length())


def packed_bytes(count: int, classes: int) -> int:
    """Bytes that `count` votes take."""
    return (count * bits_a_vote(classes) + 7) // 8


def encode(votes: np.ndarray, classes: int) -> bytes:
    """(n,) int votes in [0, classes) -> packed bytes."""
    if len(votes) and not (int(votes.min()) >= 0 and int(votes.max()) < classes):
        raise LocalError(f"a vote lies outside 0..{classes - 1}")
    shifts = _shifts(bits_a_vote(classes))
    bits = (votes.astype(np.uint32)[:, None] >> shifts) & 1  # (n, width)
    return np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()


def decode(data: bytes, count: int, classes: int) -> np.ndarray:
    """Packed bytes -> (count,) int64 votes.

    Raises:
        DecodeError: wrong length, a vote outside the classes, or padding that is not zero.
    """
    if len(data) != packed_bytes(count, classes):
        raise DecodeError(f"{len(data)} bytes for {count} votes of {classes} classes")
    width = bits_a_vote(classes)
    padding = 8 * len(data) - count * width
    if data and data[-1] & ((1 << padding) - 1):
        raise DecodeError("padding is not zero")
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count * width)
    votes: np.ndarray = bits.reshape(count, width) @ _weights(width)
    if count and classes < 1 << width and int(votes.max()) >= classes:
        raise DecodeError(f"a vote is not below {classes}")
    return votes


@cache
def _shifts(width: int) -> np.ndarray:
    """(width,) uint32: how far each bit of a vote stands from its end."""
    return np.arange(width - 1, -1, -1, dtype=np.uint32)


@cache
def _weights(width: int) -> np.ndarray:
    """(width,) int64: what each bit of a vote is worth."""
    return np.int64(1) << _shifts(width).astype(np.int64)

"""Packed ballots: ceil(log2 C) bits a vote, most significant bit first, zero padding to a byte.

The ceiling of what a ballot costs, self-contained, and the fallback of every coding that needs a
reference.
"""

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
    width = bits_a_vote(classes)
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint32)
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
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if bits[count * width :].any():
        raise DecodeError("padding is not zero")
    weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
    votes: np.ndarray = bits[: count * width].reshape(count, width) @ weights
    if count and int(votes.max()) >= classes:
        raise DecodeError(f"a vote is not below {classes}")
    return votes

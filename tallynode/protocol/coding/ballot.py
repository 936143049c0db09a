"""Ballots in the smallest of their codings; what scripts and peers call.

    packed    ceil(log2 C) bits a vote                                   needs nothing
    alone     adaptive class frequencies                                 needs nothing
    history   the model of model.py against the sender's last ballots    names them
    tally     the same, against the consensus too                        names both

A ballot that needs a reference starts with its name, two bytes:

    far (1 bit) | ballots looked at (3) | hash of the reference (12)

then, if far is 1, how many rounds the last of them is back (1 byte); otherwise it is the round
before. A receiver without them gets MissingReference, which says what it lacks, and asks for a
ballot that needs nothing.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from tallynode.errors import LocalError
from tallynode.protocol.coding import DecodeError, compiled, packed
from tallynode.protocol.coding.reference import DEPTH_MAX, HASH_BITS, Reference

FAR = 1 << 15


class Coding(IntEnum):
    """How a ballot's content is coded; up to TALLY it is votes."""

    PACKED = 0
    ALONE = 1
    HISTORY = 2
    TALLY = 3
    SOFT = 4  # no votes: soft labels, see soft.py
    FLOATS = 5  # no votes: parameters


class MissingReference(DecodeError):
    """The ballot refers to what is not known here; ask for one that stands alone."""


@dataclass(frozen=True, slots=True)
class Need:
    """The reference that a coded ballot names."""

    distance: int  # rounds back to the last of the sender's ballots that it looks at
    depth: int  # how many of them, the sender's latest
    tally: bool  # whether also the consensus of the last one's round
    hash: int
    name_bytes: int  # where the votes begin


def need(coding: Coding, data: bytes) -> Need | None:
    """What it takes to decode `data`; None: nothing.

    Raises:
        DecodeError: the name is cut off or impossible.
    """
    if coding in (Coding.PACKED, Coding.ALONE):
        return None
    name = int.from_bytes(data[:2], "big")
    size = 3 if name & FAR else 2
    if len(data) < size:
        raise DecodeError("the name of the reference is cut off")
    distance = data[2] if name & FAR else 1
    depth, hash_ = name >> HASH_BITS & 7, name & (1 << HASH_BITS) - 1
    if not 1 <= depth <= DEPTH_MAX or not distance or (name & FAR and distance == 1):
        raise DecodeError(f"a reference of {depth} ballots, the last {distance} rounds back")
    return Need(distance, depth, coding is Coding.TALLY, hash_, size)


def _name(reference: Reference, classes: int) -> bytes:
    name = reference.depth << HASH_BITS | reference.hash(classes)
    if reference.distance == 1:
        return name.to_bytes(2, "big")
    return (FAR | name).to_bytes(2, "big") + bytes([reference.distance])


def encode(
    votes: np.ndarray, classes: int, reference: Reference | None = None
) -> tuple[Coding, bytes]:
    """(n,) int votes in [0, classes) -> the smallest coding and its bytes.

    Never more than packed: against a useless reference that is what comes out.
    """
    plain = packed.encode(votes, classes)
    if reference is None:
        coded = compiled.encode(votes, classes, None, room=len(plain))
        return (Coding.PACKED, plain) if coded is None else (Coding.ALONE, coded)
    if not _fits(reference, len(votes), classes):
        raise LocalError("a reference over other probes or classes")
    name = _name(reference, classes)
    found = [(Coding.PACKED, plain)]
    coded = compiled.encode(votes, classes, reference, room=max(0, len(plain) - len(name)))
    if coded is not None:
        found.append((Coding.HISTORY if reference.common is None else Coding.TALLY, name + coded))
    if coded is None or len(coded) > len(plain) // 2:  # so much has changed that it may not pay
        found.append(encode(votes, classes))
    return min(found, key=lambda each: len(each[1]))


def decode(
    coding: Coding, data: bytes, count: int, classes: int, reference: Reference | None = None
) -> np.ndarray:
    """Bytes -> (count,) int64 votes.

    Args:
        coding: as sent beside the bytes.
        data: the bytes, perhaps hostile.
        count: votes expected.
        classes: number of classes.
        reference: what `need` named, or the nearest there is; more ballots than named do no harm.

    Raises:
        MissingReference: it takes another reference.
        DecodeError: not what `encode` makes.
    """
    wanted = need(coding, data)
    if wanted is None:
        if coding is Coding.PACKED:
            return packed.decode(data, count, classes)
        return _bounded(data, count, classes, None)
    if reference is None or not _fits(reference, count, classes):
        raise MissingReference("refers to ballots that are not known here")
    reference = _cut(reference, wanted)
    if reference.hash(classes) != wanted.hash:
        raise MissingReference("refers to other ballots than the ones known here")
    try:
        return _bounded(data[wanted.name_bytes :], count, classes, reference)
    except DecodeError as error:  # damaged; or, once in 4,096 times, the wrong ballots fit the name
        raise MissingReference(f"says nothing against the ballots known here: {error}") from error


def _bounded(data: bytes, count: int, classes: int, reference: Reference | None) -> np.ndarray:
    if len(data) > packed.packed_bytes(count, classes):
        raise DecodeError(f"{len(data)} bytes, more than packed votes take")
    return compiled.decode(data, count, classes, reference)


def _fits(reference: Reference, count: int, classes: int) -> bool:
    """Whether a reference is over this many probes and classes."""
    arrays = [*reference.history]
    if reference.common:
        arrays.append(reference.common.labels)
    return all(
        len(a) == count and (not count or (a.min() >= 0 and a.max() < classes)) for a in arrays
    )


def _cut(reference: Reference, wanted: Need) -> Reference:
    """As much of a reference as a ballot looks at."""
    if (
        wanted.distance != reference.distance
        or wanted.depth > len(reference.history)
        or (wanted.tally and reference.common is None)
    ):
        raise MissingReference(
            f"refers to {wanted.depth} ballots, the last {wanted.distance} rounds back"
            + (", and the tally" if wanted.tally else "")
        )
    common = reference.common if wanted.tally else None
    return replace(reference, history=reference.history[-wanted.depth :], common=common)

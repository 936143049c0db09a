"""What a peer must remember over a crash: the round and the ballot that it has cast in it.

Saved before the ballot is published, so that a restarted peer repeats the same ballot and never
casts a second one for the same round.
"""

from dataclasses import dataclass

import msgpack
import numpy as np

from tallynode.protocol import limits
from tallynode.protocol.coding import DecodeError, packed

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A peer that has voted in `round` and has not yet closed it."""

    mesh: str
    name: str
    probe_digest: bytes
    round: int
    votes: np.ndarray  # (probes of the round,) int64


def encode(snapshot: Snapshot, classes: int) -> bytes:
    """A snapshot as bytes."""
    fields = [
        VERSION,
        snapshot.mesh,
        snapshot.name,
        snapshot.probe_digest,
        snapshot.round,
        len(snapshot.votes),
        packed.encode(snapshot.votes, classes),
    ]
    return bytes(msgpack.packb(fields))


def decode(data: bytes, classes: int) -> Snapshot:
    """Bytes -> the snapshot.

    Raises:
        DecodeError: not a snapshot of this version and number of classes.
    """
    try:
        version, mesh, name, digest, round_, count, votes = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DecodeError("not a peer's state") from error
    if version != VERSION:
        raise DecodeError(f"state of version {version!r:.40}, this peer reads {VERSION}")
    kinds = {str: (mesh, name), bytes: (digest, votes), int: (round_, count)}
    if not all(type(value) is kind for kind, values in kinds.items() for value in values):
        raise DecodeError("a state with a field of the wrong type")
    if not (1 <= count <= limits.PROBES_MAX and 1 <= round_ <= limits.ROUND_MAX):
        raise DecodeError("a state with an impossible round or number of votes")
    return Snapshot(
        mesh=mesh,
        name=name,
        probe_digest=digest,
        round=round_,
        votes=packed.decode(votes, count, classes),
    )

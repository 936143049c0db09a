"""What a peer must remember over a crash: the round and the ballot that it has cast in it.

Saved before the ballot is published, so that a restarted peer repeats the same ballot and never
casts a second one for the same round. Where a state is to serve for several rounds (an SD card
wears out by writing), it covers them beforehand: whoever is restarted from it cannot know in which
of the covered rounds it has voted, and votes in none of them again. When no round is left, the one
that was closed last is saved as closed: to learn from it again, alone, would undo what it taught.
"""

from dataclasses import dataclass

import msgpack

from tallynode.protocol import limits
from tallynode.protocol.coding import DecodeError

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A peer that has voted in `round`, and has not yet closed it unless it says so."""

    mesh: str
    name: str
    probe_digest: bytes
    round: int
    count: int  # votes on the ballot, or what stands for them in another method
    body: bytes  # them, standing alone, as protocol/contents codes them
    covered: int = 0  # further rounds in which it may have voted since
    bridged: int = 0  # the round of its last delta
    delta: bytes = b""  # that delta, which its neighbours may still lack
    seed: int | None = None  # that drew the probes voted on; None: saved by an older program
    closed: bool = False  # the round has been learnt from

    @property
    def free(self) -> int:
        """The first round in which it has certainly not voted."""
        return self.round + self.covered + 1


def encode(snapshot: Snapshot) -> bytes:
    """A snapshot as bytes."""
    more = [snapshot.covered, snapshot.bridged, snapshot.delta, snapshot.seed, snapshot.closed]
    said = 4 if snapshot.seed is not None else 3 if snapshot.delta else int(snapshot.covered > 0)
    said = 5 if snapshot.closed else said
    fields = [
        VERSION,
        snapshot.mesh,
        snapshot.name,
        snapshot.probe_digest,
        snapshot.round,
        snapshot.count,
        snapshot.body,
        *more[:said],
    ]
    return bytes(msgpack.packb(fields))


def decode(data: bytes) -> Snapshot:
    """Bytes -> the snapshot.

    Raises:
        DecodeError: not a snapshot of this version.
    """
    try:
        version, mesh, name, digest, round_, count, body, *more = msgpack.unpackb(data)
        covered, bridged, delta, seed, closed = {
            0: (0, 0, b"", None, False),
            1: (*more, 0, b"", None, False),
            3: (*more, None, False),
            4: (*more, False),
            5: more,
        }[len(more)]
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise DecodeError("not a peer's state") from error
    if version != VERSION:
        raise DecodeError(f"state of version {version!r:.40}, this peer reads {VERSION}")
    kinds = {
        str: (mesh, name),
        bytes: (digest, body, delta),
        bool: (closed,),
        int: (round_, count, covered, bridged, *([] if seed is None else [seed])),
    }
    if not all(type(value) is kind for kind, values in kinds.items() for value in values):
        raise DecodeError("a state with a field of the wrong type")
    if not (1 <= count <= limits.CONTENT_MAX and 1 <= round_ <= limits.ROUND_MAX and covered >= 0):
        raise DecodeError("a state with an impossible round or number of votes")
    if not (1 <= bridged <= round_ if delta else bridged == 0):
        raise DecodeError("a state with a delta of an impossible round")
    return Snapshot(
        mesh=mesh,
        name=name,
        probe_digest=digest,
        round=round_,
        count=count,
        body=body,
        covered=covered,
        bridged=bridged,
        delta=delta,
        seed=seed,
        closed=closed,
    )

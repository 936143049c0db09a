"""What peers tell each other: who I am (retained, rarely sent), how I voted, and what I lack.

Where ballots are signed, also by which key, and who has signed two ballots for one round. Where
there is a bridge, also how the own learner has changed, in pieces.

A Hello is read only from the neighbour whose outbox it stands in. A Ballot may have travelled: its
`origin` voted, and whoever published it is only the relay.
"""

from dataclasses import dataclass
from enum import IntEnum

from tallynode.errors import LocalError
from tallynode.protocol import limits
from tallynode.protocol.coding.ballot import Coding


class State(IntEnum):
    """What a peer says of itself."""

    RUNNING = 0
    DONE = 1  # all rounds closed; still serving its last ballot
    LEAVING = 2  # stopping now; nobody should wait


def _check_name(name: str) -> None:
    if not 1 <= len(name.encode()) <= limits.NAME_BYTES_MAX:
        raise LocalError(f"a name must have 1 to {limits.NAME_BYTES_MAX} bytes: {name[:40]!r}")


def _check_round(round_: int) -> None:
    if not 1 <= round_ <= limits.ROUND_MAX:
        raise LocalError(f"round {round_} is out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What must agree before two peers count each other's votes."""

    mesh: str
    origin: str
    probe_digest: bytes  # 8 bytes
    classes: int
    per_round: int  # probes voted on a round
    method: str
    state: State

    def __post_init__(self) -> None:
        _check_name(self.mesh)
        _check_name(self.origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """One peer's votes of one round, still coded, or what another method sends in their place."""

    origin: str
    round: int
    hops_left: int  # edges that it may still travel, by the graph, from whoever says so
    coding: Coding
    body: bytes
    signature: bytes = b""  # the origin's, where peers are pinned and ballots travel
    choice: int = 0  # 32 bits, of the probes that it is on, where peers choose them

    def __post_init__(self) -> None:
        _check_name(self.origin)
        _check_round(self.round)
        if len(self.signature) not in (0, limits.SIGNATURE_BYTES):
            raise LocalError(f"a signature of {len(self.signature)} bytes")
        if not 0 <= self.hops_left <= limits.HOPS_MAX:
            raise LocalError(f"{self.hops_left} hops are out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A ballot came that refers to others which are not known here: send those that lead to it."""

    origin: str
    round: int

    def __post_init__(self) -> None:
        _check_name(self.origin)
        _check_round(self.round)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The public key by which an origin signs; its hash is the ID that is pinned for it."""

    origin: str
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.origin)
        if len(self.public_key) != limits.PUBLIC_KEY_BYTES:
            raise LocalError(f"a public key of {len(self.public_key)} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a signature stands under: the digest of a ballot's content."""

    digest: bytes
    signature: bytes

    def __post_init__(self) -> None:
        sizes = (len(self.digest), len(self.signature))
        if sizes != (limits.DIGEST_BYTES, limits.SIGNATURE_BYTES):
            raise LocalError(f"a digest and a signature of {sizes} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """An origin has signed two different ballots for one round; whoever has its key can check."""

    origin: str
    round: int
    first: Signed
    second: Signed

    def __post_init__(self) -> None:
        _check_name(self.origin)
        _check_round(self.round)
        if self.first.digest == self.second.digest:
            raise LocalError("one and the same ballot twice proves nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of an origin's delta for one bridge; read only from the origin's own outbox."""

    origin: str
    round: int
    index: int
    count: int  # of the delta's pieces
    model: int  # 32 bits that tell deltas of one model from those of another
    body: bytes

    def __post_init__(self) -> None:
        _check_name(self.origin)
        _check_round(self.round)
        if not (0 <= self.index < self.count <= limits.PIECES_MAX):
            raise LocalError(f"piece {self.index} of {self.count}")
        if not 1 <= len(self.body) <= limits.PIECE_BYTES_MAX:
            raise LocalError(f"a piece of {len(self.body)} bytes")


Message = Ballot | Hello | Ask | Key | Proof | Piece

"""Deltas on the wire: cut into pieces by who sends them, put together piece by piece by who reads.

A delta of a large model does not fit a message, and 20 million parameters would overrun every
bounded queue between two peers. So its pieces stand, retained, on topics of their own in the
outbox of their origin, and a reader asks for a few at a time: piece 0 of each merging neighbour
always, of the others the lowest WINDOW that it lacks. Nobody is sent more than it asked for, and an
outbox keeps the latest delta alone. A later delta overwrites the topics one by one; the first piece
of it that a reader sees makes it give up what it has of the one before.

Deltas go one edge far, from their origin's own outbox: the connection says whose they are, so they
carry no signature. What a neighbour can make a reader hold is one delta being put together and,
whole, at most twice the largest that these settings allow.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import wire
from tallynode.protocol.limits import PIECE_BYTES_MAX
from tallynode.protocol.messages import Piece
from tallynode.protocol.settings import PeerSettings

WINDOW = 4  # pieces asked for at a time, 1 MiB: half of what may wait for the daemon's loop
WHOLE_MAX = 8  # deltas of one neighbour that wait for their round; a flood evicts only its own


def pieces_of(size: int) -> int:
    """Pieces that a delta of so many bytes takes."""
    return -(-size // PIECE_BYTES_MAX)


def cut(origin: str, round_: int, model: int, data: bytes) -> list[Piece]:
    """A delta as pieces, in their order."""
    count = pieces_of(len(data))
    return [
        Piece(
            origin=origin,
            round=round_,
            index=index,
            count=count,
            model=model,
            body=data[index * PIECE_BYTES_MAX : (index + 1) * PIECE_BYTES_MAX],
        )
        for index in range(count)
    ]


@dataclass(slots=True)
class _Assembly:
    """A delta of which pieces are still to come."""

    round: int
    count: int
    bodies: dict[int, bytes] = field(default_factory=dict)

    def window(self) -> set[int]:
        """The pieces to be asked for now; piece 0 is always."""
        lacking = (index for index in range(1, self.count) if index not in self.bodies)
        return {index for index, _ in zip(lacking, range(WINDOW), strict=False)}


@dataclass(slots=True)
class _Origin:
    """What is known of one neighbour's deltas."""

    latest: int = 0  # round of the last whole one
    assembly: _Assembly | None = None
    asked: set[int] = field(default_factory=set)  # pieces, beside piece 0
    whole: dict[int, bytes] = field(default_factory=dict)  # by round, not taken yet


class Deltas:
    """The deltas that one peer hears.

    Args:
        settings: this peer's view of the mesh.
    """

    def __init__(self, settings: PeerSettings) -> None:
        self._model = settings.bridge.model if settings.bridge else 0
        self._bytes_max = settings.bridge.bytes_max if settings.bridge else 0
        merges = settings.bridge.merges if settings.bridge else ()
        self._origins = {name: _Origin() for name in merges}

    def topics(self, neighbour: str) -> tuple[str, ...]:
        """What to read at a neighbour whose outbox is in reach again."""
        if neighbour not in self._origins:
            return ()
        return _topics(neighbour, {0} | self._origins[neighbour].asked)

    def lacks(self, neighbour: str, round_: int, reached: int) -> bool:
        """Whether a neighbour's delta of a round may still come.

        One that has voted in a later round has published it before, so it is here or under way.
        """
        origin = self._origins.get(neighbour)
        if origin is None or origin.latest >= round_:
            return False
        under_way = origin.assembly is not None and origin.assembly.round >= round_
        return under_way or reached <= round_

    def hear(self, neighbour: str, topic: str, piece: Piece) -> list[ef.Effect]:
        """Take a piece in.

        Raises:
            RemoteError: it is not of a delta that this peer could merge.
        """
        origin = self._check(neighbour, topic, piece)
        if piece.round <= origin.latest:
            return []
        assembly = origin.assembly
        if assembly is None or assembly.round < piece.round:
            assembly = origin.assembly = _Assembly(piece.round, piece.count)
        if assembly.round > piece.round:
            return []  # the rest of it has been overwritten
        if assembly.count != piece.count:
            raise RemoteError(neighbour, "sent pieces of one delta that count them differently")
        assembly.bodies.setdefault(piece.index, piece.body)
        if len(assembly.bodies) == assembly.count:
            origin.assembly, origin.latest = None, assembly.round
            origin.whole[assembly.round] = b"".join(assembly.bodies[i] for i in range(piece.count))
            self._bound(origin.whole)
        return _ask(neighbour, origin)

    def take(self, round_: int) -> dict[str, tuple[tuple[int, bytes], ...]]:
        """The whole deltas of rounds up to one, by origin, oldest first; they are gone then."""
        taken = {}
        for name, origin in sorted(self._origins.items()):
            due = sorted(r for r in origin.whole if r <= round_)
            if due:
                taken[name] = tuple((r, origin.whole.pop(r)) for r in due)
        return taken

    def _check(self, neighbour: str, topic: str, piece: Piece) -> _Origin:
        origin = self._origins.get(neighbour)
        if origin is None or piece.model != self._model:
            raise RemoteError(neighbour, "sent a delta of another model", differs=True)
        if piece.origin != neighbour or topic != wire.piece_topic(neighbour, piece.index):
            raise RemoteError(neighbour, f"sent a piece of a delta on topic {topic[:40]!r}")
        most = pieces_of(self._bytes_max)
        if piece.count > most:
            why = f"sent a delta of {piece.count} pieces where {most} are the most"
            raise RemoteError(neighbour, why)
        if piece.index < piece.count - 1 and len(piece.body) != PIECE_BYTES_MAX:
            raise RemoteError(neighbour, "sent a piece of a delta that is cut off")
        if piece.index * PIECE_BYTES_MAX + len(piece.body) > self._bytes_max:
            raise RemoteError(neighbour, f"sent a delta of more than {self._bytes_max} bytes")
        return origin

    def _bound(self, whole: dict[int, bytes]) -> None:
        while len(whole) > WHOLE_MAX or sum(map(len, whole.values())) > 2 * self._bytes_max:
            del whole[min(whole)]


def _ask(neighbour: str, origin: _Origin) -> list[ef.Effect]:
    """Bring what is read of a neighbour's pieces in line with what is lacking."""
    wanted = origin.assembly.window() if origin.assembly else set()
    new, done = wanted - origin.asked, origin.asked - wanted
    origin.asked = wanted
    out: list[ef.Effect] = []
    if done:
        out.append(ef.Unsubscribe(neighbour=neighbour, topics=_topics(neighbour, done)))
    if new:
        out.append(ef.Subscribe(neighbour=neighbour, topics=_topics(neighbour, new)))
    return out


def _topics(neighbour: str, indices: Iterable[int]) -> tuple[str, ...]:
    return tuple(wire.piece_topic(neighbour, index) for index in sorted(indices))

"""How much a neighbour may send, and for how long nobody listens to one that sends garbage.

Each class of message, told by its topic, has a size and a token bucket for each neighbour; both are
looked at before anything is decoded. A refusal that is the sender's fault is a strike, and so is a
message over its rate. Strikes are forgiven with time. Whoever has too many is shunned: the edge
parts from it, and each time for twice as long as the time before. Nothing of this is forgotten when
the connection ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol import wire
from tallynode.protocol.limits import COMPLAINTS_MAX, MESSAGE_BYTES_MAX, REASON_CHARS_MAX
from tallynode.protocol.settings import PeerSettings

STRIKES_MAX = 20  # refusals; a neighbour that goes on sending garbage costs decoding and log lines
FORGIVEN_EACH_S = 60.0  # seconds until one strike is forgiven; harm done once a while is not malice
SHUN_FIRST_S = 30.0  # seconds that nobody listens, the first time; then twice as long each time
SHUN_MAX_S = 3600.0  # seconds; a neighbour that was mended is let in again
CALM_S = 86_400.0  # seconds without being shunned, after which it is the first time again


@dataclass(frozen=True, slots=True)
class Bound:
    """What a neighbour may send of one class; where it grows, for each origin it may pass on."""

    per_s: float  # messages a second in the long run
    burst: float  # messages at once: what waits for a peer that links, or that was asleep
    grows: bool


# A ballot costs up to milliseconds of decoding and a signature's check: a flood of them would keep
# a small device from its rounds. Real meshes stay far below: a round takes a tenth of a second even
# without learning.
BOUNDS: Mapping[str, Bound] = {
    "v": Bound(50, 200, grows=True),
    "a": Bound(50, 200, grows=True),
    "q": Bound(50, 200, grows=True),
    "h": Bound(1, 50, grows=False),
    "k": Bound(1, 20, grows=True),
    "x": Bound(1, 20, grows=True),
    "d": Bound(1000, 1000, grows=False),  # what was asked for, of 256 kB: a gigabit link has 500
}


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Record:
    """What is held against a neighbour."""

    strikes: float = 0.0
    at: float = 0.0  # when they were last counted
    times: int = 0  # that it was shunned
    until: float = float("-inf")  # shunned until then


class Manners:
    """The bounds of one peer's neighbours.

    Args:
        settings: this peer's view of the mesh.
    """

    def __init__(self, settings: PeerSettings) -> None:
        self._ballot_max = settings.ballot_bytes + wire.HEAD_BYTES_MAX
        self._reach = settings.reach
        self._buckets: dict[tuple[str, str], _Bucket] = {}  # (neighbour, class of message)
        self._records: dict[str, _Record] = {}
        self._complaints: set[tuple[str, str]] = set()  # said once, counted always

    def shuns(self, neighbour: str, now: float) -> bool:
        """Whether nobody listens to a neighbour now."""
        record = self._records.get(neighbour)
        return record is not None and now < record.until

    def admit(self, neighbour: str, topic: str, size: int, now: float) -> None:
        """Look at a message before it is decoded.

        Raises:
            RemoteError: of no class, too large, or one too many.
        """
        kind = topic.partition("/")[0]
        bound = BOUNDS.get(kind)
        if bound is None:
            raise RemoteError(neighbour, "sent a message on a topic that nobody reads")
        most = {"v": self._ballot_max, "a": self._ballot_max, "d": MESSAGE_BYTES_MAX}.get(
            kind, wire.HEAD_BYTES_MAX
        )
        if size > most:
            raise RemoteError(neighbour, f"sent {size} bytes where {most} are the most")
        share = max(1, len(self._reach.get(neighbour, ()))) if bound.grows else 1
        bucket = self._buckets.setdefault((neighbour, kind), _Bucket(bound.burst * share, now))
        gained = max(0.0, now - bucket.at) * bound.per_s * share
        bucket.tokens, bucket.at = min(bound.burst * share, bucket.tokens + gained), now
        if bucket.tokens < 1:
            raise RemoteError(neighbour, f"sends more than {bound.per_s * share:g} a second")
        bucket.tokens -= 1

    def refuse(self, neighbour: str, error: RemoteError, now: float) -> list[ef.Effect]:
        """A neighbour's message was refused: say so, and shun one that goes on like that."""
        said = self._complain(error.peer, error.why)
        if error.peer != neighbour or error.differs:
            return said
        record = self._records.setdefault(neighbour, _Record(at=now))
        record.strikes = max(0.0, record.strikes - (now - record.at) / FORGIVEN_EACH_S) + 1
        record.at = now
        if record.strikes < STRIKES_MAX:
            return said
        if now > record.until + CALM_S:
            record.times = 0
        for_s = min(SHUN_FIRST_S * 2.0**record.times, SHUN_MAX_S)
        record.strikes, record.until = 0.0, now + for_s
        record.times += 1
        fields = {"neighbour": neighbour, "for_s": for_s, "times": record.times}
        log = ef.Log(level="error", event="sends garbage: shunned", fields=fields)
        return [*said, log, ef.Shun(neighbour=neighbour, for_s=for_s)]

    def _complain(self, peer: str, why: str) -> list[ef.Effect]:
        """Say what is wrong with a peer's messages, once for each peer and reason."""
        why = why[:REASON_CHARS_MAX]
        if (peer, why) in self._complaints or len(self._complaints) >= COMPLAINTS_MAX:
            return []
        self._complaints.add((peer, why))
        return [ef.Log(level="error", event="refused", fields={"peer": peer, "why": why})]

"""Which reference a ballot is coded against: what both ends are expected to hold of its origin.

A sender codes against its own last ballots and, where all peers hear all others and the last tally
held every ballot, against that tally too: it is then the same everywhere. A receiver finds the
reference by the name that the ballot carries; if it cannot, it asks (hearing.py).
"""

import numpy as np

from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.coding import ballot as coder
from tallynode.protocol.coding import packed
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.coding.reference import DEPTH_MAX, DISTANCE_MAX, Common, Reference
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.tally import Consensus, plurality

TALLIES_HELD = 3  # rounds; a neighbour may be one ahead or behind


class BallotCodec:
    """Codes the ballots of one mesh.

    Args:
        settings: this peer's view of the mesh.
        box: the ballots that are held, which are the references.
    """

    def __init__(self, settings: PeerSettings, box: BallotBox) -> None:
        self._settings = settings
        self._box = box
        self._count = settings.per_round or settings.probes
        self._tallies: dict[int, Consensus] = {}

    def tallied(self, round_: int, votes: dict[str, np.ndarray], late: int) -> None:
        """Remember a round's tally if it held everybody's ballot of that very round.

        The majority is taken, whatever rule the peer learns by: it is made of integers, the same on
        any machine.
        """
        mine = self._settings
        if mine.common and not late and len(votes) == len(mine.voters) + 1:
            probes = np.arange(self._count)
            self._tallies[round_] = plurality(votes, probes, mine.classes)
        for old in [r for r in self._tallies if r <= round_ - TALLIES_HELD]:
            del self._tallies[old]

    def encode(self, round_: int, votes: np.ndarray) -> Held:
        """Code this peer's own ballot of a round."""
        mine = self._settings
        history = self._box.up_to(mine.name, round_ - 1)
        if mine.coding == "packed":
            return Held.of(Coding.PACKED, packed.encode(votes, mine.classes), votes)
        reference = None
        if history and mine.per_round is None and round_ - history[-1][0] <= DISTANCE_MAX:
            reference = self._reference(history, round_, tally=history[-1][0] in self._tallies)
        return Held.of(*coder.encode(votes, mine.classes, reference), votes)

    def decode(self, origin: str, round_: int, coding: Coding, data: bytes) -> np.ndarray:
        """Votes (n,) int64 of a ballot of `origin`.

        Raises:
            MissingReference: it takes ballots or a tally that are not held here.
            DecodeError: it is damaged.
        """
        need = coder.need(coding, data)
        reference = None
        if need is not None and self._settings.per_round is None:
            history = self._box.up_to(origin, round_ - need.distance)
            if history and history[-1][0] == round_ - need.distance:
                reference = self._reference(history, round_, tally=need.tally)
        return coder.decode(coding, data, self._count, self._settings.classes, reference)

    def chain(self, origin: str, round_: int) -> list[tuple[int, Coding, bytes]]:
        """The ballots of an origin that lead to one, the first standing alone.

        Each is (round, coding, coded votes). Whoever decodes them in this order holds the reference
        for what the origin sends next.
        """
        held = self._box.up_to(origin, round_)[-(DEPTH_MAX + 1) :]
        links = []
        for i, (r, ballot) in enumerate(held):
            near = i > 0 and r - held[i - 1][0] <= DISTANCE_MAX and self._settings.per_round is None
            reference = self._reference(held[:i], r, tally=False) if near else None
            coding, coded = coder.encode(ballot.votes, self._settings.classes, reference)
            links.append((r, coding, coded))
        return links

    def _reference(self, history: list[tuple[int, Held]], round_: int, *, tally: bool) -> Reference:
        last, newest = history[-1]
        common = None
        if tally and last in self._tallies:
            consensus = self._tallies[last]
            common = Common.of(consensus.labels, consensus.candidates.votes, newest.votes)
        votes = tuple(ballot.votes for _, ballot in history[-DEPTH_MAX:])
        return Reference(history=votes, distance=round_ - last, common=common)

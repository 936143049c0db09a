"""Votes: what they are coded against, and what the ballots of a round come to.

A sender codes against its own last ballots and, where all peers hear all others and the last tally
held every ballot, against that tally too: it is then the same everywhere. A receiver finds the
reference by the name that the ballot carries; if it cannot, it asks (hearing.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from tallynode.protocol import holdings
from tallynode.protocol.ballots import BALLOTS_MIN, BallotBox, Held
from tallynode.protocol.coding import DecodeError, packed
from tallynode.protocol.coding import ballot as coder
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.coding.reference import DEPTH_MAX, DISTANCE_MAX, Common, Reference
from tallynode.protocol.confusion import confusion
from tallynode.protocol.reliability import Reliability
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.sureness import sureness
from tallynode.protocol.tally import Consensus, Rule, shares_of_votes, tally

TALLIES_HELD = 3  # rounds; a neighbour may be one ahead or behind
RULES: dict[str, Callable[[], Rule]] = {
    "plurality": lambda: shares_of_votes,
    "reliability": Reliability,
    "dawid-skene": lambda: confusion,
}


def rule_of(name: str, levels: int) -> Rule:
    """A tally rule by its name in the configuration."""
    return sureness if name == "reliability" and levels > 1 else RULES[name]()


class Votes:
    """Codes and tallies the ballots of one mesh.

    Args:
        settings: this peer's view of the mesh.
        box: the ballots that are held, which are the references.
    """

    def __init__(self, settings: PeerSettings, box: BallotBox) -> None:
        self._settings = settings
        self._box = box
        self._count = settings.entries
        self._rule = rule_of(settings.tally, settings.levels)
        self._tallies: dict[int, Consensus] = {}

    def outcome(
        self, round_: int, ballots: Mapping[str, np.ndarray], late: int, probes: np.ndarray
    ) -> Consensus | None:
        """The consensus of a round; None of fewer ballots than say something new."""
        mine = self._settings
        self._remember(round_, ballots, late)
        if len(ballots) < BALLOTS_MIN:
            return None
        votes = {name: ballot[: mine.voted] for name, ballot in ballots.items()}
        rule = shares_of_votes if mine.samples(round_) else self._rule
        found = tally(votes, probes, mine.classes, rule, mine.byzantine, mine.levels)
        if not mine.holdings:
            return found
        said = [ballots[name][mine.voted :] for name in found.candidates.voters]
        shares = np.stack([holdings.heard(of, mine.classes) for of in said])
        return replace(found, standing=holdings.weights(shares))

    def _remember(self, round_: int, ballots: Mapping[str, np.ndarray], late: int) -> None:
        """Keep a round's tally if it holds everybody's ballot of that very round.

        The majority is taken, whatever rule the peer learns by: it is made of integers, the same on
        any machine.
        """
        mine = self._settings
        if mine.common and not late and len(ballots) == len(mine.voters) + 1:
            self._tallies[round_] = tally(ballots, np.arange(self._count), mine.symbols)
        for old in [r for r in self._tallies if r <= round_ - TALLIES_HELD]:
            del self._tallies[old]

    def alone(self, votes: np.ndarray) -> bytes:
        """Votes as bytes that need nothing to be read."""
        return packed.encode(votes, self._settings.symbols)

    def restore(self, body: bytes) -> np.ndarray:
        """Bytes of `alone` -> votes (n,) int64."""
        return packed.decode(body, self._count, self._settings.symbols)

    def encode(self, round_: int, votes: np.ndarray) -> Held:
        """Code this peer's own ballot of a round."""
        mine = self._settings
        history = self._box.up_to(mine.name, round_ - 1)
        if mine.coding == "packed":
            return _held(Coding.PACKED, self.alone(votes), votes)
        reference = None
        if history and mine.per_round is None and round_ - history[-1][0] <= DISTANCE_MAX:
            reference = self._reference(history, round_, tally=history[-1][0] in self._tallies)
        return _held(*coder.encode(votes, mine.symbols, reference), votes)

    def decode(self, origin: str, round_: int, coding: Coding, data: bytes) -> Held:
        """Take in the coded votes of a ballot of `origin`.

        Raises:
            MissingReference: it takes ballots or a tally that are not held here.
            DecodeError: it is damaged.
        """
        if coding > Coding.TALLY:
            raise DecodeError("coded as something else than votes")
        need = coder.need(coding, data)
        reference = None
        if need is not None and self._settings.per_round is None:
            history = self._box.up_to(origin, round_ - need.distance)
            if history and history[-1][0] == round_ - need.distance:
                reference = self._reference(history, round_, tally=need.tally)
        votes = coder.decode(coding, data, self._count, self._settings.symbols, reference)
        return _held(coding, data, votes)

    def chain(self, origin: str, round_: int) -> list[tuple[int, Coding, bytes]]:
        """The ballots of an origin that lead to one, the first standing alone.

        Each is (round, coding, coded votes), coded against the one before it alone: whoever decodes
        them in this order can, whatever else of that origin it holds, and then has the reference
        for what the origin sends next.
        """
        held = self._box.up_to(origin, round_)[-(DEPTH_MAX + 1) :]
        links = []
        for i, (r, ballot) in enumerate(held):
            near = i > 0 and r - held[i - 1][0] <= DISTANCE_MAX and self._settings.per_round is None
            reference = self._reference(held[i - 1 : i], r, tally=False) if near else None
            coding, coded = coder.encode(ballot.content, self._settings.symbols, reference)
            links.append((r, coding, coded))
        return links

    def _reference(self, history: list[tuple[int, Held]], round_: int, *, tally: bool) -> Reference:
        last, newest = history[-1]
        common = None
        if tally and last in self._tallies:
            consensus = self._tallies[last]
            common = Common.of(consensus.labels, consensus.candidates.votes, newest.content)
        votes = tuple(ballot.content for _, ballot in history[-DEPTH_MAX:])
        return Reference(history=votes, distance=round_ - last, common=common)


def _held(coding: Coding, coded: bytes, votes: np.ndarray) -> Held:
    """Hold votes in as few bytes as their classes allow."""
    small = not len(votes) or int(votes.max()) < 256
    return Held(coding, coded, votes.astype(np.uint8 if small else np.uint16))

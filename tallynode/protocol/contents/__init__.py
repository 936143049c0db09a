"""What a ballot may hold: votes, or what the methods that votes are compared with send instead.

Each kind codes its content, reads what others sent, and says what the ballots of a round come to.
The peer moves ballots and closes rounds the same way whatever is in them.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.coding.ballot import Coding
from tallynode.protocol.contents.parameters import Average, Parameters
from tallynode.protocol.contents.scores import MeanScores, Scores
from tallynode.protocol.contents.soft import SoftConsensus, SoftLabels
from tallynode.protocol.contents.votes import Votes
from tallynode.protocol.settings import CONTENTS, PeerSettings
from tallynode.protocol.tally import Consensus

Outcome = Consensus | SoftConsensus | MeanScores | Average


class Contents(Protocol):
    """One kind of content."""

    def encode(self, round_: int, content: np.ndarray) -> Held:
        """Code this peer's own ballot of a round."""

    def alone(self, content: np.ndarray) -> bytes:
        """Content as bytes that need nothing to be read, for a saved state."""

    def restore(self, body: bytes) -> np.ndarray:
        """Bytes of `alone` -> the content; DecodeError if they are damaged."""

    def decode(self, origin: str, round_: int, coding: Coding, data: bytes) -> Held:
        """Take in a ballot of `origin`; MissingReference or another DecodeError if it cannot be."""

    def chain(self, origin: str, round_: int) -> list[tuple[int, Coding, bytes]]:
        """The held ballots of an origin that lead to one, the first standing alone."""

    def outcome(
        self, round_: int, given: Mapping[str, np.ndarray], late: int, probes: np.ndarray
    ) -> Outcome | None:
        """What the contents of a round come to; None of too few."""


KINDS: dict[str, type[Votes] | type[SoftLabels] | type[Scores] | type[Parameters]] = {
    "votes": Votes,
    "soft": SoftLabels,
    "scores": Scores,
    "parameters": Parameters,
}


def contents_of(settings: PeerSettings, box: BallotBox) -> Contents:
    """The kind of content that the mesh's method sends."""
    return KINDS[CONTENTS[settings.method]](settings, box)

"""What a private peer says instead of its votes, and what it has spent by it.

Noise that is drawn anew in every round averages out over the rounds. So an answer stands: as in
RAPPOR (Erlingsson et al. 2014, arXiv 1407.6981), a probe is answered once and the same answer is
given again, here even where the vote has changed since: repeating a noisy answer tells nothing, and
showing that a vote has changed would tell what randomised response alone does not hide. Votes get
better, so answers are drawn anew in rounds 1, 2, 4, 8, ...: each doubling, an *epoch*, pays for one
answer a probe, whatever the votes are. The total grows with the logarithm of the rounds, and a
ballot that repeats costs next to no byte.

The chance is a keyed hash of (epoch, probe) under a secret of this process alone, so that it cannot
be foretold; the answers themselves and their account are part of the peer's saved state. Where that
is lost, answers are drawn again, and what was spent before adds to what is then said.
"""

import hashlib
import math
import struct

import numpy as np
import torch
from torch import Tensor

from tallynode.errors import DataError
from tallynode.protocol.privacy import Budget, composed, lie_chance

_UNIT = 1 << 64  # a hash's halves are integers below it


class Responses:
    """The standing answers of one peer.

    Args:
        budget: how private its votes are to be.
        classes: number of classes.
        probes: in all.
        voted: probes voted on in a round.
        secret: of up to 64 bytes, that nobody else knows and no other run has used.
    """

    def __init__(
        self, budget: Budget, *, classes: int, probes: int, voted: int, secret: bytes
    ) -> None:
        self._secret = secret
        self._classes = classes
        self._delta = budget.delta
        self.epsilon = budget.epsilon_vote(classes, voted)
        self._lie_below = math.ceil(lie_chance(self.epsilon, classes) * _UNIT)
        self._answers = np.zeros(probes, dtype=np.int64)
        self._epochs = np.zeros(probes, dtype=np.int64)  # in which each was answered; 0: not yet
        self._drawn = np.zeros(probes, dtype=np.int64)  # answers of each probe so far
        self._fresh = 0  # of the last round

    def answer(self, round: int, probes: np.ndarray, votes: np.ndarray) -> np.ndarray:
        """What to say instead of `votes` (n,) on `probes` (n,), both int64."""
        epoch = round.bit_length()
        fresh = self._epochs[probes] < epoch
        for probe, vote in zip(probes[fresh].tolist(), votes[fresh].tolist(), strict=True):
            self._answers[probe] = self._drawn_for(vote, epoch, probe)
        self._epochs[probes[fresh]] = epoch
        self._drawn[probes[fresh]] += 1
        self._fresh = int(fresh.sum())
        answers: np.ndarray = self._answers[probes]
        return answers

    def _drawn_for(self, vote: int, epoch: int, probe: int) -> int:
        about = struct.pack("<QQ", epoch, probe)
        hashed = hashlib.blake2b(about, key=self._secret, digest_size=16).digest()
        whether, which = struct.unpack("<QQ", hashed)
        if whether >= self._lie_below:
            return vote
        step: int = 1 + which * (self._classes - 1) // _UNIT
        return (vote + step) % self._classes

    def spent(self) -> dict[str, float]:
        """ε: of a vote, of the last round's ballot, of all ballots, of one probe's answers."""
        drawn = int(self._drawn.sum())
        return {
            "vote": self.epsilon,
            "round": composed(self.epsilon, self._classes, self._fresh, self._delta),
            "total": composed(self.epsilon, self._classes, drawn, self._delta),
            "probe": float(self._drawn.max() * self.epsilon),
            "answers": drawn,
            "delta": self._delta,
        }

    def state(self) -> dict[str, Tensor]:
        """Return the answers and what they have cost."""
        table = np.stack([self._answers, self._epochs, self._drawn])
        return {
            "responses": torch.from_numpy(table),
            "responses_fresh": torch.tensor(self._fresh),
            "responses_epsilon": torch.tensor(self.epsilon, dtype=torch.float64),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            DataError: there is none of it, or it is of other probes or another ε.
        """
        try:
            table, epsilon = tensors["responses"], float(tensors["responses_epsilon"])
            fresh = int(tensors["responses_fresh"])
        except KeyError as error:
            raise DataError("state: has no account of private votes") from error
        if table.shape != (3, len(self._answers)):
            raise DataError("state: its private votes are on other probes")
        if epsilon != self.epsilon:
            why = f"state: a private vote was worth ε = {epsilon:g}, now {self.epsilon:g}"
            raise DataError(f"{why}; use another folder or go back")
        self._answers, self._epochs, self._drawn = (row.copy() for row in table.numpy())
        self._fresh = fresh

"""Ballots that cannot be read yet, and who was asked for what leads to them.

A ballot may refer to earlier ones of its origin. Who does not hold them (it came late, was away, or
tallied otherwise) keeps the newest such ballot of each origin and asks the neighbour that sent it;
the answer is that origin's last ballots, the first standing alone. No round is lost by it. A ballot
that cannot be read may be forged, and its signature is not looked at yet: so each neighbour has a
place of its own, and what one of them sends takes no other's.

One that refers to the tally of the very round that is gathered here has only overtaken the last of
that round's ballots, as it may where roads differ. It waits until the round closes, or is overdue.
"""

from tallynode.protocol.messages import Ask, Ballot


class CatchingUp:
    """At most one waiting ballot of an origin from each neighbour, which is asked once for it."""

    def __init__(self) -> None:  # all by (neighbour, origin)
        self._waiting: dict[tuple[str, str], Ballot] = {}  # the newest that cannot be read
        self._answered: dict[tuple[str, str], int] = {}  # latest round
        self._early: dict[tuple[str, str], Ballot] = {}  # of the next round

    def wants(self, sender: str, ballot: Ballot) -> bool:
        """Note a ballot that cannot be read; whether its sender is to be asked."""
        waiting = self._waiting.get((sender, ballot.origin))
        if waiting is not None and waiting.round >= ballot.round:
            return False
        self._waiting[sender, ballot.origin] = ballot
        return True

    def keep(self, sender: str, ballot: Ballot) -> None:
        """Note a ballot that can be read once this round has closed."""
        self._early.setdefault((sender, ballot.origin), ballot)

    def kept(self) -> set[str]:
        """The origins of which a ballot is kept."""
        return {origin for _, origin in self._early}

    def take_kept(self) -> list[tuple[str, Ballot]]:
        """The (sender, ballot) pairs that were kept, in the order in which they came."""
        kept, self._early = self._early, {}
        return [(sender, ballot) for (sender, _), ballot in kept.items()]

    def waiting(self, origin: str, sender: str) -> Ballot | None:
        """The ballot of an origin that waits for an answer of this neighbour."""
        return self._waiting.get((sender, origin))

    def done(self, origin: str, round_: int) -> None:
        """A ballot was accepted: what waited for it, or for less, waits no more."""
        for key, waiting in list(self._waiting.items()):
            if key[1] == origin and waiting.round <= round_:
                del self._waiting[key]

    def may_answer(self, sender: str, ask: Ask) -> bool:
        """Whether an ask deserves an answer: one for each neighbour, origin and round."""
        key = (sender, ask.origin)
        if self._answered.get(key, 0) >= ask.round:
            return False
        self._answered[key] = ask.round
        return True

    def forget(self, neighbour: str) -> None:
        """The link to a neighbour is lost: it will not answer, and may ask again later."""
        for table in (self._waiting, self._answered):
            for key in [key for key in table if key[0] == neighbour]:
                del table[key]

"""Ballots that cannot be read yet, and who was asked for what leads to them.

A ballot may refer to earlier ones of its origin. Who does not hold them (it came late, was away, or
tallied otherwise) keeps the newest such ballot of each origin and asks the neighbour that sent it;
the answer is that origin's last ballots, the first standing alone. No round is lost by it.

One that refers to the tally of the very round that is gathered here has only overtaken the last of
that round's ballots, as it may where roads differ. It waits until the round closes, or is overdue.
"""

from tallynode.protocol.messages import Ask, Ballot


class CatchingUp:
    """At most one waiting ballot an origin, each neighbour asked once for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, Ballot] = {}  # origin -> its newest ballot that cannot be read
        self._asked: dict[str, set[str]] = {}  # origin -> neighbours asked for it
        self._answered: dict[tuple[str, str], int] = {}  # (neighbour, origin) -> latest round
        self._early: dict[str, tuple[str, Ballot]] = {}  # origin -> sender, its ballot of the next

    def wants(self, sender: str, ballot: Ballot) -> bool:
        """Note a ballot that cannot be read; whether its sender is to be asked."""
        waiting = self._waiting.get(ballot.origin)
        if waiting is not None and waiting.round > ballot.round:
            return False
        if waiting is None or waiting.round < ballot.round:
            self._waiting[ballot.origin] = ballot
            self._asked[ballot.origin] = set()
        asked = self._asked[ballot.origin]
        if sender in asked:
            return False
        asked.add(sender)
        return True

    def keep(self, sender: str, ballot: Ballot) -> None:
        """Note a ballot that can be read once this round has closed."""
        self._early.setdefault(ballot.origin, (sender, ballot))

    def kept(self) -> list[str]:
        """The origins of which a ballot is kept."""
        return list(self._early)

    def take_kept(self) -> list[tuple[str, Ballot]]:
        """The (sender, ballot) pairs that were kept, in the order in which they came."""
        kept, self._early = self._early, {}
        return list(kept.values())

    def waiting(self, origin: str, sender: str) -> Ballot | None:
        """The ballot of an origin that waits for an answer of this neighbour."""
        if sender not in self._asked.get(origin, ()):
            return None
        return self._waiting.get(origin)

    def done(self, origin: str, round_: int) -> None:
        """A ballot was accepted: what waited for it, or for less, waits no more."""
        waiting = self._waiting.get(origin)
        if waiting is not None and waiting.round <= round_:
            del self._waiting[origin], self._asked[origin]

    def may_answer(self, sender: str, ask: Ask) -> bool:
        """Whether an ask deserves an answer: one for each neighbour, origin and round."""
        key = (sender, ask.origin)
        if self._answered.get(key, 0) >= ask.round:
            return False
        self._answered[key] = ask.round
        return True

    def forget(self, neighbour: str) -> None:
        """The link to a neighbour is lost: it will not answer, and may ask again later."""
        for asked in self._asked.values():
            asked.discard(neighbour)
        for key in [key for key in self._answered if key[0] == neighbour]:
            del self._answered[key]

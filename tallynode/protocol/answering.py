"""Answers to neighbours that cannot read a ballot yet: that origin's ballots that lead to it."""

from dataclasses import replace

from tallynode.errors import RemoteError
from tallynode.protocol import effects as ef
from tallynode.protocol.ballots import BallotBox, Held
from tallynode.protocol.catching_up import CatchingUp
from tallynode.protocol.contents import Contents
from tallynode.protocol.members import Members
from tallynode.protocol.messages import Ask, Ballot
from tallynode.protocol.speaking import Speaking


class Answering:
    """Answers the asks of one peer's neighbours.

    Args:
        own: this peer's name.
        members: the other voters.
        box: the ballots that are held.
        contents: codes them.
        catching_up: remembers who was answered.
        speaking: makes what is published.
    """

    def __init__(
        self,
        own: str,
        members: Members,
        box: BallotBox,
        contents: Contents,
        catching_up: CatchingUp,
        speaking: Speaking,
    ) -> None:
        self._own = own
        self._members = members
        self._box = box
        self._contents = contents
        self._catching_up = catching_up
        self._speaking = speaking

    def hear(self, sender: str, ask: Ask) -> list[ef.Effect]:
        """Answer an ask, once.

        Raises:
            RemoteError: it asks for somebody who has no vote here.
        """
        if ask.origin != self._own and ask.origin not in self._members.table:
            why = f"asked for ballots of {ask.origin}, which has no vote here"
            raise RemoteError(sender, why, differs=True)
        if not self._catching_up.may_answer(sender, ask):
            return []
        out = []
        for round_, coding, coded in self._contents.chain(ask.origin, ask.round):
            held = self._box.get(ask.origin, round_)
            if held is not None:
                again = replace(held, coding=coding, coded=coded)
                out.append(self._speaking.answer(sender, ballot_of(ask.origin, round_, 0, again)))
        return out


def ballot_of(origin: str, round_: int, hops_left: int, held: Held) -> Ballot:
    """A ballot that is held, as a message."""
    return Ballot(
        origin=origin,
        round=round_,
        hops_left=hops_left,
        coding=held.coding,
        body=held.coded,
        signature=held.signature,
        choice=held.choice,
    )

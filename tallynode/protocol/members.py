"""What is known of every other voter, from what was heard and never from a clock.

A voter is ALIVE while its ballots come, SUSPECT from the first round that closed without it, GONE
when the link to it broke or it said that it leaves. Only ALIVE voters are waited for; a new ballot
always makes its origin ALIVE, even one too old to count: a peer that has run ahead alone then has
no quorum and lets the others catch up. UNHEARD voters are waited for in the first rounds, until
`start_within` has passed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum


class Life(Enum):
    """How much a voter may be counted on."""

    UNHEARD = "unheard"
    ALIVE = "alive"
    SUSPECT = "suspect"
    GONE = "gone"


@dataclass(slots=True)
class Member:
    """One voter."""

    life: Life = Life.UNHEARD
    latest: int = 0  # highest round of a ballot heard from it


@dataclass(slots=True)
class Members:
    """All voters but this peer; who is waited for is asked after every event, and so remembered."""

    table: dict[str, Member] = field(default_factory=dict)
    _waited_for: dict[bool, frozenset[str]] = field(default_factory=dict)  # since the last change
    _owing: dict[bool, tuple[int, frozenset[str]]] = field(default_factory=dict)  # of which round
    _frontier: dict[bool, int] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Members":
        """A table in which nobody has been heard."""
        return cls({name: Member() for name in sorted(names)})

    def heard(self, name: str, round_: int) -> None:
        """A new ballot of `name` has come."""
        member = self.table[name]
        member.life = Life.ALIVE
        member.latest = max(member.latest, round_)
        self._changed()

    def gone(self, name: str) -> None:
        """`name` left, or the link to it broke: nobody waits for it until it votes again."""
        if name in self.table:
            self.table[name].life = Life.GONE
            self._changed()

    def has_left(self, name: str) -> bool:
        """Whether it is gone, and has not been heard since."""
        return name in self.table and self.table[name].life is Life.GONE

    def missed(self, name: str) -> None:
        """A round closed without `name`."""
        member = self.table[name]
        if member.life in (Life.ALIVE, Life.UNHEARD):
            member.life = Life.SUSPECT
            self._changed()

    def _changed(self) -> None:
        self._waited_for.clear()
        self._owing.clear()
        self._frontier.clear()

    def waited_for(self, *, unheard: bool) -> frozenset[str]:
        """Voters that count for the quorum: the living and, early on, those yet to be heard."""
        if unheard not in self._waited_for:
            also = Life.UNHEARD if unheard else Life.ALIVE
            self._waited_for[unheard] = frozenset(
                n for n, m in self.table.items() if m.life is Life.ALIVE or m.life is also
            )
        return self._waited_for[unheard]

    def owing(self, round_: int, *, unheard: bool) -> frozenset[str]:
        """Those of them whose ballot of `round_` may still come.

        One who has voted in a later round has moved on: its ballots come in order.
        """
        asked, owing = self._owing.get(unheard, (0, frozenset()))
        if asked != round_:
            waited_for = self.waited_for(unheard=unheard)
            owing = frozenset(n for n in waited_for if self.table[n].latest < round_)
            self._owing[unheard] = (round_, owing)
        return owing

    def frontier(self, *, unheard: bool) -> int:
        """The round that others have reached: the second highest, or the only one.

        One lying peer cannot drag a mesh of three or more to a far round, not even by being heard
        first: early on, those yet to be heard stand at round 0.
        """
        if unheard not in self._frontier:
            rounds = sorted(
                (
                    m.latest
                    for m in self.table.values()
                    if m.latest or (unheard and m.life is Life.UNHEARD)
                ),
                reverse=True,
            )
            self._frontier[unheard] = rounds[min(1, len(rounds) - 1)] if rounds else 0
        return self._frontier[unheard]

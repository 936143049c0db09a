"""Which ballots to read at which neighbour: flood first, prune on duplicates, graft on silence.

Ballots travel over the graph by subscription: each peer republishes what it hears first, on a topic
for each origin. At first an origin is read at every neighbour that can know it. A second copy of a
current ballot makes us stop reading that origin there, so in steady state each ballot reaches each
peer once (Plumtree: Leitão, Pereira & Rodrigues, "Epidemic Broadcast Trees", 2007). An origin whose
ballot is overdue, or that was read over a lost link, is read at every linked neighbour again until
a new ballot of it comes: what those neighbours still retain of older rounds prunes nothing.
"""

from collections.abc import Iterable, Mapping


class Gossip:
    """The reading list of one peer.

    Args:
        me: this peer, whose own ballots are never read back.
        reach: for each neighbour the origins that can come through it, and from how far.
    """

    def __init__(self, me: str, reach: Mapping[str, Mapping[str, int]]) -> None:
        self._me = me
        self._reach = reach
        self._linked: set[str] = set()
        self._sources: dict[str, set[str]] = {}  # origin -> linked neighbours where it is read
        self._first: dict[str, tuple[int, str]] = {}  # origin -> (round, whose copy was the first)
        self._sought: set[str] = set()  # origins read everywhere until a new ballot comes

    @property
    def linked(self) -> frozenset[str]:
        """Neighbours whose outbox we are connected to."""
        return frozenset(self._linked)

    def link_up(self, neighbour: str) -> tuple[str, ...]:
        """Origins to read at a neighbour that has just been reached."""
        self._linked.add(neighbour)
        origins = tuple(o for o in self._reach[neighbour] if o != self._me)
        for origin in origins:
            self._sources.setdefault(origin, set()).add(neighbour)
        return origins

    def link_down(self, neighbour: str) -> dict[str, tuple[str, ...]]:
        """Forget a neighbour; returns what to read elsewhere instead, by neighbour."""
        self._linked.discard(neighbour)
        orphans = []
        for origin, sources in self._sources.items():
            if neighbour in sources:
                sources.discard(neighbour)
                known = self._first.get(origin)  # others that are read may have sent it nothing
                if not sources or (known and known[1] == neighbour):
                    orphans.append(origin)
        return self.graft(orphans)

    def graft(self, origins: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Read these origins at every linked neighbour that can know them; returns what is new."""
        new: dict[str, list[str]] = {}
        for origin in origins:
            self._sought.add(origin)
            sources = self._sources.setdefault(origin, set())
            for neighbour in sorted(self._linked - sources):
                if origin in self._reach[neighbour]:
                    sources.add(neighbour)
                    new.setdefault(neighbour, []).append(origin)
        return {neighbour: tuple(found) for neighbour, found in new.items()}

    def first(self, origin: str, round_: int, neighbour: str) -> None:
        """Note from whom the first copy of a ballot came."""
        known = self._first.get(origin)
        if known is None or known[0] < round_:
            self._first[origin] = (round_, neighbour)
            self._sought.discard(origin)

    def prune(self, origin: str, round_: int, again: str) -> str | None:
        """A further copy came: the neighbour at which to stop reading this origin, if any.

        The origin itself is kept, else whoever was first: a later copy may be our own, come back.
        Copies of older rounds prove nothing and prune nothing.
        """
        known = self._first.get(origin)
        if known is None or known[0] != round_ or known[1] == again:
            return None
        if origin in self._sought:
            return None
        worse = again
        if again == origin:
            worse = known[1]
            self._first[origin] = (round_, again)
        sources = self._sources.get(origin, set())
        if worse not in sources or len(sources) < 2:
            return None
        sources.discard(worse)
        return worse

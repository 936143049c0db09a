"""What the pure peer needs to know, built once by the configuration and never changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallynode.errors import LocalError
from tallynode.protocol import holdings, limits
from tallynode.protocol.coding import packed

CONTENTS = {  # what a ballot holds, by method
    "tally": "votes",
    "fedct": "votes",
    "fd": "soft",
    "cfd": "soft",
    "fedmd": "scores",
    "fedavg": "parameters",
    "fedprox": "parameters",
    "feddf": "parameters",
    "local": "votes",
    "centralised": "votes",
}
PAYLOADS = {  # class of bytes, by content
    "votes": "ballot",
    "soft": "soft",
    "scores": "soft",
    "parameters": "delta",
}


def ballot_bytes(method: str, voted: int, classes: int, parameters: int) -> int:
    """Content of a ballot at most, in bytes."""
    content = CONTENTS[method]
    if content == "scores":
        return 4 * voted * classes
    if content == "soft":
        return 1 + 4 * voted * classes
    if content == "parameters":
        return 4 * (parameters + 1)
    return packed.packed_bytes(voted, classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """How rounds go; all durations in seconds of the monotonic clock."""

    count: int = 20  # rounds; 0 goes on for as long as the daemon runs
    quorum: float = 0.8  # share of the known-alive voters that makes the short deadline apply
    staleness: int = 2  # rounds that a late ballot stays usable
    deadline_min_s: float = 2.0
    deadline_max_s: float = 600.0
    start_within_s: float = 10.0  # how long unheard peers are waited for after the start
    linger_s: float = 5.0  # how long a finished peer stays for its neighbours
    save_every: int = 1  # rounds that one saved state serves for


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSettings:
    """When deltas are exchanged, with whom, and how large they may be."""

    every: int  # rounds from one bridge to the next
    merges: tuple[str, ...]  # the neighbours whose model is this peer's
    model: int  # 32 bits that tell it from other models
    bytes_max: int  # of a delta
    said: str = ""  # what else of it peers must agree on, in a few words

    def at(self, round_: int) -> bool:
        """Whether deltas are exchanged in a round."""
        return bool(self.merges) and round_ % self.every == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """One peer's view of its mesh.

    `reach` maps each graph neighbour to the origins whose ballots can come through it within
    `hops` edges, and to how many edges that is; its keys are the neighbours.
    """

    mesh: str  # its name, and its epoch where that is not the first
    name: str
    reach: Mapping[str, Mapping[str, int]]
    hops: int  # edges a ballot travels, at least 1
    classes: int
    probes: int  # public probes in all
    per_round: int | None  # probes sampled a round; None: all
    probe_digest: bytes  # 8 bytes over the probes and the class list
    method: str  # what must be the same on every peer: a key of CONTENTS
    tally: str = "plurality"  # the rule: plurality | reliability | dawid-skene
    levels: int = 1  # of sureness that a vote carries
    select: str = "random"  # how a round's probes are chosen: random, or a key of choosing.MEASURES
    sampled_from: int | None = None  # round from which learners vote; None: witnesses do
    holdings: bool = False  # whether ballots say what their voters hold of each class
    byzantine: int | None = None  # liars that no label may depend on; None: no guard
    bits: int = 0  # of a soft label's probabilities; 0: float32
    bits_down: int = (
        0  # of the aggregated ones: what a hub sends, or what each peer makes of a mean
    )
    hub: str | None = None  # who aggregates for all others, in a method that knows such a peer
    delta_coding: bool = True  # whether soft labels are coded against those before
    parameters: int = 0  # of the model, where parameters are what is sent
    heard: Mapping[str, int] = field(default_factory=dict)  # how many others each peer hears
    coding: str = "context"  # context: the smallest there is | packed: always ceil(log2 C) bits
    common: bool = False  # whether every peer hears every other, so that tallies can be the same
    seed: int  # public; draws the round's probe sample
    rounds: RoundSettings = RoundSettings()
    bridge: BridgeSettings | None = None  # None: models stay at home

    def __post_init__(self) -> None:
        checks = {
            "hops": 1 <= self.hops <= limits.HOPS_MAX,
            "classes": 2 <= self.classes <= limits.CLASSES_MAX,
            "levels": 1 <= self.levels <= limits.LEVELS_MAX,
            "classes and levels": self.symbols <= limits.CLASSES_MAX,
            "probes": 1 <= self.probes <= limits.PROBES_MAX,
            "holdings": not self.holdings
            or (self.levels == 1 and self.classes <= limits.HOLDINGS_CLASSES_MAX),
            "per_round": self.per_round is None or 1 <= self.per_round <= self.probes,
            "what a ballot holds (it must fit a message)": (
                self.ballot_bytes <= limits.BALLOT_BYTES_MAX
            ),
            "probe_digest": len(self.probe_digest) == 8,
            "quorum": 0 < self.rounds.quorum <= 1,
        }
        for what, fine in checks.items():
            if not fine:
                raise LocalError(f"peer settings: {what} is out of range")

    @property
    def voted(self) -> int:
        """Probes voted on a round."""
        return self.per_round or self.probes

    @property
    def entries(self) -> int:
        """Entries of a ballot: the votes, and what else its voter says of itself."""
        return self.voted + (holdings.entries(self.classes) if self.holdings else 0)

    @property
    def symbols(self) -> int:
        """Different entries that a ballot may have: a class, at a level of sureness."""
        return self.classes * self.levels

    def samples(self, round_: int) -> bool:
        """Whether the votes of a round are drawn from what learners believe."""
        return self.sampled_from is not None and round_ >= self.sampled_from

    @property
    def ballot_bytes(self) -> int:
        """Content of a ballot at most, in bytes."""
        return ballot_bytes(self.method, self.entries, self.symbols, self.parameters)

    @property
    def said(self) -> str:
        """The method and what of it peers must agree on, in words."""
        levels = f", {self.levels} levels" if self.levels > 1 else ""
        held = ", holdings" if self.holdings else ""
        bridge = f", bridge {self.bridge.every} {self.bridge.said}" if self.bridge else ""
        return (
            self.method + levels + held + bridge + (f", by {self.select}" if self.chooses else "")
        )

    @property
    def chooses(self) -> bool:
        """Whether a round's probes follow from the consensus before."""
        return self.select != "random"

    @property
    def payload(self) -> str:
        """The class under which ballots stand in the byte counts."""
        return PAYLOADS[CONTENTS[self.method]]

    @property
    def neighbours(self) -> tuple[str, ...]:
        """The peers that this one connects to."""
        return tuple(self.reach)

    def hops_left(self, origin: str) -> int:
        """How much further ballots of an origin may travel from here; 0: no further.

        That is a matter of the graph and not of the way that a ballot has come: where links are
        broken it may have come by a detour, and others need it all the more.
        """
        far = [by[origin] for by in self.reach.values() if origin in by]
        return self.hops - min(far, default=self.hops)

    @property
    def voters(self) -> frozenset[str]:
        """Every other peer whose ballots can be heard here."""
        return frozenset(origin for origins in self.reach.values() for origin in origins)

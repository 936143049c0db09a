"""What a seed draws: a mesh, how it runs, and which faults befall it how often."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from tallynode.lab.faults.voter import Pace
from tallynode.lab.faults.weather import Climate
from tallynode.protocol import graph
from tallynode.protocol.settings import PeerSettings, RoundSettings

MESH = "faults"
DIGEST = bytes(range(8))
KINDS = ("line", "ring", "star", "torus", "tree", "random-regular", "small-world", "complete")
FAULTS = (
    "kill",  # a process ends, its kernel lives
    "power",  # a machine ends: what was not forced to the disk is lost, and nobody is told
    "strike",  # a process or machine ends between two effects of a step, or inside a save
    "leave",  # a process is asked to end
    "pause",  # a process stands still and then takes everything at once
    "jump",  # the monotonic clock leaps forward
    "slow",  # a trainer takes several times as long
    "flap",  # one link breaks, and comes back
    "clog",  # one link stalls, then bursts
    "oneway",  # one direction of one edge is cut
    "island",  # one peer is cut off
    "halves",  # the mesh is cut in two
    "disk",  # a disk is full or read-only
    "rot",  # the newest generation of a checkpoint is spoilt while the process is down
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a world is made of, but for chance itself."""

    seed: int
    kind: str  # of graph
    settings: tuple[PeerSettings, ...]
    pace: Pace
    climate: Climate
    faults: Mapping[str, float]  # of each kind so many a round, in the whole mesh
    rounds: int  # that the safety phase lasts, about

    @property
    def names(self) -> tuple[str, ...]:
        """The peers."""
        return tuple(s.name for s in self.settings)

    @property
    def round_s(self) -> float:
        """How long a round takes, about."""
        return (self.pace.train_s + self.pace.learn_s) * (1 + self.pace.jitter / 2)


def names_of(n: int) -> list[str]:
    """So many peers, in an order that sorting keeps."""
    return [f"p{i:02}" for i in range(n)]


def edges_of(kind: str, names: Sequence[str], draw: Random) -> graph.Edges:
    """A connected graph of a kind; one that has no place for so many peers gives way to a ring."""
    n = len(names)
    match kind:
        case "line":
            return graph.of_pairs(pairwise(names))
        case "star":
            return graph.star(names)
        case "complete":
            return graph.complete(names)
        case "tree":
            return graph.of_pairs((names[draw.randrange(i)], names[i]) for i in range(1, n))
        case "torus":
            rows = max(r for r in range(1, n) if n % r == 0 and r * r <= n)
            return graph.torus(names, rows, n // rows)
        case "random-regular" if n > 4:
            degree = 3 if n % 2 == 0 else 4
            return graph.random_regular(names, degree, draw.randrange(1 << 16))
        case "small-world" if n > 4:
            return graph.small_world(names, 4, 0.2, draw.randrange(1 << 16))
        case _:
            return graph.ring(names)


def mesh_settings(
    edges: graph.Edges, hops: int, rounds: RoundSettings, **fields: object
) -> tuple[PeerSettings, ...]:
    """Each peer's view of a mesh.

    Args:
        edges: who neighbours whom.
        hops: edges that ballots travel.
        rounds: how rounds go.
        fields: further peer settings, the same for all.
    """
    names = sorted({name for edge in edges for name in edge})
    neighbours = graph.adjacency(names, edges)
    plain: dict[str, object] = {
        "classes": 3,
        "probes": 12,
        "per_round": None,
        "method": "tally",
        "seed": 7,
        "common": diameter(edges) <= hops,
    }
    return tuple(
        PeerSettings(
            mesh=MESH,
            name=name,
            reach=graph.reach(name, neighbours, hops),
            hops=hops,
            probe_digest=DIGEST,
            rounds=rounds,
            **(plain | fields),  # type: ignore[arg-type]
        )
        for name in names
    )


def diameter(edges: graph.Edges) -> int:
    """Edges between the two peers that are farthest apart."""
    names = sorted({name for edge in edges for name in edge})
    neighbours = graph.adjacency(names, edges)
    return max(max(graph.distances(name, neighbours).values()) for name in names)


def plan_of(seed: int) -> Plan:
    """Draw a plan; most meshes are small, since small ones find most and cost least."""
    draw = Random(f"plan {seed}")
    n = draw.choice([3, 3, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 12, draw.randint(13, 20)])
    kind = draw.choice(KINDS)
    names = names_of(n)
    edges = edges_of(kind, names, draw)
    pace = Pace(_between(draw, 0.2, 5.0), _between(draw, 0.05, 1.0), draw.choice([0.0, 0.2, 1.0]))
    climate = _climate(draw, pace.train_s)
    hops = draw.choice([1, 2, 3, n, n])
    journey_s = min(hops, diameter(edges)) * (climate.latency_s + climate.jitter_s)
    classes = draw.choice([2, 3, 10, 300])
    rules = ["plurality", "reliability", "dawid-skene"][: 3 if classes <= 10 else 2]
    settings = mesh_settings(
        edges,
        hops,
        _rounds(draw, 2 * journey_s),
        classes=classes,
        probes=draw.choice([6, 12, 40]),
        per_round=draw.choice([None, None, 5]),
        tally=draw.choice(rules),
        byzantine=draw.choice([None, None, 1]),
        coding=draw.choice(["context", "context", "context", "packed"]),
        seed=draw.randrange(1 << 16),
    )
    return Plan(
        seed=seed,
        kind=kind,
        settings=settings,
        pace=pace,
        climate=climate,
        faults={what: _between(draw, 0.05, 1.0) for what in FAULTS if draw.random() < 0.4},
        rounds=draw.randint(8, 20),
    )


def _rounds(draw: Random, least_s: float) -> RoundSettings:
    """Deadlines that leave a ballot the time that it needs at least."""
    low = least_s + _between(draw, 0.2, 2.0)
    return RoundSettings(
        count=draw.choice([0, 0, 0, draw.randint(3, 20)]),
        quorum=draw.choice([0.5, 0.6, 0.8, 0.8, 1.0]),
        staleness=draw.choice([0, 1, 2, 2, 3]),
        deadline_min_s=low,
        deadline_max_s=low * _between(draw, 3.0, 60.0),
        start_within_s=_between(draw, 0.5, 10.0),
        linger_s=_between(draw, 0.5, 5.0),
        save_every=draw.choice([1, 1, 1, 4]),
    )


def _climate(draw: Random, train_s: float) -> Climate:
    latency = train_s * _between(draw, 0.001, 0.1)
    chances = [0.0, 0.0, 0.0, 0.01, 0.1]
    return Climate(
        latency_s=latency,
        jitter_s=latency * draw.choice([0.0, 0.1, 1.0, 5.0]),
        lost=draw.choice([*chances, 0.3]),
        twice=draw.choice(chances),
        disorder=draw.choice(chances),
    )


def _between(draw: Random, low: float, high: float) -> float:
    """Drawn so that each order of magnitude is as likely as the next."""
    return float(low * (high / low) ** draw.random())

"""Who neighbours whom: undirected graphs over named peers, the same on every peer.

Random kinds are drawn from the mesh's public seed with a generator of our own choosing (numpy's
PCG64), so that every peer that reads the same topology.yaml computes the same edges.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tallynode.errors import LocalError

Edges = frozenset[tuple[str, str]]  # each pair sorted
REGULAR_TRIES = 1_000  # draws of a random regular graph before giving up


def of_pairs(pairs: Iterable[tuple[str, str]]) -> Edges:
    """Edges as a person lists them, in any order."""
    return frozenset((min(pair), max(pair)) for pair in pairs)


def _pairs(names: Sequence[str], indices: Iterable[tuple[int, int]]) -> Edges:
    return of_pairs((names[a], names[b]) for a, b in indices if a != b)


def ring(names: Sequence[str]) -> Edges:
    """Each peer with the one before and the one after."""
    n = len(names)
    return _pairs(names, ((i, (i + 1) % n) for i in range(n)))


def complete(names: Sequence[str]) -> Edges:
    """Everybody with everybody."""
    n = len(names)
    return _pairs(names, ((i, j) for i in range(n) for j in range(i)))


def star(names: Sequence[str]) -> Edges:
    """The first peer with all others."""
    return _pairs(names, ((0, i) for i in range(1, len(names))))


def torus(names: Sequence[str], rows: int, cols: int) -> Edges:
    """A grid whose borders meet; rows × cols must be the number of peers."""
    if min(rows, cols) < 1 or rows * cols != len(names):
        raise LocalError(f"a torus of {rows} x {cols} has no place for {len(names)} peers")
    cells = ((r, c) for r in range(rows) for c in range(cols))
    steps = (
        (r, c, (r + dr) % rows, (c + dc) % cols) for r, c in cells for dr, dc in ((0, 1), (1, 0))
    )
    return _pairs(names, ((r * cols + c, r2 * cols + c2) for r, c, r2, c2 in steps))


def random_regular(names: Sequence[str], degree: int, seed: int) -> Edges:
    """A connected graph in which every peer has `degree` neighbours, redrawn until it is one."""
    n = len(names)
    if not 0 < degree < n or n * degree % 2 or (degree == 1 and n > 2):
        raise LocalError(f"no connected graph gives each of {n} peers {degree} neighbours")
    if degree > (n - 1) // 2:  # dense: draw what is left out instead
        left_out = _regular_pairs(n, n - 1 - degree, seed) if degree < n - 1 else set()
        return complete(names) - _pairs(names, left_out)
    for attempt in range(REGULAR_TRIES):
        edges = _pairs(names, _regular_pairs(n, degree, seed + attempt))
        if is_connected(names, edges):
            return edges
    raise LocalError(f"no connected graph found for {n} peers of degree {degree}")


def _regular_pairs(n: int, degree: int, seed: int) -> set[tuple[int, int]]:
    """Steger & Wormald's pairing (1999): join free stubs at random, restart where none fit."""
    rng = np.random.default_rng(seed)
    for _ in range(REGULAR_TRIES):
        stubs = [i for i in range(n) for _ in range(degree)]
        pairs: set[tuple[int, int]] = set()
        while stubs:
            rng.shuffle(stubs)
            rest: list[int] = []
            for a, b in zip(stubs[::2], stubs[1::2], strict=True):
                pair = (min(a, b), max(a, b))
                if a != b and pair not in pairs:
                    pairs.add(pair)
                else:
                    rest += pair
            free = {(min(a, b), max(a, b)) for a in rest for b in rest if a != b}
            if rest and not free - pairs:
                break
            stubs = rest
        else:
            return pairs
    raise LocalError(f"no graph gives each of {n} peers {degree} neighbours")


def small_world(names: Sequence[str], degree: int, rewire: float, seed: int) -> Edges:
    """A ring lattice, each edge rewired with chance `rewire` (Watts & Strogatz 1998)."""
    n = len(names)
    if degree % 2 or not 0 < degree < n:
        raise LocalError(f"a small world of {n} peers needs an even degree below {n}")
    for attempt in range(REGULAR_TRIES):
        edges = _pairs(names, _rewired(n, degree, rewire, np.random.default_rng(seed + attempt)))
        if is_connected(names, edges):
            return edges
    raise LocalError("no connected small world found")


def _rewired(n: int, degree: int, rewire: float, rng: np.random.Generator) -> set[tuple[int, int]]:
    lattice = [(i, (i + k) % n) for k in range(1, degree // 2 + 1) for i in range(n)]
    pairs = {(min(p), max(p)) for p in lattice}
    for a, b in lattice:
        free = [c for c in range(n) if c != a and (min(a, c), max(a, c)) not in pairs]
        if free and rng.random() < rewire:
            c = free[int(rng.integers(len(free)))]
            pairs.discard((min(a, b), max(a, b)))
            pairs.add((min(a, c), max(a, c)))
    return pairs


def adjacency(names: Sequence[str], edges: Edges) -> dict[str, tuple[str, ...]]:
    """Neighbours of each peer, sorted."""
    table: dict[str, set[str]] = {name: set() for name in names}
    for a, b in edges:
        table[a].add(b)
        table[b].add(a)
    return {name: tuple(sorted(found)) for name, found in table.items()}


def how_many_heard(neighbours: Mapping[str, Iterable[str]], hops: int) -> dict[str, int]:
    """How many others each peer hears over so many hops."""
    far = {name: distances(name, neighbours).values() for name in neighbours}
    return {name: sum(0 < edges <= hops for edges in found) for name, found in far.items()}


def distances(
    start: str, neighbours: Mapping[str, Iterable[str]], without: str = ""
) -> dict[str, int]:
    """Edges from `start` to each peer it can reach, by ways that avoid `without`."""
    found = {start: 0}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        for name in neighbours[here]:
            if name not in found and name != without:
                found[name] = found[here] + 1
                queue.append(name)
    return found


def is_connected(names: Sequence[str], edges: Edges) -> bool:
    """Whether every peer can be reached from every other."""
    return not names or len(distances(names[0], adjacency(names, edges))) == len(names)


def reach(
    name: str, neighbours: Mapping[str, Iterable[str]], hops: int
) -> dict[str, dict[str, int]]:
    """For each neighbour of `name`, the origins that can come through it, and from how far.

    That is, those that it can hear by ways that avoid `name`, long ones in place of broken ones
    included, and that are near enough to it for it to pass them on.
    """
    found = {}
    for via in neighbours[name]:
        far, around = distances(via, neighbours), distances(via, neighbours, without=name)
        found[via] = {o: far[o] + 1 for o in sorted(around) if far[o] < hops}
    return found

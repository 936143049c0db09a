"""Graphs: every kind has its degrees, hangs together, and is the same on every peer."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.errors import LocalError
from tallynode.protocol import graph
from tallynode.protocol.mixing import shares

GOLDEN = json.loads((Path(__file__).parent / "golden" / "graphs.json").read_text())


def named(n: int) -> list[str]:
    """Names of n peers, in order."""
    return [f"p{i:03}" for i in range(n)]


def degrees(names: list[str], edges: graph.Edges) -> list[int]:
    """Neighbours of each peer; checks symmetry on the way."""
    table = graph.adjacency(names, edges)
    for name, found in table.items():
        assert name not in found
        assert list(found) == sorted(set(found))
        assert all(name in table[other] for other in found)
    return [len(table[name]) for name in names]


@given(st.integers(3, 40))
def test_ring_complete_and_star(n: int) -> None:
    """A ring has two neighbours each, a complete graph all others, a star one centre."""
    names = named(n)
    assert degrees(names, graph.ring(names)) == [2] * n
    assert degrees(names, graph.complete(names)) == [n - 1] * n
    assert degrees(names, graph.star(names)) == [n - 1] + [1] * (n - 1)
    for kind in (graph.ring, graph.complete, graph.star):
        assert graph.is_connected(names, kind(names))


def test_the_smallest_meshes() -> None:
    """One peer has no edges, and two have one, in every kind."""
    for kind in (graph.ring, graph.complete, graph.star):
        assert kind([]) == frozenset()
        assert kind(["a"]) == frozenset()
        assert kind(["b", "a"]) == {("a", "b")}
    assert graph.is_connected([], frozenset())
    assert not graph.is_connected(["a", "b"], frozenset())
    assert graph.random_regular(["a", "b"], 1, 7) == {("a", "b")}


@given(st.integers(3, 7), st.integers(3, 7))
def test_torus(rows: int, cols: int) -> None:
    """On a torus from 3 × 3 everybody has four neighbours and nobody is far."""
    names = named(rows * cols)
    edges = graph.torus(names, rows, cols)
    assert degrees(names, edges) == [4] * len(names)
    far = graph.distances(names[0], graph.adjacency(names, edges))
    assert len(far) == len(names)
    assert max(far.values()) == rows // 2 + cols // 2


def test_a_narrow_torus_has_no_double_edges() -> None:
    """Two rows meet once, one row is a ring."""
    assert degrees(named(8), graph.torus(named(8), 2, 4)) == [3] * 8
    assert graph.torus(named(5), 1, 5) == graph.ring(named(5))


@given(st.integers(2, 24), st.integers(1, 23), st.integers(0, 2**31))
def test_random_regular(n: int, degree: int, seed: int) -> None:
    """Every peer has the same degree, the graph hangs together, and the seed decides it."""
    names = named(n)
    possible = degree < n and n * degree % 2 == 0 and (degree > 1 or n == 2)
    if not possible:
        with pytest.raises(LocalError):
            graph.random_regular(names, degree, seed)
        return
    edges = graph.random_regular(names, degree, seed)
    assert degrees(names, edges) == [degree] * n
    assert graph.is_connected(names, edges)
    assert edges == graph.random_regular(names, degree, seed)


@given(st.integers(3, 24), st.sampled_from([2, 4, 6]), st.floats(0, 1), st.integers(0, 2**31))
def test_small_world(n: int, degree: int, rewire: float, seed: int) -> None:
    """Rewiring moves edges without losing any, and the graph hangs together."""
    names = named(n)
    if degree >= n:
        with pytest.raises(LocalError):
            graph.small_world(names, degree, rewire, seed)
        return
    edges = graph.small_world(names, degree, rewire, seed)
    assert len(edges) == n * degree // 2
    assert graph.is_connected(names, edges)
    assert edges == graph.small_world(names, degree, rewire, seed)
    degrees(names, edges)


def test_a_small_world_without_rewiring_is_a_lattice() -> None:
    """With chance 0 everybody keeps the neighbours at distances 1 and 2."""
    edges = graph.small_world(named(9), 4, 0.0, 7)
    assert degrees(named(9), edges) == [4] * 9
    assert ("p000", "p002") in edges


@pytest.mark.parametrize("vector", GOLDEN["graphs"], ids=lambda v: v["why"])
def test_golden_graphs(vector: dict[str, Any]) -> None:
    """A known seed gives known edges: peers of any version agree on who neighbours whom."""
    make = getattr(graph, vector["kind"])
    edges = make(named(vector["peers"]), **vector["arguments"])
    assert [list(pair) for pair in sorted(edges)] == vector["edges"]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: graph.torus(named(8), 3, 3), "no place for 8 peers"),
        (lambda: graph.torus(named(8), -2, -4), "no place for 8 peers"),
        (lambda: graph.random_regular(named(5), 3, 7), "each of 5 peers 3 neighbours"),
        (lambda: graph.random_regular(named(5), 5, 7), "each of 5 peers 5 neighbours"),
        (lambda: graph.random_regular(named(5), 0, 7), "each of 5 peers 0 neighbours"),
        (lambda: graph.random_regular(named(6), 1, 7), "no connected graph"),
        (lambda: graph.small_world(named(6), 3, 0.1, 7), "even degree below 6"),
        (lambda: graph.small_world(named(6), 6, 0.1, 7), "even degree below 6"),
    ],
)
def test_impossible_graphs_are_refused(make: object, why: str) -> None:
    """Parameters that no graph can meet raise LocalError and say so."""
    assert callable(make)
    with pytest.raises(LocalError, match=why):
        make()


@st.composite
def any_graphs(draw: st.DrawFn) -> tuple[list[str], graph.Edges]:
    """Any undirected graph of up to seven peers, connected or not."""
    names = named(draw(st.integers(2, 7)))
    pairs = [(a, b) for a in names for b in names if a < b]
    return names, graph.of_pairs(draw(st.lists(st.sampled_from(pairs), max_size=12)))


@given(any_graphs(), st.integers(1, 7))
def test_reach_and_brute_force(mesh: tuple[list[str], graph.Edges], hops: int) -> None:
    """What a neighbour can hear by walks past us, and is near enough to by any walk to pass on."""
    names, edges = mesh
    table = graph.adjacency(names, edges)
    me = names[0]

    def walk(start: str, length: int, without: str) -> set[str]:
        """Where walks of so many edges end."""
        ends = {start}
        for _ in range(length):
            ends = {n for end in ends for n in table[end] if n != without}
        return ends

    lengths = range(len(names))
    expected = {}
    for via in table[me]:
        past_me = set().union(*(walk(via, length, me) for length in lengths))
        far = {o: min(n for n in lengths if o in walk(via, n, "")) for o in past_me}
        expected[via] = {o: n + 1 for o, n in far.items() if n < hops}
    assert graph.reach(me, table, hops) == expected


def test_on_a_ring_every_neighbour_brings_whoever_it_passes_on() -> None:
    """Also the long way round: b can hear e without a, and passes on what is two edges away."""
    table = graph.adjacency("abcde", graph.ring("abcde"))
    assert graph.reach("a", table, 2) == {"b": {"b": 1, "c": 2}, "e": {"d": 2, "e": 1}}
    assert set(graph.reach("a", table, 3)["b"]) == {"b", "c", "d", "e"}


def test_of_pairs_takes_edges_in_any_order() -> None:
    """The same edge written both ways is one edge."""
    assert graph.of_pairs([("b", "a"), ("a", "b")]) == {("a", "b")}


@given(any_graphs())
def test_weights_keep_the_mean(mesh: tuple[list[str], graph.Edges]) -> None:
    """Both ends of an edge weigh it alike, and nobody gives more than all of itself away."""
    names, edges = mesh
    table = graph.adjacency(names, edges)
    weights = {name: shares(name, table) for name in names}
    for name in names:
        assert sum(weights[name].values()) < 1 + 1e-9
        assert all(weights[other][name] == weight for other, weight in weights[name].items())


def test_on_a_complete_graph_all_weigh_the_same() -> None:
    """There the average is the plain one."""
    table = graph.adjacency(named(5), graph.complete(named(5)))
    assert set(shares("p000", table).values()) == {0.2}

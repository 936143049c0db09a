"""Mixing models on a graph: the mesh keeps its average, and comes to agree on it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.protocol import graph
from tallynode.protocol.mixing import weights

NAMES = ["a", "b", "c", "d", "e", "f"]
COUNTS = st.lists(st.integers(1, 1000), min_size=len(NAMES), max_size=len(NAMES))


def matrix(edges: graph.Edges, samples: dict[str, float]) -> np.ndarray:
    """(peers, peers): what each row's peer takes of each column's, hearing its neighbours alone."""
    neighbours = graph.adjacency(NAMES, edges)
    heard = {name: len(of) for name, of in neighbours.items()}
    table = np.zeros((len(NAMES), len(NAMES)))
    for i, name in enumerate(NAMES):
        models = {other: samples[other] for other in (name, *neighbours[name])}
        for other, share in weights(name, models, heard).items():
            table[i, NAMES.index(other)] = share
    return table


@given(COUNTS, st.sampled_from([graph.ring(NAMES), graph.star(NAMES), graph.torus(NAMES, 2, 3)]))
def test_the_weighted_average_of_the_mesh_stays(counts: list[int], edges: graph.Edges) -> None:
    """Rows sum to one, no weight is negative, and n is a left eigenvector."""
    table = matrix(edges, dict(zip(NAMES, map(float, counts), strict=True)))
    assert table.sum(axis=1) == pytest.approx(np.ones(len(NAMES)))
    assert (table >= -1e-12).all()
    assert np.array(counts) @ table == pytest.approx(np.array(counts))


def test_a_ring_comes_to_the_average_weighted_by_samples() -> None:
    """Many steps from six numbers: everybody holds sum n x / sum n."""
    counts = np.array([1.0, 2, 3, 4, 5, 60])
    values = np.array([5.0, -1, 0, 2, 7, 1])
    table = matrix(graph.ring(NAMES), dict(zip(NAMES, counts, strict=True)))
    for_ever = np.linalg.matrix_power(table, 4096) @ values
    assert for_ever == pytest.approx(np.full(6, counts @ values / counts.sum()))


def test_equal_samples_on_a_ring_are_thirds() -> None:
    """Xiao & Boyd's weights by hand: 1 / (1 + max(2, 2)) for either neighbour and oneself."""
    heard = dict.fromkeys(NAMES, 2)
    shares = weights("a", dict.fromkeys(("a", "b", "f"), 600.0), heard)
    assert shares == pytest.approx(dict.fromkeys(("a", "b", "f"), 1 / 3))


def test_all_who_hear_all_take_the_average_at_once() -> None:
    """McMahan's weights, over whoever came where somebody did not."""
    heard = dict.fromkeys(NAMES, 5)
    samples = {"a": 100.0, "b": 300.0, "c": 600.0}
    assert weights("a", samples, heard) == pytest.approx({"a": 0.1, "b": 0.3, "c": 0.6})


def test_who_is_missing_leaves_its_weight_to_oneself() -> None:
    """The others count no more than they would have."""
    heard = dict.fromkeys(NAMES, 2)
    assert weights("a", {"a": 9.0, "b": 9.0}, heard) == pytest.approx({"a": 2 / 3, "b": 1 / 3})

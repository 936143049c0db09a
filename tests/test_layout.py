"""The graph of a configured mesh, and the plain words for what is wrong with it."""

from typing import Any

import pytest

from tallynode.config import Mesh
from tallynode.layout import Layout, edgeless


def laid_out(**changes: Any) -> Layout:
    """The layout of a mesh."""
    return Layout.of(Mesh.model_validate({"mesh": "m", "peers": list("abcd"), **changes}))


@pytest.mark.parametrize(
    ("graph", "hops", "warnings"),
    [
        ("ring", "all", []),
        ("complete", 1, []),
        ({"edges": [["a", "b"], ["b", "c"], ["c", "a"]]}, "all", ["d hears nobody"]),
        ({"edges": [["a", "b"], ["c", "d"]]}, "all", ["a, b, c, d hear one", "in pieces"]),
        ("star", "all", ["b, c, d have one neighbour only"]),
        ("star", 1, ["b, c, d hear one peer only"]),
    ],
)
def test_a_person_is_told_what_the_graph_means_for_the_tally(
    graph: object, hops: object, warnings: list[str]
) -> None:
    """Each warning names the peers, and a sound graph has none."""
    said = laid_out(graph=graph, method={"hops": hops}).warnings()
    assert len(said) == len(warnings)
    for line, part in zip(said, warnings, strict=True):
        assert part in line


def test_all_hear_all_only_where_hops_reach() -> None:
    """A ring of four needs two hops before every tally is the same."""
    assert not laid_out(graph="ring", method={"hops": 1}).common
    assert laid_out(graph="ring", method={"hops": 2}).common


def test_peers_without_edges_hear_nobody() -> None:
    """The baseline: the same peers, each alone; a mesh of one is no cause for a warning."""
    alone = Layout.of(edgeless(Mesh.model_validate({"mesh": "m", "peers": 3})))
    assert set(alone.heard.values()) == {0}
    assert laid_out(peers=["a"], graph="complete").warnings() == []


def test_alone_there_is_nothing_to_choose_probes_by() -> None:
    """The baseline of a mesh that chooses its probes takes them as they come."""
    plain = {"mesh": "m", "peers": 3, "task": {"probes": {"per_round": 9}}}
    mesh = Mesh.model_validate({**plain, "method": {"select": "margin"}})
    assert edgeless(mesh).method.select == "random"

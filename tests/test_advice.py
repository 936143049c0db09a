"""What is said of meshes that are valid, and of which nothing is said."""

from typing import Any

import pytest

from tallynode.advice import hints, warnings
from tallynode.config import Mesh, load_mesh, topology_dir
from tallynode.layout import Layout

DIRECT = "everybody hears everybody directly"


def said(mesh: Mesh) -> str:
    """Everything that is said of a mesh."""
    layout = Layout.of(mesh)
    return "\n".join(warnings(mesh, layout) + hints(mesh, layout))


@pytest.mark.parametrize(
    ("peers", "graph", "method", "expected"),
    [
        (5, "complete", {"byzantine": 4}, ""),
        (5, "complete", {"byzantine": 5}, "no probe will ever get a label at peer-1, peer-2"),
        (5, "ring", {"byzantine": 3, "hops": 1}, "it takes more than 3 votes, and no more than 3"),
        (5, "ring", {"byzantine": 2, "hops": 1}, ""),
        (3, "complete", {}, DIRECT),
        (3, "ring", {"hops": 2}, DIRECT),
        (4, "ring", {}, ""),
        (2, "complete", {}, "two ballots cannot tell"),
        (4, "complete", {"hops": 1}, ""),
        (4, "complete", {"byzantine": 1}, ""),
        (4, "complete", {"name": "centralised"}, "it runs with simulate --virtual only"),
    ],
)
def test_what_a_person_should_know(
    peers: int, graph: str, method: dict[str, Any], expected: str
) -> None:
    """A guard that silences all, relays that nobody needs, a pool that no real peers have."""
    plain = {"mesh": "m", "peers": peers, "graph": graph, "method": method}
    found = said(Mesh.model_validate(plain))
    assert expected in found
    assert bool(found) == bool(expected)
    assert (DIRECT in found) == (expected == DIRECT)


def test_relays_that_are_signed_are_not_to_be_saved() -> None:
    """Pinned peers see by them who votes in two ways."""
    open_to_all = {"mesh": "m", "peers": 4, "graph": "complete", "listen": "0.0.0.0"}
    assert said(Mesh.model_validate(open_to_all)) == ""
    assert DIRECT in said(Mesh.model_validate({**open_to_all, "insecure": "lab-network"}))


@pytest.mark.parametrize("file", sorted(topology_dir().glob("*.yaml")), ids=lambda file: file.stem)
def test_nothing_is_said_of_the_ready_meshes(file: Any) -> None:
    """They are what a person copies."""
    assert said(load_mesh(file)) == ""

"""What the sections of topology.yaml must agree on, each check with the places of what is wrong."""

from typing import TYPE_CHECKING

from tallynode.config_graph import edges_of
from tallynode.config_yaml import Where
from tallynode.protocol import graph
from tallynode.protocol.settings import CONTENTS

NOT_COMMON = (  # of method.select
    "needs a mesh in which every peer hears every other: only there do all hold the consensus to "
    "choose by"
)

if TYPE_CHECKING:  # the mesh calls these checks when it is built
    from tallynode.config import Mesh


def _check_account(mesh: "Mesh") -> list[tuple[Where, str]]:
    """What a peer has spent must be on its disk before its answers leave."""
    if mesh.method.privacy is None or mesh.rounds.save_every == 1:
        return []
    why = "should be 1 with method.privacy: a killed peer would forget what it has spent"
    return [(("rounds", "save_every"), why)]


def _check_models(mesh: "Mesh") -> list[tuple[Where, str]]:
    """Parameters can be averaged with those of the same model alone."""
    name, model = mesh.method.name, mesh.task.model
    if CONTENTS[name] != "parameters":
        return []
    why = f"should be {model}, as task.model is: method {name} averages models of one kind"
    return [
        (("peers", i, "model"), f"{why}, not {peer.model}")
        for i, peer in enumerate(mesh.peers)
        if peer.model not in (None, model)
    ]


def _check_hub(mesh: "Mesh") -> list[tuple[Where, str]]:
    """A hub aggregates what it hears, and passes none of it on."""
    if mesh.hub is None or mesh.method.hops in ("all", 1):
        return []
    why = (
        f"should be 1: on a star {mesh.method.name}'s labels go to the hub and from it, no further"
    )
    return [(("method", "hops"), why)]


def _check_pool(mesh: "Mesh") -> list[tuple[Where, str]]:
    """What real peers have cannot be put together, and need not stay apart in a simulation."""
    if mesh.method.name != "centralised":
        return []
    why = "cannot be pooled by method centralised: only public sets that a simulation deals out can"
    places: list[Where] = [("peers", i, "data") for i, peer in enumerate(mesh.peers) if peer.data]
    if ":" in mesh.task.data:
        places.append(("task", "data"))
    return [(place, why) for place in places]


def _check_select(mesh: "Mesh") -> list[tuple[Where, str]]:
    """A choice needs something to choose from."""
    if mesh.method.select == "random" or mesh.task.probes.per_round != "all":
        return []
    why = "chooses nothing where all probes are voted on: task.probes.per_round should be a number"
    return [(("method", "select"), why)]


def _check_probes(mesh: "Mesh") -> list[tuple[Where, str]]:
    """Who brings data of their own brings the probes too."""
    if mesh.task.probes.data is None:
        return []
    sources = (peer.data or mesh.task.data for peer in mesh.peers)
    own = next((source for source in sources if ":" in source), None)
    why = f"means nothing to {own}, which has its own: only to digits, mnist and fashion-mnist"
    return [(("task", "probes", "data"), why)] if own else []


def _check_image_size(mesh: "Mesh") -> list[tuple[Where, str]]:
    """What can be known of images before they are loaded."""
    places: dict[Where, None] = {}
    for i, peer in enumerate(mesh.peers):
        small = (peer.data or mesh.task.data) == "digits"
        if small and (peer.model or mesh.task.model) == "lenet5":
            places[("peers", i, "model") if peer.model else ("task", "model")] = None
    return [
        (where, "lenet5 needs images of 12 × 12 or more, digits have 8 × 8") for where in places
    ]


def check_choice(mesh: "Mesh") -> list[tuple[Where, str]]:
    """All must choose by the same consensus; on a graph that stands."""
    if mesh.method.select == "random":
        return []
    neighbours = graph.adjacency(mesh.names, edges_of(mesh.graph, mesh.names, mesh.seed))
    others = len(mesh.names) - 1
    if all(count == others for count in graph.how_many_heard(neighbours, mesh.hops).values()):
        return []
    return [(("method", "select"), f"{mesh.method.select} {NOT_COMMON}")]


SECTIONS_AGREE = (
    _check_account,
    _check_models,
    _check_hub,
    _check_pool,
    _check_select,
    _check_probes,
    _check_image_size,
)

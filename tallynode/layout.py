"""Who neighbours whom in a configured mesh, and what that means for its tally."""

from collections.abc import Mapping
from dataclasses import dataclass

from tallynode.config import Mesh
from tallynode.config_graph import edges_of
from tallynode.protocol import graph

EDGELESS = ("local", "centralised")  # methods that exchange nothing


@dataclass(frozen=True, slots=True)
class Layout:
    """The graph of one mesh."""

    neighbours: Mapping[str, tuple[str, ...]]  # of each peer, sorted
    heard: Mapping[str, int]  # other peers whose ballots can reach each peer
    common: bool  # whether every peer hears every other
    alike: Mapping[str, tuple[str, ...]]  # the neighbours that have the model of each peer

    @classmethod
    def of(cls, mesh: Mesh) -> "Layout":
        """Lay the mesh's graph out."""
        neighbours = graph.adjacency(mesh.names, edges(mesh))
        heard = graph.how_many_heard(neighbours, mesh.hops)
        others = len(mesh.names) - 1
        model = {peer.name: peer.model or mesh.task.model for peer in mesh.peers}
        alike = {n: tuple(o for o in of if model[o] == model[n]) for n, of in neighbours.items()}
        return cls(neighbours, heard, all(count == others for count in heard.values()), alike)

    def warnings(self) -> list[str]:
        """What a person should know of this graph before they trust its tally, in plain words."""
        if len(self.heard) < 2:
            return []
        alone = [name for name, count in self.heard.items() if not count]
        two = [name for name, count in self.heard.items() if count == 1]
        loose = [n for n, of in self.neighbours.items() if len(of) == 1 and n not in two]
        pieces = [piece for piece in self._pieces() if len(piece) > 1]
        said = {
            ("hear", "nobody: nothing to tally, private data is all there is to learn from"): alone,
            ("hear", "one peer only: two ballots cannot tell who is right where they differ"): two,
            ("have", "one neighbour only: where that one falls out, nobody is heard"): loose,
        }
        found = [_says(names, *words) for words, names in said.items() if names]
        if len(pieces) > 1:
            parts = "; ".join(map(listed, pieces))
            found.append(f"the graph is in pieces, each tallies on its own: {parts}")
        return found

    def _pieces(self) -> list[list[str]]:
        left, pieces = list(self.neighbours), []
        while left:
            piece = sorted(graph.distances(left[0], self.neighbours))
            pieces.append(piece)
            left = [name for name in left if name not in piece]
        return pieces


def edgeless(mesh: Mesh) -> Mesh:
    """The same peers without any exchange, each with its own data."""
    alone: dict[str, object] = {
        "graph": mesh.graph.model_copy(update={"kind": "custom", "edges": ()}),
        "method": mesh.method.model_copy(update={"select": "random"}),  # there is nothing to heed
    }
    if mesh.method.name == "centralised":
        alone["method"] = mesh.method.model_copy(update={"name": "local"})
    return mesh.model_copy(update=alone)


def _says(names: list[str], verb: str, what: str) -> str:
    singular = {"hear": "hears", "have": "has"}[verb]
    return f"{listed(names)} {verb if len(names) > 1 else singular} {what}"


def listed(names: list[str]) -> str:
    """The first few of these names, and how many more there are."""
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def edges(mesh: Mesh) -> graph.Edges:
    """Who neighbours whom in this mesh."""
    if mesh.method.name in EDGELESS:
        return frozenset()
    return edges_of(mesh.graph, mesh.names, mesh.seed)

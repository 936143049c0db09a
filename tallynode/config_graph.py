"""The section `graph` of topology.yaml: who neighbours whom, and whether that fits the peers."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from tallynode import config_fields as fields
from tallynode.config_sections import Section
from tallynode.config_yaml import Where, nearest
from tallynode.protocol import graph as kinds

_GRAPH_KEYS: dict[str, tuple[str, ...]] = {
    "ring": (),
    "torus": ("rows", "cols"),
    "small-world": ("degree", "rewire"),
    "random-regular": ("degree",),
    "complete": (),
    "star": (),
    "custom": ("edges",),
}


def _pair(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2:
        fields.refuse(f"should be a pair of peers, such as [a, b], not {value!r}")
    return value


Edge = Annotated[tuple[fields.Name, fields.Name], BeforeValidator(_pair)]


class Graph(Section):
    """Who neighbours whom: the kind and exactly the parameters of that kind."""

    kind: Literal["ring", "torus", "small-world", "random-regular", "complete", "star", "custom"]
    rows: fields.Count | None = None
    cols: fields.Count | None = None
    degree: fields.Count | None = None  # neighbours of each peer
    rewire: fields.Share | None = None  # share of the edges that lead far
    edges: tuple[Edge, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, dict) and "edges" in value and "kind" not in value:
            return {"kind": "custom", **value}
        return value

    @model_validator(mode="after")
    def _parameters_of_kind(self) -> Self:
        wanted = _GRAPH_KEYS[self.kind]
        given = self.parameters()
        problems: list[tuple[Where, str]] = [
            ((key,), f"is missing: a {self.kind} graph needs it")
            for key in wanted
            if key not in given
        ]
        problems += [
            ((key,), f"does not belong to a {self.kind} graph")
            for key in given
            if key not in wanted
        ]
        fields.refuse_all(problems)
        return self

    def parameters(self) -> dict[str, Any]:
        """Return the parameters beside the kind: rows, cols, degree, rewire or edges."""
        return {key: value for key, value in self if key != "kind" and value is not None}


def edges_of(graph: Graph, names: Sequence[str], seed: int) -> kinds.Edges:
    """Who neighbours whom among peers of these names, in a graph that fits them."""
    match graph.kind:
        case "ring":
            return kinds.ring(names)
        case "torus":
            return kinds.torus(names, graph.rows or 0, graph.cols or 0)
        case "small-world":
            return kinds.small_world(names, graph.degree or 0, graph.rewire or 0.0, seed)
        case "random-regular":
            return kinds.random_regular(names, graph.degree or 0, seed)
        case "complete":
            return kinds.complete(names)
        case "star":
            return kinds.star(names)
        case "custom":
            return kinds.of_pairs(graph.edges or ())


def check_graph(graph: Graph, names: Sequence[str]) -> list[tuple[Where, str]]:
    """Problems of a graph over peers of these names, each at its place in the file."""
    n, degree = len(names), graph.degree or 0
    if graph.kind == "custom":
        return _check_edges(graph.edges or (), names)
    why = ""
    if graph.kind == "torus" and (graph.rows or 0) * (graph.cols or 0) != n:
        return [(("graph",), f"a torus of {graph.rows} × {graph.cols} does not hold {n} peers")]
    if graph.kind == "small-world" and (degree % 2 or not 2 <= degree < n):
        why = f"should be even and from 2 to {n - 1} among {n} peers"
    least = 1 if n == 2 else 2  # pairs that do not touch are no mesh
    if graph.kind == "random-regular" and (degree * n % 2 or not least <= degree < n):
        why = f"should be from {least} to {n - 1} among {n} peers, and peers × degree even"
    return [(("graph", "degree"), f"{why}, not {degree}")] if why else []


def _check_edges(edges: Sequence[tuple[str, str]], names: Sequence[str]) -> list[tuple[Where, str]]:
    problems: list[tuple[Where, str]] = []
    seen: dict[frozenset[str], int] = {}
    for i, edge in enumerate(edges):
        where: Where = ("graph", "edges", i)
        for end in (0, 1):
            if edge[end] not in names:
                close = nearest(edge[end], list(names))
                problems.append(((*where, end), f"'{edge[end]}' is not a peer{close}"))
        if edge[0] == edge[1]:
            problems.append((where, f"joins '{edge[0]}' to itself"))
        first = seen.setdefault(frozenset(edge), i)
        if first != i:
            problems.append((where, f"is the same edge as graph.edges[{first}]"))
    return problems

"""A bench file: methods × data sets × skews × sizes × seeds, each of them a mesh to run.

A bench states one base mesh, and what each data set and each method changes in it, at the keys of
topology.yaml: whatever a topology can say, a method can. Every mesh is built when the file is read,
so that a wrong key or value is an error with file:line:column before anything runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from tallynode import config_fields as fields
from tallynode.config import Mesh, topology_dir
from tallynode.config_problems import Finding, findings
from tallynode.config_sections import Section, Task
from tallynode.config_yaml import Where, read_document
from tallynode.errors import ConfigError
from tallynode.protocol import limits

NAME_MAX = 48  # characters of a method's name: a line of a table and of a legend
RUNS_MAX = 10_000  # of a bench; more is a slip of the finger
SOURCE = Task.model_fields["data"].default
WHOLE = ("graph", "peers")  # sections that a change replaces: their keys belong together
AXES: dict[Where, str] = {  # keys that a bench sets itself, and from what
    ("mesh",): "bench",
    ("seed",): "seeds",
    ("task", "partition", "dirichlet"): "alpha",
}

Changes = Mapping[str, Any]
Layer = tuple[Where, Changes]  # where it stands in the file, and the sections that it states


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [value.name if isinstance(value, Variant) else value for value in values]
    twice = [
        ((i,), f"{name} stands here twice") for i, name in enumerate(names) if name in names[:i]
    ]
    fields.refuse_all(twice)
    return values


def _named(value: object) -> object:
    """A bare name of a data set is the set of that name."""
    return {"name": value, "task": {"data": value}} if isinstance(value, str) else value


def _title(value: str) -> str:
    if not 1 <= len(value) <= NAME_MAX or not value.isprintable():
        fields.refuse(f"should be 1 to {NAME_MAX} printable characters, not {value!r}")
    return value


Title = Annotated[str, AfterValidator(_title)]
Alpha = Annotated[
    fields.Positive | Literal["iid"],
    Field(union_mode="left_to_right"),
    fields.either("a number above 0, or iid"),
]
Size = Annotated[fields.Count, Field(le=limits.PEERS_MAX)]


class Variant(Section):
    """A data set or a method: its name, and what it changes in the base mesh."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Title

    @property
    def changes(self) -> Changes:
        """Sections of topology.yaml, as far as this variant states them."""
        return self.model_extra or {}


class MethodVariant(Variant):
    """A method, which may be one of several operating points."""

    group: Title | None = None  # of these; they share a colour


class BenchFile(Section):
    """The file, key by key."""

    bench: fields.Name
    mesh: dict[str, Any] = Field(default_factory=dict)  # topology.yaml without its name and seed
    data: Annotated[
        tuple[Annotated[Variant, BeforeValidator(_named)], ...],
        Field(min_length=1),
        AfterValidator(_distinct),
    ]
    alpha: Annotated[tuple[Alpha, ...], Field(min_length=1), AfterValidator(_distinct)]
    peers: Annotated[tuple[Size, ...], Field(min_length=1), AfterValidator(_distinct)]
    seeds: Annotated[tuple[fields.Seed, ...], Field(min_length=1), AfterValidator(_distinct)]
    methods: Annotated[tuple[MethodVariant, ...], Field(min_length=1), AfterValidator(_distinct)]
    targets: Annotated[tuple[fields.Share, ...], AfterValidator(_distinct)] = ()  # accuracies

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        axes = (self.data, self.alpha, self.peers, self.seeds, self.methods)
        runs = prod(len(axis) for axis in axes)
        if runs > RUNS_MAX:
            fields.refuse(f"asks for {runs} runs, more than {RUNS_MAX}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What methods are compared on: one picture, one part of the table."""

    data: str
    peers: int
    alpha: str

    @property
    def title(self) -> str:
        """As a person reads it."""
        skew = "IID" if self.alpha == "iid" else f"α = {self.alpha}"
        return f"{self.data}, {self.peers} peers, {skew}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One run of a bench."""

    panel: Panel
    method: str
    seed: int
    mesh: Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A whole bench, checked."""

    name: str
    groups: Mapping[str, str]  # of each method, in the order of the file
    targets: tuple[float, ...]  # empty: chosen from the results
    runs: tuple[Planned, ...]


def load_bench(path: Path) -> Bench:
    """Read a bench file and build every mesh that it asks for.

    Raises:
        ConfigError: one line `file:line:column: field.path: message` for everything wrong in it.
    """
    document = read_document(path)
    problems = list(document.problems)
    runs: list[Planned] = []
    try:
        read = BenchFile.model_validate(document.data)
        found = list(_misplaced(read))
        if not found:
            runs, found = _planned(read, path.absolute().parent)
    except ValidationError as error:
        found = findings(error, BenchFile)
    problems += [finding.problem(document) for finding in found]
    if problems:
        lines = dict.fromkeys(problem.line(str(path)) for problem in sorted(problems))
        raise ConfigError("\n".join(lines))
    groups = {of.name: of.group or of.name.partition(",")[0] for of in read.methods}
    return Bench(name=read.bench, groups=groups, targets=read.targets, runs=tuple(runs))


def bench_dir() -> Path:
    """Return the folder of the ready-made benches, in an installed package or in a checkout."""
    return topology_dir().parent / "benches"


def merged(plain: Changes, changes: Changes) -> dict[str, Any]:
    """The sections with the changes in them, key by key; a graph and peers change as a whole."""
    result = dict(plain)
    for key, value in changes.items():
        old = result.get(key)
        if key in WHOLE or old is None or not isinstance(value, Mapping):
            result[key] = value
        elif isinstance(old, Mapping):
            result[key] = merged(old, value)  # else: no mapping where one should be, to be refused
    return result


def _misplaced(read: BenchFile) -> Iterator[Finding]:
    """Keys that the bench sets itself for every run, stated again where it would undo them."""
    for layer, changes in _layers(read):
        axes = AXES if layer[0] == "methods" else {**AXES, ("peers",): "peers"}
        for key, axis in axes.items():
            if _holds(changes, key):
                yield Finding((*layer, *key), f"is set for each run, from `{axis}`", "key")


def _layers(read: BenchFile) -> Iterator[Layer]:
    yield ("mesh",), read.mesh
    for axis, variants in (("data", read.data), ("methods", read.methods)):
        yield from (((axis, i), variant.changes) for i, variant in enumerate(variants))


def _holds(changes: object, where: Where) -> bool:
    """Whether something stands at these keys."""
    for part in where:
        if isinstance(changes, list) and isinstance(part, int):
            changes = dict(enumerate(changes))
        if not isinstance(changes, Mapping) or part not in changes:
            return False
        changes = changes[part]
    return True


def _planned(read: BenchFile, base: Path) -> tuple[list[Planned], list[Finding]]:
    """Every run with its mesh, or what is wrong with the meshes."""
    runs: list[Planned] = []
    found: list[Finding] = []
    places = product(enumerate(read.data), read.peers, read.alpha, enumerate(read.methods))
    for (d, data), peers, alpha, (m, method) in places:
        layers: list[Layer] = [
            (("mesh",), read.mesh),
            (("data", d), data.changes),
            (("methods", m), method.changes),
        ]
        skew = {"dirichlet": None if alpha == "iid" else alpha}
        own = {"mesh": read.bench, "peers": peers, "task": {"partition": skew}}
        shared = reduce(merged, (data.changes, own), merged({}, read.mesh))
        plain = merged(shared, method.changes)
        panel = Panel(data=data.name, peers=peers, alpha=_written(alpha))
        try:
            for seed in read.seeds:
                mesh = Mesh.model_validate({**plain, "seed": seed}, context={"base": base})
                if not mesh.rounds.count:
                    endless = Finding(("rounds", "count"), "is 0, for ever: a run needs an end")
                    found.append(_moved(endless, layers))
                found += [_moved(finding, layers) for finding in _strayed(shared, plain, mesh)]
                runs.append(Planned(panel=panel, method=method.name, seed=seed, mesh=mesh))
        except ValidationError as error:  # another seed is wrong in the same way
            found += [_moved(finding, layers) for finding in findings(error, Mesh)]
    return runs, found


def _strayed(shared: Changes, plain: Changes, mesh: Mesh) -> Iterator[Finding]:
    """What a method's mesh has otherwise than its panel says, who could not be compared with it."""
    count = len(mesh.peers)
    if count != shared["peers"]:
        yield Finding(("peers",), f"are {count}, and the panel is of {shared['peers']}")
    source, own = (of["task"].get("data", SOURCE) for of in (shared, plain))
    if own != source:
        yield Finding(("task", "data"), f"is {own}, and the panel is on {source}")
    for i, peer in enumerate(mesh.peers):
        if peer.data not in (None, mesh.task.data):
            yield Finding(("peers", i, "data"), f"is {peer.data}, and the panel is on {source}")


def _written(alpha: float | str) -> str:
    return alpha if isinstance(alpha, str) else f"{alpha:g}"


def _moved(finding: Finding, layers: Sequence[Layer]) -> Finding:
    """What is wrong with a mesh, where the bench says it: the last place that comes nearest."""
    where = finding.where
    for length in range(len(where), 0, -1):
        for layer, changes in reversed(layers):
            if _holds(changes, where[:length]):
                return finding._replace(where=(*layer, *where))
    return finding._replace(where=(*layers[-1][0], *where))

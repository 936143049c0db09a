"""YAML text to plain data that remembers where every key and value stood.

The file is a person's, so that an error must say where: file:line:column. It may also come from
elsewhere, so that reading it is bounded: size, nesting, no aliases (a few lines of them unfold to
gigabytes) and no tags (which name Python types). Plain scalars follow YAML 1.2's core schema and
not 1.1's: a peer may be named `no` or `on`, `1e-3` is a number and `010` is ten.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from tallynode.errors import ConfigError

FILE_BYTES_MAX = 1 << 20  # bytes; a complete graph of 256 peers, edge by edge, fits
DEPTH_MAX = 16  # nested collections; bounds the recursion below

Where = tuple[str | int, ...]  # keys and indices from the root: ("peers", 2, "name")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser where PyYAML has it
_CORE: tuple[tuple[re.Pattern[str], Callable[[str], object]], ...] = (
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"[-+]?[0-9]{1,100}"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)"), lambda text: float(text.replace(".", ""))),
    (re.compile(r"\.(nan|NaN|NAN)"), lambda text: float("nan")),
)


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the file, counted from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, mark: Any) -> "Mark":  # PyYAML has two classes of marks, its own and libyaml's
        """Take over PyYAML's mark, which counts from 0."""
        return cls(mark.line + 1, mark.column + 1)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with the file."""

    mark: Mark
    where: str  # field path as written to the person: peers[2].name; empty for the whole file
    why: str

    def line(self, name: str) -> str:
        """Return the line that the person reads."""
        place = f"{name}:{self.mark.line}:{self.mark.column}: "
        return place + (f"{self.where}: {self.why}" if self.where else self.why)


@dataclass(slots=True)
class Document:
    """The file as plain data, with the places of its keys and values."""

    data: object = None
    keys: dict[Where, Mark] = field(default_factory=dict)
    values: dict[Where, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value_mark(self, where: Where) -> Mark:
        """Return where the value stands, or else the nearest one around it."""
        while where and where not in self.values:
            where = where[:-1]
        return self.values.get(where, Mark(1, 1))

    def key_mark(self, where: Where) -> Mark:
        """Return where the key stands, or else the value, or the nearest one around it."""
        return self.keys.get(where) or self.value_mark(where)


class _RefusedError(Exception):
    def __init__(self, mark: Mark, why: str) -> None:
        super().__init__(why)
        self.problem = Problem(mark, "", why)


def read_document(path: Path) -> Document:
    """Read a YAML file; ConfigError with file:line:column where it is not YAML of our kind."""
    text = _read_text(path)
    try:
        _check_bounds(text)
        root = yaml.compose(text, Loader=_LOADER)
    except _RefusedError as refused:
        raise ConfigError(refused.problem.line(str(path))) from None
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_problem(error, text).line(str(path))) from None
    document = Document()
    if root is not None:
        document.data = _convert(root, (), document)
    return document


class _Dumper(yaml.SafeDumper):
    """Writes plain data as this file reads them, which YAML 1.1 would not."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Quote what would be read as something else: 08 and 1e3 are numbers here."""
        quoted = any(pattern.fullmatch(text) for pattern, _ in _CORE)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'" if quoted else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def written(plain: object) -> str:
    """Return plain data as YAML that is read as equal ones."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False)


def dotted(where: Where) -> str:
    """Write a place as a person would: peers[2].name."""
    path = ""
    for part in where:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def nearest(word: str, known: list[str]) -> str:
    """Return `; did you mean 'x'?` for the known name most like this one, or nothing."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {FILE_BYTES_MAX} bytes: not a topology file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        mark = Mark(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise ConfigError(Problem(mark, "", "not UTF-8 text").line(str(path))) from error


def _check_bounds(text: str) -> None:
    # On the flat stream of events, before anything recurses or unfolds.
    depth = 0
    documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        mark = Mark.of(event.start_mark)
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if documents > 1:
            raise _RefusedError(mark, "a second document (---) in one file")
        if depth > DEPTH_MAX:
            raise _RefusedError(mark, f"nested more than {DEPTH_MAX} deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _RefusedError(mark, "anchors and aliases (& and *) are not used here")
        if isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None):
            raise _RefusedError(mark, "tags (!) are not used here")


def _yaml_problem(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        why = ", ".join(part for part in (error.context, error.problem) if part)
        return Problem(Mark.of(error.problem_mark), "", f"not valid YAML: {why}")
    position = getattr(error, "position", 0)
    before = text[:position]
    mark = Mark(before.count("\n") + 1, position - before.rfind("\n"))
    return Problem(mark, "", "not valid YAML: a control character")


def _convert(node: yaml.Node, where: Where, document: Document) -> object:
    document.values[where] = Mark.of(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return _convert_mapping(node, where, document)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*where, i), document) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode) or node.style:
        return str(node.value)  # quoted and block text stays text
    for pattern, make in _CORE:
        if pattern.fullmatch(node.value):
            return make(node.value)
    return str(node.value)


def _convert_mapping(node: yaml.MappingNode, where: Where, document: Document) -> dict[str, object]:
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        mark = Mark.of(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(Problem(mark, dotted(where), "a key should be a word"))
            continue
        key = str(key_node.value)
        here = (*where, key)
        if key in mapping:
            first = document.keys[here]
            why = f"this key was already given at line {first.line}, column {first.column}"
            document.problems.append(Problem(mark, dotted(here), why))
            continue
        document.keys[here] = mark
        mapping[key] = _convert(value_node, here, document)
    return mapping

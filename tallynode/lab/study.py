"""Many virtual runs that answer one question: a grid of cases, run once each and remembered.

A case is a mesh and what it is called in the tables. What it came to is one JSON line in the
study's file, under the digest of the whole configuration; a study that is stopped goes on where it
was, and one that is asked for more runs only what is new.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from rich.console import Console

from tallynode.config import Mesh
from tallynode.lab.code import code_digest, tell_of_other_code
from tallynode.lab.figures import mean
from tallynode.lab.lines import append, end_line, lines_of
from tallynode.lab.pool import Case, in_pool
from tallynode.lab.records import Record, payload_total
from tallynode.lab.virtual import records_of
from tallynode.lab.work import Disguise, themselves
from tallynode.protocol.settings import CONTENTS, PAYLOADS

T = TypeVar("T")

WARMED_UP = 3  # rounds after which gossip has found its tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run came to; means over the peers."""

    accuracy: float  # after the last round
    worst: float  # the peer that ended lowest
    tally_accuracy: float | None
    payload_bytes: float  # a peer a round, relays and control included
    by_round: list[float]
    copies: float | None  # of each ballot that a peer received, once gossip had found its tree
    tally: list[Mapping[str, Any]]  # of the last round, a peer each; see learning/diagnose.py


def run_case(
    mesh: Mesh, names: Sequence[str] | None = None, disguise: Disguise = themselves
) -> Result:
    """Run one mesh in this process; sum up what these peers came to, or all."""
    records = records_of(mesh, disguise)
    names = mesh.names if names is None else names
    series = {name: [r for r in records if r["peer"] == name] for name in names}
    last = [of[-1] for of in series.values()]
    scores = [of["accuracy"] for of in last if of["accuracy"] is not None]
    tallied = [of["tally_accuracy"] for of in last if of["tally_accuracy"] is not None]
    count = min(map(len, series.values()))
    return Result(
        accuracy=mean(scores),
        worst=min(scores),
        tally_accuracy=mean(tallied) if tallied else None,
        payload_bytes=sum(map(payload_total, last)) / sum(map(len, series.values())),
        by_round=[mean([of[i]["accuracy"] or 0.0 for of in series.values()]) for i in range(count)],
        copies=_copies(series, PAYLOADS[CONTENTS[mesh.method.name]]),
        tally=[of["tally"] for of in last if of["tally"]],
    )


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How a result is written, as fields of a line, and how they are read again."""

    fields: Callable[[T], Mapping[str, Any]]
    read: Callable[[Mapping[str, Any]], T]  # KeyError: the line lacks something


def study(
    cases: Sequence[Case],
    file: Path,
    *,
    jobs: int,
    console: Console,
    run: Callable[[Mesh], Result] = run_case,
) -> dict[tuple[object, ...], list[Result]]:
    """What every case came to, as of `remembered`."""
    return remembered(cases, file, run, Form(asdict, _result), jobs=jobs, console=console)


def remembered(
    cases: Sequence[Case],
    file: Path,
    run: Callable[[Mesh], T],
    form: Form[T],
    *,
    jobs: int,
    console: Console,
) -> dict[tuple[object, ...], list[T]]:
    """Run what `file` does not hold yet; all results by label, in the order of the cases.

    A file is of one way to run a mesh: its keys are those of the configurations. Results of other
    code are taken, and that is said: to run all anew takes hours, and few changes touch them. A
    line that lacks what a result has today is of no use, and is run again.
    """
    known = dict(_known(file, form))
    code, used = code_digest(), {case.key for case in cases if case.key in known}
    tell_of_other_code(file, "key", used, console)
    todo = list({case.key: case for case in cases if case.key not in known}.values())
    if todo:
        end_line(file)

        def keep(case: Case, result: T) -> None:
            known[case.key] = result
            append(
                file, [{"key": case.key, "label": case.label, "code": code, **form.fields(result)}]
            )

        in_pool(todo, run, keep, jobs=jobs, console=console)
    found: dict[tuple[object, ...], list[T]] = {}
    for case in cases:
        found.setdefault(case.label, []).append(known[case.key])
    return found


def _known(file: Path, form: Form[T]) -> Iterator[tuple[str, T]]:
    for line in lines_of(file):
        with suppress(KeyError):
            yield line["key"], form.read(line)


def _result(line: Mapping[str, Any]) -> Result:
    return Result(**{name: line[name] for name in Result.__dataclass_fields__})


def _copies(series: Mapping[str, Sequence[Record]], payload: str) -> float | None:
    """Received ballots over the new ones, in bytes of their class, after the first rounds."""
    first = later = 0
    for records in series.values():
        if len(records) <= WARMED_UP:
            return None
        early, last = records[WARMED_UP - 1]["payload_received"], records[-1]["payload_received"]
        first += last[payload] - early[payload]
        later += last["duplicate"] - early["duplicate"]
    return (first + later) / first if first else None

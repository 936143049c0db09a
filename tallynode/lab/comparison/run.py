"""`tallynode bench`: run what is not known yet, and write tables, pictures and the page."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tallynode.config import Mesh
from tallynode.config_bench import Bench, Panel, Planned
from tallynode.errors import ConfigError, DataError, DivergedError, IoError
from tallynode.lab import page
from tallynode.lab.bench import machine
from tallynode.lab.code import tell_of_other_code
from tallynode.lab.comparison import pictures, written
from tallynode.lab.comparison.rounds import Round, case_of, known, lines, play
from tallynode.lab.comparison.table import Part, parts_of
from tallynode.lab.lines import append, end_line
from tallynode.lab.pool import Case, in_pool
from tallynode.lab.records import format_bytes, format_share
from tallynode.lab.summary import write_text
from tallynode.lab.svg import svg_file
from tallynode.learning.data import prefetch

FEW = 100  # times fewer bytes than the best takes: who does best with so little, in the headlines

Refusal = ConfigError | DataError
Refused = dict[tuple[Panel, str], Refusal]  # by panel and method, whatever its other seeds did


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    file: Path
    out: Path
    jobs: int
    json_output: bool
    command: Sequence[str]


def run_bench(of: Bench, options: Options) -> None:
    """Run a bench to its end, and write and print what it comes to.

    Raises:
        IoError: the folder cannot be written.
        ConfigError, DataError: a method does not run on its mesh, once all others are written down.
    """
    console = Console(stderr=options.json_output, markup=False, emoji=False)
    began = time.monotonic()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IoError(f"{options.out}: cannot be made: {error.strerror}") from error
    write_text(options.out / "bench.yaml", options.file.read_text(encoding="utf-8"))
    runs, refused = _run(of, options, console)
    parts = parts_of(of, runs)
    summary = {
        "bench": of.name,
        "command": shlex.join(options.command),
        "date": datetime.now().isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - began, 1),
        "machine": machine(),
        "parts": [written.as_json(part) for part in parts],
        "refused": [
            {"method": method, "panel": panel.title, "why": str(why)}
            for (panel, method), why in refused.items()
        ],
    }
    _write(of, options.out, parts, summary)
    _show(parts, options.out, console)
    if options.json_output:
        print(json.dumps(summary, indent=2))
    if refused:
        whys = "\n".join(f"  {m}: on {panel.title}: {why}" for (panel, m), why in refused.items())
        kind = type(next(iter(refused.values())))
        raise kind(f"these could not run, all others are in {options.out}:\n{whys}")


def _run(
    of: Bench, options: Options, console: Console
) -> tuple[list[tuple[Planned, list[Round]]], Refused]:
    """What every run came to, those of earlier calls included, and which methods cannot run."""
    file = options.out / "rounds.jsonl"
    done = known(file)
    cases = [case_of(run) for run in of.runs]
    planned = {case.key: run for case, run in zip(cases, of.runs, strict=True)}
    todo = [case for key, case in {each.key: each for each in cases}.items() if key not in done]
    if any(case.key in done for case in cases):
        count = f"{sum(case.key in done for case in cases)} of {len(cases)} runs"
        console.print(f"{count} are in {options.out} already")
    tell_of_other_code(file, "run", planned.keys() & done.keys(), console)
    refused: Refused = {}

    def keep(case: Case, found: list[Round] | Refusal) -> None:
        run = planned[case.key]
        if isinstance(found, Refusal):
            if isinstance(found, DivergedError):  # which other seeds need not
                found = DivergedError(f"seed {run.seed}: {found}")
            refused.setdefault((run.panel, run.method), found)
            return
        done[case.key] = found
        append(file, lines(case.key, run, found))

    if todo:
        for settings in {run.mesh.data_settings(0) for run in of.runs}:
            prefetch(settings, console.print)
        end_line(file)
        try:
            in_pool(todo, _played, keep, jobs=options.jobs, console=console)
        except KeyboardInterrupt:
            count = f"{sum(case.key in done for case in cases)} of {len(cases)} runs"
            what = f"stopped with {count} in {options.out}; the same command goes on from there"
            console.print(what)
            raise
    runs = [  # without the lucky seeds of a method that diverged: their mean would flatter it
        (run, done[case.key])
        for case, run in zip(cases, of.runs, strict=True)
        if case.key in done and (run.panel, run.method) not in refused
    ]
    return runs, refused


def _played(mesh: Mesh) -> list[Round] | Refusal:
    """A run, or why there is none; a method's refusal must not cost the other runs."""
    try:
        return play(mesh)
    except (ConfigError, DataError) as error:
        return error


def _write(of: Bench, out: Path, parts: Sequence[Part], summary: Mapping[str, Any]) -> None:
    """Tables, pictures and the page."""
    write_text(out / "bench.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_text(out / "table.csv", written.as_csv(parts))
    drawn = []
    for number, part in enumerate(parts, 1):
        for name, picture in (("bytes", _over_bytes(of, part)), ("classes", _by_class(part))):
            write_text(out / f"{name}-{number}.svg", svg_file(picture.svg))
            drawn.append(picture)
    html = page.render(
        "bench.html.j2",
        run={
            "name": of.name,
            "command": summary["command"],
            "date": summary["date"],
            "versions": summary["machine"]["versions"],
            "cores": summary["machine"]["cores"],
        },
        headlines=_headlines(parts),
        pictures=drawn,
        parts=parts,
        written=written,
        refused=summary["refused"],
    )
    write_text(out / "report.html", html)


def _over_bytes(of: Bench, part: Part) -> page.Picture:
    caption = (
        "Each line is a method, round by round, mean of the seeds; the mark is where it ends, ± "
        "one deviation. Ringed: no other method is as accurate at no more bytes. Lines "
        "may begin below the picture."
    )
    title = f"Accuracy over bytes: {part.panel.title}"
    return page.Picture(title, pictures.accuracy_by_bytes(part, of.groups), caption, wide=True)


def _by_class(part: Part) -> page.Picture:
    caption = "Recall of each class at the end, in per cent; mean of the peers and seeds."
    title = f"By class: {part.panel.title}"
    return page.Picture(title, pictures.recall_by_class(part), caption, wide=True)


def _headlines(parts: Sequence[Part]) -> list[page.Headline]:
    """The bench in a few numbers: what was run, and who did best where it is hardest."""
    rows = [row for part in parts for row in part.rows]
    methods = page.count(len({row.method for row in rows}), "method")
    runs = page.Headline(
        f"{sum(row.seeds for row in rows)}",
        "runs",
        f"{methods}, {page.count(len(parts), 'panel')}",
    )
    if not all(part.rivals for part in parts) or not parts:
        return [runs]
    part = min(parts, key=lambda part: max(row.accuracy.mean for row in part.rivals))
    best = max(part.rivals, key=lambda row: row.accuracy.mean)
    within = [row for row in part.rivals if row.sent.mean * FEW <= best.sent.mean]
    cheap = max(within, key=lambda row: row.accuracy.mean, default=None)
    found = [
        page.Headline(
            format_share(best.accuracy.mean), "best", f"{best.method}; {part.panel.title}"
        ),
        page.Headline(format_bytes(best.sent.mean), "payload of it", "a peer, whole run"),
    ]
    if cheap and best.sent.mean:
        found.append(
            page.Headline(
                format_share(cheap.accuracy.mean),
                f"for {format_bytes(cheap.sent.mean)}",
                f"{cheap.method}: best at 1/{FEW} of its bytes",
            )
        )
    return [*found, runs]


def _show(parts: Sequence[Part], out: Path, console: Console) -> None:
    for part in parts:
        console.print(written.table(part, console.width))
    console.print(Text(written.NOTE, style="dim"))
    console.print(Text(f"report: {out / 'report.html'}", overflow="fold", no_wrap=False))

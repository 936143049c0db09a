"""`tallynode simulate`: a whole mesh on this machine, watched, summed up and drawn."""

import json
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from rich.console import Console

from tallynode import advice, assemble
from tallynode.config import Mesh
from tallynode.edge.journal import append_line
from tallynode.errors import IoError
from tallynode.lab import summary as sums
from tallynode.lab.processes import ProcessMesh, peer_folder, sigterm_as_ctrl_c
from tallynode.lab.records import Record, ended
from tallynode.lab.report import render_report, summary_lines
from tallynode.lab.table import LiveTable
from tallynode.lab.virtual import accuracy_alone, run_virtual
from tallynode.layout import Layout, edges
from tallynode.learning.data import prefetch
from tallynode.protocol.settings import CONTENTS

REALM_STEM = 20  # characters of the mesh's name; a realm has at most 32
POLL_S = 0.2  # seconds between two looks at the peers' files
RESTART_AFTER_S = 1.0  # seconds a killed peer stays down with --restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    out: Path
    baseline: bool
    virtual: bool
    restart: bool
    jobs: int  # processes that train, of a virtual mesh and of the baseline
    json_output: bool
    command: Sequence[str]


def local(mesh: Mesh) -> Mesh:
    """The same mesh on one machine: outboxes on loopback at free ports, found by mDNS, no keys."""
    realm = f"{mesh.mesh[:REALM_STEM]}-{secrets.token_hex(4)}"  # other runs here are not met
    only_here = {"id": None, "address": None, "port": None}
    changes: dict[str, object] = {
        "listen": "127.0.0.1",
        "insecure": mesh.insecure if mesh.shared_broker else "loopback",
        "discovery": realm,
        "peers": tuple(peer.model_copy(update=only_here) for peer in mesh.peers),
    }
    return mesh.model_copy(update=changes)


def simulate(mesh: Mesh, options: Options) -> sums.Summary:
    """Run every peer of the mesh here and write the run folder.

    Raises:
        IoError: the run folder cannot be made, or not all of the run could be written into it.
        DataError: the data cannot be loaded.
        ConfigError: the method needs a virtual mesh.
    """
    if not options.virtual:
        assemble.refuse_pooling(mesh)
    mesh = local(mesh)
    _make_run_folder(mesh, options.out)
    console = Console(stderr=options.json_output, markup=False, emoji=False)
    prefetch(mesh.data_settings(0), console.print)
    began, clock = datetime.now().astimezone(), time.monotonic()
    layout = Layout.of(mesh)
    first = assemble.parts(mesh, mesh.names[0], layout=layout)
    for warning in advice.warnings(mesh, layout):
        console.print(warning, style="yellow")
    alone = _baseline(mesh, options.jobs, console) if options.baseline else {}
    started = time.monotonic()
    run = _run_virtual if options.virtual else _run_processes
    records, outcomes, lost = run(mesh, options, alone, console)
    info = sums.RunInfo(
        mesh=mesh.mesh,
        method=_title(mesh),
        seed=mesh.seed,
        broker="none" if options.virtual else mesh.broker,
        virtual=options.virtual,
        contents=CONTENTS[mesh.method.name],
        graph=mesh.graph.kind,
        peers=mesh.names,
        edges=sorted(edges(mesh)),
        classes=first.settings.classes,
        probes=first.settings.voted,
        parameters=first.method.parameters,
        started=began,
        wall_s=time.monotonic() - started,
        command=shlex.join(options.command),
        versions=sums.installed_versions(),
    )
    summary = sums.build_summary(info, outcomes, cast(list[Record], records))
    _tried(lambda: sums.write_summary(options.out, summary), lost)
    report = _tried(lambda: render_report(options.out, summary, cast(list[Record], records)), lost)
    console.print(summary_lines(summary, report))
    console.print(f"everything in {time.monotonic() - clock:.0f} s", style="dim")
    if lost:
        raise IoError("\n".join(map(str, lost)))
    return summary


def _tried(write: Callable[[], Path], lost: list[IoError]) -> Path | None:
    """Write a file of the run; where that fails, the others may still be written."""
    try:
        return write()
    except IoError as error:
        lost.append(error)
        return None


def _title(mesh: Mesh) -> str:
    """The method as a reader of the report knows it."""
    return f"tally/{mesh.method.tally}" if mesh.method.name == "tally" else mesh.method.name


def _make_run_folder(mesh: Mesh, out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / "rounds.jsonl").exists():
            raise IoError(f"{out}: holds another run; choose another folder with --out")
        (out / "topology.yaml").write_text(mesh.resolved(), encoding="utf-8")
    except OSError as error:
        raise IoError(f"{out}: cannot make the run folder: {error.strerror}") from error


def _baseline(mesh: Mesh, jobs: int, console: Console) -> dict[str, float]:
    console.print("baseline: the same peers, each alone …")
    return accuracy_alone(mesh, jobs)


@contextmanager
def _watched(
    mesh: Mesh, out: Path, alone: Mapping[str, float], console: Console
) -> Iterator["_Watch"]:
    """The live table and rounds.jsonl, fed together."""
    neighbours = Layout.of(mesh).neighbours
    table = LiveTable(
        mesh.names,
        rounds=mesh.rounds.count,
        neighbours={name: len(of) for name, of in neighbours.items()},
        alone=alone,
        console=console,
    )
    path = out / "rounds.jsonl"
    sums.write_text(path, "")
    with table:
        yield _Watch(table, path, console)


class _Watch:
    """Takes the peers' records in, and goes on without a disk that takes no more."""

    def __init__(self, table: LiveTable, path: Path, console: Console) -> None:
        self.table = table
        self.records: list[Mapping[str, Any]] = []
        self.lost: list[IoError] = []
        self._path = path
        self._console = console

    def take(self, record: Mapping[str, Any]) -> None:
        self.records.append(record)
        self.table.update(cast(Record, record))
        if self.lost:
            return
        try:
            append_line(self._path, json.dumps(record).encode() + b"\n")
        except OSError as error:
            why = f"{self._path}: cannot be written: {error.strerror}"
            self.lost.append(IoError(why))
            self._console.print(f"{why}; the run goes on", style="red", soft_wrap=True)


class Run(NamedTuple):
    """What the peers did."""

    records: list[Mapping[str, Any]]
    outcomes: list[sums.PeerOutcome]
    lost: list[IoError]  # what could not be written


def _run_virtual(mesh: Mesh, options: Options, alone: Mapping[str, float], console: Console) -> Run:
    counted: Mapping[str, Mapping[str, object]] = {}
    with sigterm_as_ctrl_c(), _watched(mesh, options.out, alone, console) as watch:
        try:
            counted = run_virtual(mesh, watch.take, jobs=options.jobs)
        except KeyboardInterrupt:
            console.print("stopping …")
        whole = {r["peer"] for r in watch.records if r["round"] == mesh.rounds.count}
        for name in mesh.names:
            watch.table.state(name, "done" if name in whole else "stopped")
    ends = {name: "finished" if name in whole else "stopped" for name in mesh.names}
    outcomes = [
        sums.PeerOutcome(name=name, exit=end, alone=alone.get(name)) for name, end in ends.items()
    ]
    return Run(ended(watch.records, counted), outcomes, watch.lost)


def _run_processes(
    mesh: Mesh, options: Options, alone: Mapping[str, float], console: Console
) -> Run:
    processes = ProcessMesh(mesh, options.out)
    with sigterm_as_ctrl_c(), _watched(mesh, options.out, alone, console) as watch:
        try:
            for name in mesh.names:
                processes.start(name)
            _watch_processes(mesh, options, processes, watch, console)
        except KeyboardInterrupt:
            console.print("stopping …")
        finally:
            processes.stop()
            for record in processes.new_records():
                watch.take(record)
            for name in mesh.names:
                _show_end(name, processes, watch)
    lives = processes.pids()  # what an earlier life of a peer has written is not of its last one
    written = {name: processes.outcome(name) for name in mesh.names}
    counted = {name: of for name, of in written.items() if of.get("pid") == lives.get(name)}
    outcomes = [_outcome(processes, name, alone) for name in mesh.names]
    return Run(ended(watch.records, counted), outcomes, watch.lost)


def _watch_processes(
    mesh: Mesh, options: Options, processes: ProcessMesh, watch: _Watch, console: Console
) -> None:
    """Until every process has ended, those too that somebody started again elsewhere."""
    told: set[int] = set()
    down: dict[str, float] = {}
    while True:
        for record in processes.new_records():
            watch.take(record)
        exits, pids = processes.exits(), processes.pids()
        for name, word in exits.items():
            pid = pids[name] or 0
            if word is None or pid in told:
                continue
            told.add(pid)
            word = _show_end(name, processes, watch)
            if word != "finished":
                if word.startswith("killed"):  # who failed by itself would fail again
                    down[name] = time.monotonic()
                _tell_of_death(name, word, options, console)
        if options.restart:
            for name in [n for n, at in down.items() if time.monotonic() > at + RESTART_AFTER_S]:
                del down[name]
                processes.start(name)
                watch.table.state(name, "started again")
        coming = processes.elsewhere() or (options.restart and down)
        if all(exits.values()) and not coming:
            return
        time.sleep(POLL_S)


def _show_end(name: str, processes: ProcessMesh, watch: _Watch) -> str:
    """How a peer ended: in its own words where it came to say them, else in the kernel's."""
    word = processes.exits().get(name) or "not started"
    if word == "finished":
        word = str(processes.outcome(name).get("exit", word))
    watch.table.state(name, "done" if word == "finished" else word)
    return word


def _tell_of_death(name: str, word: str, options: Options, console: Console) -> None:
    folder = peer_folder(options.out, name)
    was = "was " if word.startswith("killed") else ""
    console.print(f"{name} {was}{word}; its log: {folder / 'log.jsonl'}", style="red")
    if not options.restart:
        again = [
            *("tallynode", "--peers-config", str(options.out / "topology.yaml")),
            *("--peer", name, "--state-dir", str(folder / "state"), "--out", str(folder)),
        ]
        console.print(f"start it again: {shlex.join(again)}", style="dim", soft_wrap=True)


def _outcome(processes: ProcessMesh, name: str, alone: Mapping[str, float]) -> sums.PeerOutcome:
    written = processes.outcome(name)
    word = processes.exits().get(name) or "unknown"
    if written:
        word = written["exit"]
    return sums.PeerOutcome(
        name=name,
        exit=word,
        pid=processes.pids().get(name),
        discovery_s=written.get("discovery_s"),
        alone=alone.get(name),
    )

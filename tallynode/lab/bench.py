"""What the benchmark scripts share: a mesh changed in places, one run of it, and where it ran.

A run comes to the accuracy of each peer and the payload bytes that a peer published in a round.
The virtual mesh and the process mesh come to the same accuracies, so the quick one is the default
and the real one is there to be asked.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import psutil
from pydantic import ValidationError

from tallynode.config import Mesh
from tallynode.config_problems import findings
from tallynode.config_yaml import dotted
from tallynode.errors import EX_OK, DataError, TallynodeError, UsageError
from tallynode.lab.figures import Figure
from tallynode.lab.study import run_case
from tallynode.lab.summary import Summary, installed_versions, write_text

MIB = 1 << 20
END_WITHIN_S = 10.0  # seconds that a process has to end before it is killed
WITHOUT_END = "rounds.count is 0, for ever: give the benchmark an end with --rounds N"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one run of a mesh came to."""

    accuracy: float  # mean over the peers, after the last round
    payload_bytes: float  # a peer a round, relays and control included


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of a process and all that it started, in MiB."""

    pss: float = 0.0
    rss: float = 0.0
    processes: int = 0


def changed(mesh: Mesh, changes: Mapping[str, object]) -> Mesh:
    """The mesh with other values at dotted keys, checked like a file.

    Raises:
        UsageError: a value does not fit; names its key.
    """
    plain: dict[str, Any] = mesh.model_dump(mode="json", exclude_none=True)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = plain
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    try:
        return Mesh.model_validate(plain)
    except ValidationError as error:
        wrong = findings(error, Mesh)[0]
        raise UsageError(f"{dotted(wrong.where)}: {wrong.why}") from error


def virtual_run(mesh: Mesh) -> Ran:
    """Run the mesh in this process."""
    result = run_case(mesh)
    return Ran(accuracy=result.accuracy, payload_bytes=result.payload_bytes)


def process_run(mesh: Mesh) -> Ran:
    """Run the mesh by `tallynode simulate`, every peer a process.

    Raises:
        TallynodeError: not every peer finished.
    """
    with tempfile.TemporaryDirectory(prefix="tallynode-bench-") as folder:
        process = start_simulate(mesh, Path(folder))
        try:
            process.wait()
        finally:
            end([process])
        summary = summary_of(mesh, process, Path(folder))
    accuracy, per_round = summary["accuracy"], summary["bytes_per_peer_round"]
    assert accuracy is not None  # every peer finished
    assert per_round is not None
    return Ran(accuracy=accuracy["mean"], payload_bytes=per_round["payload"])


def start_simulate(mesh: Mesh, folder: Path) -> "subprocess.Popen[bytes]":
    """Start `tallynode simulate` on the mesh as a user would; the run folder is folder / "run"."""
    topology = folder / "topology.yaml"
    write_text(topology, mesh.resolved())
    command = ["simulate", "--peers-config", str(topology), "--out", str(folder / "run")]
    return start_tallynode(command, folder / "said")


def start_tallynode(arguments: Sequence[str], said: Path) -> "subprocess.Popen[bytes]":
    """Start the command of this installation; what it prints goes to the file `said`."""
    with said.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tallynode", *arguments], stdout=out, stderr=subprocess.STDOUT
        )


def last_line(said: Path) -> str:
    """What a command said last: where it failed, the reason."""
    lines = said.read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End what still runs of them and of all that they started, politely first."""
    running = [process for process in processes if process.poll() is None]
    families = [psutil.Process(process.pid).children(recursive=True) for process in running]
    for process in running:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    for process in running:
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    left = [child for family in families for child in family]
    for child in psutil.wait_procs(left, timeout=END_WITHIN_S)[1]:
        child.kill()


def summary_of(mesh: Mesh, process: "subprocess.Popen[bytes]", folder: Path) -> Summary:
    """The summary.json of a simulation that has ended.

    Raises:
        TallynodeError: the command failed, or not every peer finished.
    """
    if process.returncode != EX_OK:
        why = last_line(folder / "said")
        raise TallynodeError(f"tallynode simulate of {mesh.mesh} failed: {why}")
    text = (folder / "run" / "summary.json").read_text(encoding="utf-8")
    summary = cast(Summary, json.loads(text))
    unfinished = [peer["name"] for peer in summary["peers"] if peer["exit"] != "finished"]
    if unfinished:
        raise TallynodeError(f"{mesh.mesh}: not finished: {', '.join(unfinished)}")
    return summary


def seconds_a_round(records: Sequence[Mapping[str, Any]]) -> float:
    """From the end of a peer's first round to that of its last, by round."""
    first, last = records[0], records[-1]
    return float((last["t_s"] - first["t_s"]) / (last["round"] - first["round"]))


def memory_of(pid: int) -> Memory:
    """Memory of a process and its descendants; those that end meanwhile do not count."""
    pss = rss = count = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            info = process.memory_full_info()  # smaps_rollup
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        pss, rss, count = pss + info.pss, rss + info.rss, count + 1
    return Memory(pss=pss / MIB, rss=rss / MIB, processes=count)


def keep_part(
    file: Path, name: str, rows: Sequence[Mapping[str, Any]], of: Mapping[str, object]
) -> None:
    """Write one part of a benchmark into its JSON file; other such parts stay as they are.

    Args:
        file: the parts by name.
        name: the part's.
        rows: its table.
        of: what else is to be known of it, such as its seeds.

    Raises:
        DataError: the file is there and is no JSON.
        IoError: it cannot be written.
    """
    parts: dict[str, Any] = {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        parts = {key: part for key, part in found.items() if "rows" in part}
    except FileNotFoundError:
        pass
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{file}: is not what a benchmark writes: {error}") from error
    plain = [{k: asdict(v) if isinstance(v, Figure) else v for k, v in row.items()} for row in rows]
    write_text(file, json.dumps({**parts, name: {**of, "rows": plain}}, indent=2) + "\n")


def machine() -> dict[str, object]:
    """Where a benchmark ran, and how busy it was there: an absolute time says nothing without."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "load_1m": round(os.getloadavg()[0], 2),
        "versions": installed_versions(),
    }

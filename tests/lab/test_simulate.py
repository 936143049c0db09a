"""`tallynode simulate` on a disk that takes no more."""

import errno
import os
from pathlib import Path

import pytest

from tallynode.config import Mesh
from tallynode.errors import IoError
from tallynode.lab import simulate as simulation
from tallynode.lab.simulate import Options, simulate

TINY = {
    "mesh": "tiny",
    "peers": 2,
    "graph": {"edges": [["peer-1", "peer-2"]]},
    "task": {"probes": {"count": 20}, "partition": {"per_peer": 20}},
    "rounds": {"count": 3},
}
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run(out: Path) -> None:
    """The tiny mesh, virtual, as the command line runs it."""
    simulate(
        Mesh.model_validate(TINY),
        Options(
            out=out,
            baseline=False,
            virtual=True,
            restart=False,
            jobs=1,
            json_output=False,
            command=["tallynode"],
        ),
    )


def test_a_disk_that_fills_up_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said once, the run goes on, and what fits is written at its end."""
    append, room = simulation.append_line, iter([True, True])

    def append_line(path: Path, line: bytes) -> None:
        if not next(room, False):
            raise FULL
        append(path, line)

    monkeypatch.setattr(simulation, "append_line", append_line)
    with pytest.raises(IoError, match=r"^.*rounds.jsonl: cannot be written: No space left[^\n]*$"):
        run(tmp_path / "run")
    assert capsys.readouterr().out.count("; the run goes on") == 1
    assert (tmp_path / "run" / "rounds.jsonl").read_text().count("\n") == 2
    assert '"rounds": 3' in (tmp_path / "run" / "summary.json").read_text()
    assert (tmp_path / "run" / "report.html").exists()


def test_a_summary_that_cannot_be_written_costs_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file is tried, and the terminal shows what the run came to."""
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(IoError, match=r"summary.json: cannot be written: Is a directory"):
        run(tmp_path)
    assert "mean accuracy" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()


def test_a_run_folder_that_takes_no_records_is_refused_at_once(tmp_path: Path) -> None:
    """Nothing has been trained yet."""
    (tmp_path / "rounds.jsonl").symlink_to(tmp_path / "gone" / "rounds.jsonl")
    with pytest.raises(IoError, match=r"rounds.jsonl: cannot be written: No such file"):
        run(tmp_path)
    assert not (tmp_path / "summary.json").exists()

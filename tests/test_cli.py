"""The command line where it is quick: what it prints, what it refuses, how it exits."""

import subprocess
import sys
from pathlib import Path

import pytest

from tallynode.cli import run
from tallynode.cli_script import exit_code
from tallynode.edge.storage import SLOTS, CheckpointStore
from tallynode.errors import EX_DATAERR, EX_PIPE, EX_SOFTWARE, EX_USAGE

ID = "TALLY-000G5-40R4C-0M30Z-E209T-185GF-R38EX-1W81A-24GKE"
RING = Path(__file__).parents[1] / "topology" / "ring-8.yaml"


def test_a_reader_that_has_gone_is_met_in_silence() -> None:
    """Standard output into a closed pipe, as with `| head`: no traceback, the shell's 141."""
    command = subprocess.Popen(
        [sys.executable, "-m", "tallynode", "check", str(RING), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    command.stdout.close()
    assert command.communicate()[1] == ""
    assert command.returncode == EX_PIPE


def test_an_export_says_what_is_wrong_with_the_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder, no checkpoint in it, or damaged ones, each by its name: exit 65."""
    state = tmp_path / "state"

    def said() -> str:
        assert run(["export", str(state), str(tmp_path / "model")]) == EX_DATAERR
        return capsys.readouterr().err

    assert said() == f"tallynode: {state}: no such folder\n"
    store = CheckpointStore(state)
    assert said() == f"tallynode: {state}: holds no checkpoint of a peer\n"
    store.save(b"body")
    (state / SLOTS[0]).write_bytes((state / SLOTS[0]).read_bytes()[:-1] + b"?")
    (state / SLOTS[1]).write_bytes(b"cat")
    said_of = said()
    assert f"{state / SLOTS[0]}: its hash does not match: damaged" in said_of
    assert f"{state / SLOTS[1]}: not a tallynode checkpoint" in said_of


def test_an_option_that_does_not_fit_the_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it is the whole mesh that speaks against it."""
    file = tmp_path / "t.yaml"
    file.write_text(f"mesh: m\npeers: [{{name: a, id: {ID}}}, b]\n")
    assert run(["simulate", str(file), "--broker", "mqtt://127.0.0.1"]) == EX_USAGE
    assert "--broker: a shared broker cannot check peers" in capsys.readouterr().err


def test_a_bug_of_ours_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """With the exit code that says so, and the way to where it is."""
    assert exit_code("tallynode", lambda: 1 // 0) == EX_SOFTWARE
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_pair_without_a_file_asks_for_the_file_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a command: no other one is needed."""
    with pytest.raises(SystemExit) as ended:
        run(["pair"])
    assert ended.value.code == EX_USAGE
    assert "tallynode: --peers-config FILE is needed\n" in capsys.readouterr().err

"""The command line where it is quick: what it prints, what it refuses, how it exits."""

import subprocess
import sys
from pathlib import Path

import pytest

from tallynode.cli import EX_PIPE, run
from tallynode.edge.storage import SLOTS, CheckpointStore
from tallynode.errors import EX_DATAERR

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

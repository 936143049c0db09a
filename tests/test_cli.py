"""The command line where it is quick: what it prints, what it refuses, how it exits."""

import subprocess
import sys
from pathlib import Path

from tallynode.cli import EX_PIPE

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

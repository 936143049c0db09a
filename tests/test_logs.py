"""Logs where they can be written, and where they cannot."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tallynode import logs


@pytest.fixture(autouse=True)
def _configured_anew() -> Iterator[None]:
    """What a test configures ends with it."""
    yield
    structlog.reset_defaults()


def test_lines_are_json_for_machines() -> None:
    """Each line is one object with its level, and debug lines are left out unless asked for."""
    out = io.StringIO()
    logs.configure(json_lines=True, file=out)
    logs.get("x").warning("link lost", neighbour="b")
    logs.get("x").debug("detail")
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["neighbour"]) == ("link lost", "warning", "b")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_on_a_full_disk_is_no_crash() -> None:
    """A line that cannot be written is lost, and nothing else is."""
    with logs.open_file(Path("/dev/full")) as out:
        logs.configure(json_lines=True, file=out)
        for _ in range(1000):
            logs.get("x").error("disk full")

"""The records of a peer's life, whole whatever happens to the disk."""

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tallynode.config import default_mesh
from tallynode.edge.journal import Journal, earlier
from tallynode.edge.meter import Traffic
from tallynode.lab.processes import ProcessMesh, peer_folder

NOTHING = Traffic(0, 0, "none")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the records stand."""
    return tmp_path / "rounds.jsonl"


@contextmanager
def room_for(count: int, file: Path) -> Iterator[None]:
    """As on a disk on which a file can grow by so many bytes."""
    size = file.stat().st_size + count
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def tear(file: Path) -> None:
    """Begin another record and do not come to its end."""
    file.write_bytes(file.read_bytes() + b'{"peer": "a", "rou')


def rounds(file: Path) -> list[int]:
    """The rounds in the file, of which every line has to be whole."""
    return [json.loads(line)["round"] for line in file.read_text().splitlines()]


async def test_a_line_that_does_not_fit_leaves_nothing(file: Path) -> None:
    """Half a record is never there, and the next one that fits stands behind the last whole one."""
    journal = Journal("a", file.parent)
    journal.round({"round": 1}, NOTHING)
    for room in (0, 1, 100):
        with room_for(room, file), pytest.raises(OSError, match=r"File too large|No space left"):
            journal.round({"round": 2}, NOTHING)
        assert rounds(file) == [1]
    journal.round({"round": 3}, NOTHING)
    assert rounds(file) == [1, 3]


async def test_a_torn_last_line_is_cut_off(file: Path) -> None:
    """What a power cut left of a record does not spoil the next one."""
    journal = Journal("a", file.parent)
    journal.round({"round": 1}, NOTHING)
    tear(file)
    journal.round({"round": 2}, NOTHING)
    assert rounds(file) == [1, 2]


async def test_a_full_file_is_kept_once_and_read_to_its_end(tmp_path: Path) -> None:
    """A daemon's records stay below twice the limit, and a simulation that follows loses none."""
    mesh = ProcessMesh(default_mesh(), tmp_path)
    name = default_mesh().names[0]
    mesh._processes[name] = None  # type: ignore[assignment]  # as if it ran
    file = peer_folder(tmp_path, name) / "rounds.jsonl"
    journal = Journal(name, file.parent, file_max=2000)
    journal.open()
    seen = []
    for round_ in range(1, 31):
        journal.round({"round": round_}, NOTHING)
        assert file.stat().st_size <= 2000
        if round_ % 3 == 0:
            seen += [record["round"] for record in mesh.new_records()]
    assert seen == list(range(1, 31))
    kept = [*rounds(earlier(file)), *rounds(file)]
    assert kept == list(range(kept[0], 31))
    assert 5 < len(kept) < 30

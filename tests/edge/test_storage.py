"""Checkpoints under truncation, bit rot, strangers and SIGKILL; atomic writes; the folder lock."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tallynode.edge.checkpoint import pack, resume, unpack
from tallynode.edge.storage import (
    SLOTS,
    CheckpointStore,
    FolderLock,
    atomic_write,
    default_state_dir,
)
from tallynode.errors import DataError, IoError
from tallynode.protocol import snapshot
from tallynode.protocol.ballots import BallotBox
from tallynode.protocol.contents import contents_of
from tallynode.protocol.settings import PeerSettings

FIRST, SECOND = b"first " * 50, b"second " * 50
HEADER_BYTES = 26  # magic 8, version 2, sequence 8, length 8
HASH_BYTES = 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two generations: FIRST in slot 0 and SECOND, the newer, in slot 1."""
    store = CheckpointStore(tmp_path / "state")
    assert store.load() is None
    assert (store.save(FIRST), store.save(SECOND)) == (1, 2)
    return tmp_path / "state"


def test_the_newest_generation_is_loaded(folder: Path) -> None:
    """A new process finds the last save, its number, and nothing damaged."""
    loaded = CheckpointStore(folder).load()
    assert loaded is not None
    assert (loaded.body, loaded.sequence, loaded.damaged) == (SECOND, 2, ())


def test_generations_alternate(folder: Path) -> None:
    """A save replaces the older file and never the newest, with or without a load before it."""
    store = CheckpointStore(folder)
    newest = (folder / SLOTS[1]).read_bytes()
    assert store.save(b"third") == 3
    assert (folder / SLOTS[1]).read_bytes() == newest
    (folder / SLOTS[0]).unlink()
    loaded = CheckpointStore(folder).load()
    assert loaded is not None
    assert loaded.body == SECOND


@pytest.mark.parametrize("kept", [0, 4, 9, HEADER_BYTES, HEADER_BYTES + 100, -HASH_BYTES, -1])
def test_a_torn_file_falls_back(kept: int, folder: Path) -> None:
    """Cut short in its header, body or hash, the newest file gives way to the other one."""
    path = folder / SLOTS[1]
    path.write_bytes(path.read_bytes()[:kept])
    store = CheckpointStore(folder)
    loaded = store.load()
    assert loaded is not None
    assert (loaded.body, loaded.sequence) == (FIRST, 1)
    assert len(loaded.damaged) == 1
    assert loaded.damaged[0].startswith(str(path))
    assert store.save(b"next") == 2
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(SLOTS)
    again = CheckpointStore(folder).load()
    assert again is not None
    assert (again.body, again.damaged) == (b"next", ())


def test_every_flipped_bit_is_noticed(folder: Path) -> None:
    """No single flipped bit of the newest file, nor junk behind it, is ever loaded."""
    path = folder / SLOTS[1]
    good = path.read_bytes()
    store = CheckpointStore(folder)
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ (1 << i % 8)]) + good[i + 1 :])
        loaded = store.load()
        assert loaded is not None
        assert loaded.body == FIRST, f"byte {i}"
        assert len(loaded.damaged) == 1
    path.write_bytes(good + b"\0")
    loaded = store.load()
    assert loaded is not None
    assert loaded.body == FIRST


def test_nothing_valid_is_none_but_not_silent(folder: Path) -> None:
    """With both generations damaged there is nothing to load, and the store says why."""
    for slot in SLOTS:
        (folder / slot).write_bytes(b"TALLYCKP")
    store = CheckpointStore(folder)
    assert store.load() is None
    assert len(store.damaged) == 2
    assert store.save(b"new") == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
@pytest.mark.parametrize("slot", [0, 1])
def test_a_file_that_cannot_be_read_falls_back(
    slot: int, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector gives way to the other generation; what may be whole is set aside."""
    path, read = folder / SLOTS[slot], Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self == path:
            raise OSError(code, os.strerror(code), str(self))
        return read(self)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", read_bytes)
        store = CheckpointStore(folder)
        loaded = store.load()
        assert loaded is not None
        assert loaded.body == (SECOND, FIRST)[slot]
        assert loaded.damaged == (f"{path}: cannot read: {os.strerror(code)}",)
        store.save(b"next")
        (folder / SLOTS[1 - slot]).unlink()
        with pytest.raises(IoError, match=f"{path}: cannot read"):
            CheckpointStore(folder).load()
    again = CheckpointStore(folder).load()
    assert again is not None
    assert again.body == b"next"
    assert (folder / f"{SLOTS[slot]}.foreign").exists() is (code == errno.EACCES)


@pytest.mark.parametrize("content", [b"my thesis", b"TALLYCKP\x00\x02" + bytes(80)])
def test_a_foreign_file_is_moved_aside(content: bytes, folder: Path) -> None:
    """A file that is not ours, or from a newer version, is reported and kept, never overwritten."""
    path = folder / SLOTS[0]
    path.write_bytes(content)
    store = CheckpointStore(folder)
    loaded = store.load()
    assert loaded is not None
    assert len(loaded.damaged) == 1
    store.save(b"third")
    aside = folder / f"{SLOTS[0]}.foreign"
    assert aside.read_bytes() == content
    path.write_bytes(content)
    store = CheckpointStore(folder)
    store.load()
    with pytest.raises(IoError, match="is taken: move it"):
        store.save(b"fourth")
    assert path.read_bytes() == content


def test_modes_keep_others_out(folder: Path) -> None:
    """State can be read by its user only."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE((folder / slot).stat().st_mode) for slot in SLOTS} == {0o600}


KILLED = """
import sys
from pathlib import Path
from tallynode.edge.storage import CheckpointStore
store = CheckpointStore(Path(sys.argv[1]))
loaded = store.load()
assert not store.damaged, store.damaged
count = loaded.sequence if loaded else 0
print(count, flush=True)
while True:
    count += 1
    assert store.save(count.to_bytes(8, "big") * 40_000) == count
    print(count, flush=True)
"""


def test_sigkill_at_any_instant_loses_no_acknowledged_save(tmp_path: Path) -> None:
    """Killed thirty times while writing, the store never holds a torn file or an older state."""
    acknowledged = 0
    for kill in range(30):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(1 + kill % 3):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split("\n")[:-1]
            acknowledged = int(rest[-1]) if rest else acknowledged
    store = CheckpointStore(tmp_path)
    loaded = store.load()
    assert loaded is not None
    assert loaded.damaged == ()
    assert loaded.sequence in (acknowledged, acknowledged + 1)
    assert loaded.body == loaded.sequence.to_bytes(8, "big") * 40_000


def test_atomic_write_replaces_the_whole_file(tmp_path: Path) -> None:
    """The new content is there, alone, whatever a killed writer left behind."""
    path = tmp_path / "file"
    (tmp_path / ".file.tmp").write_bytes(b"left over, and longer than the new content")
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"two")]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """A write that does not fit is an error naming the file; the old content stays, alone."""
    path = tmp_path / "file"
    atomic_write(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(IoError, match=f"file: cannot write: {os.strerror(errno.EFBIG)}"):
            atomic_write(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]


def test_the_file_reaches_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is: content forced, renamed, folder forced; anything else can lose both files."""
    steps: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(handle: int) -> None:
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        steps.append("sync folder" if folder else "sync file")
        real_sync(handle)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    atomic_write(tmp_path / "file", b"x")
    assert steps == ["sync file", "rename", "sync folder"]


def test_unusable_folders_are_named(tmp_path: Path) -> None:
    """A folder that cannot be made or written is one clear error."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IoError, match=r"file/state: cannot make the folder: Not a directory"):
        CheckpointStore(tmp_path / "file" / "state")
    with pytest.raises(IoError, match=r"gone/x: cannot write: No such file"):
        atomic_write(tmp_path / "gone" / "x", b"")


def test_a_folder_serves_one_process(tmp_path: Path) -> None:
    """A second daemon on the same state is refused with the pid of the first, until it ends."""
    hold = (
        "import sys; from pathlib import Path; from tallynode.edge.storage import FolderLock\n"
        "with FolderLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(IoError, match=rf"in use by another peer \(process {process.pid}\)"):
            FolderLock(tmp_path).acquire()
        process.kill()
    with FolderLock(tmp_path), pytest.raises(IoError, match=f"process {os.getpid()}"):
        FolderLock(tmp_path).acquire()
    with FolderLock(tmp_path):
        pass


def test_default_state_dir_is_apart_for_each_peer() -> None:
    """Two peers of a user never share a state folder by default."""
    assert default_state_dir("m", "a") != default_state_dir("m", "b")
    assert default_state_dir("m", "a").parts[-3:] == ("tallynode", "m", "a")


def test_pack_keeps_bytes_and_tensors() -> None:
    """Tensors come back equal in type, shape and value, views and empty ones too."""
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors = {
        "view": base.t(),
        "same": base,
        "half": base.half()[1:],
        "count": torch.tensor(7),
        "none": torch.zeros(0, 3),
    }
    protocol, loaded = unpack(pack(b"\x00state", tensors))
    assert protocol == b"\x00state"
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize("seed", [7, None])
def test_the_state_of_another_seed_is_refused(seed: int | None, tmp_path: Path) -> None:
    """Its ballot is of other probes; what an older program saved tells no seed and is taken."""
    mine = PeerSettings(
        mesh="m",
        name="a",
        reach={"b": {"b": 1}},
        hops=1,
        classes=3,
        probes=12,
        per_round=4,
        probe_digest=bytes(8),
        method="tally",
        coding="packed",
        seed=7,
    )
    held = snapshot.Snapshot(
        mesh="m",
        name="a",
        probe_digest=bytes(8),
        round=3,
        count=4,
        body=contents_of(mine, BallotBox(0)).alone(np.array([0, 1, 2, 0])),
        seed=seed,
    )
    store = CheckpointStore(tmp_path)
    store.save(pack(snapshot.encode(held), {}))
    found = resume(store, mine)
    assert found is not None
    assert found[0] == held
    changed = replace(mine, seed=8)
    if seed is None:
        assert resume(store, changed) is not None
        return
    with pytest.raises(DataError, match="seed 7 drew, but the seed is now 8; use another folder"):
        resume(store, changed)


@given(st.binary(max_size=200))
def test_unpack_refuses_anything_else(body: bytes) -> None:
    """Bytes that are no checkpoint are a DataError and nothing else."""
    with pytest.raises(DataError):
        unpack(body)


@given(st.data())
def test_unpack_refuses_a_damaged_body(data: st.DataObject) -> None:
    """A packed body that is cut short or changed is refused or still well formed."""
    body = bytearray(pack(b"state", {"w": torch.ones(3, 2)}))
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(DataError):
        unpack(bytes(body[:cut]))
    body[cut] ^= data.draw(st.integers(1, 255))
    try:
        protocol, _ = unpack(bytes(body))
    except DataError:
        return
    assert isinstance(protocol, bytes)

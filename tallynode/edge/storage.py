"""What survives a crash: files that are whole or absent, and the last good state of a peer.

A plain write that is cut short leaves a torn file. Here a file is written beside its final name,
forced to the disk and renamed over it; the folder is then forced too, so that the rename itself
survives a power cut. A disk may still lie or rot: a checkpoint therefore has two generations,
written in turn, each with a sequence number and a SHA-256 over everything, and the newest valid one
counts.
A file that is not ours, or from a newer version, is moved aside and never overwritten.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import platformdirs

from tallynode.errors import IoError

MAGIC = b"TALLYCKP"
VERSION = 1
SLOTS = ("checkpoint-0", "checkpoint-1")
_HEADER = struct.Struct(">8sHQQ")  # magic, version, sequence, bytes of the body
_OURS = _HEADER.pack(MAGIC, VERSION, 0, 0)[:10]  # how every file begins that a save may replace
_HASH_BYTES = hashlib.sha256().digest_size
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700


def default_state_dir(mesh: str, peer: str) -> Path:
    """Return where this user's state of a peer lives when nobody said where."""
    return platformdirs.user_state_path("tallynode", appauthor=False) / mesh / peer


def make_folder(folder: Path) -> None:
    """Make a folder that only this user can read; IoError if that cannot be."""
    with _io_error(folder, "cannot make the folder"):
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)


def atomic_write(path: Path, data: bytes) -> None:
    """Replace a file as a whole; one writer a path at a time.

    Raises:
        IoError: disk full, read-only, no such folder; the old file is then still there.
    """
    # A fixed name: what a killed writer leaves is taken over by the next one, and never piles up.
    temporary = path.with_name(f".{path.name}.tmp")
    with _io_error(path, "cannot write"):
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, _FILE_MODE), "wb") as file:  # noqa: PTH123
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The newest valid generation."""

    body: bytes
    sequence: int  # counts saves from 1
    damaged: tuple[str, ...]  # one line for each file that could not be used


class CheckpointStore:
    """Two generations of one checkpoint in a folder; one process at a time (see FolderLock)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths = tuple(folder / slot for slot in SLOTS)
        self._sequence: int | None = None  # None: not read yet
        self._next = 0  # the slot that the next save replaces
        self._strange: set[Path] = set()
        self.damaged: tuple[str, ...] = ()  # as of the last load, even where nothing was valid
        make_folder(folder)

    def load(self) -> Loaded | None:
        """Return the newest valid generation, or None if there is none (`damaged` says why).

        Raises:
            IoError: a file cannot be read, and no other holds a valid generation.
        """
        newest: tuple[int, int, bytes] | None = None
        unread: IoError | None = None
        damaged: list[str] = []
        self._strange.clear()
        for slot, path in enumerate(self._paths):
            try:
                raw = _read(path)
            except IoError as error:
                damaged.append(str(error))
                unread = unread or error
                if not _bad_sector(error):
                    self._strange.add(path)  # another user's, say: it may be whole
                continue
            if raw is None:
                continue
            why = _flaw(raw)
            if why is not None:
                damaged.append(f"{path}: {why}")
                if not _OURS.startswith(raw[: len(_OURS)]):
                    self._strange.add(path)
                continue
            sequence = _HEADER.unpack_from(raw)[2]
            if newest is None or sequence > newest[0]:
                newest = (sequence, slot, raw[_HEADER.size : -_HASH_BYTES])
        self.damaged = tuple(damaged)
        if newest is None and unread is not None:
            raise unread
        self._sequence = newest[0] if newest else 0
        self._next = 1 - newest[1] if newest else 0
        if newest is None:
            return None
        return Loaded(body=newest[2], sequence=newest[0], damaged=self.damaged)

    def save(self, body: bytes) -> int:
        """Write the next generation over the older one and return its sequence number."""
        if self._sequence is None:
            self.load()
        path = self._paths[self._next]
        if path in self._strange:
            self._set_aside(path)
        sequence = (self._sequence or 0) + 1
        head = _HEADER.pack(MAGIC, VERSION, sequence, len(body))
        digest = hashlib.sha256(head)
        digest.update(body)
        atomic_write(path, head + body + digest.digest())
        self._sequence = sequence
        self._next = 1 - self._next
        return sequence

    def _set_aside(self, path: Path) -> None:
        aside = path.with_name(f"{path.name}.foreign")
        if aside.exists():
            raise IoError(
                f"{path}: not a checkpoint of this version, and {aside} is taken: move it"
            )
        with _io_error(path, "cannot set aside"):
            path.rename(aside)
        self._strange.discard(path)


class FolderLock:
    """Holds a state folder for one process; the kernel lets go of it when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "lock"
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the folder; IoError that names the holder if another process has it."""
        make_folder(self._folder)
        with _io_error(self._path, "cannot lock"):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _sign(file)
            except BlockingIOError:
                holder = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(file)
                raise IoError(
                    f"{self._folder}: in use by another peer (process {holder})"
                ) from None
            except OSError:
                os.close(file)
                raise
        self._file = file

    def release(self) -> None:
        """Let the folder go; the lock file stays, since unlinking it would race with the next."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _sign(file: int) -> None:
    """Leave our process id in a lock file; a full disk only costs the next one this hint."""
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


def _flaw(raw: bytes) -> str | None:
    """Say what is wrong with a generation, or None."""
    if not MAGIC.startswith(raw[: len(MAGIC)]):
        return "not a tallynode checkpoint"
    if len(raw) < _HEADER.size + _HASH_BYTES:
        return f"cut short at {len(raw)} bytes"
    _, version, _, length = _HEADER.unpack_from(raw)
    if version != VERSION:
        return f"checkpoint version {version}; this version reads {VERSION}"
    if len(raw) != _HEADER.size + length + _HASH_BYTES:
        return f"{len(raw)} bytes where {_HEADER.size + length + _HASH_BYTES} were written"
    body = memoryview(raw)[:-_HASH_BYTES]
    if hashlib.sha256(body).digest() != raw[-_HASH_BYTES:]:
        return "its hash does not match: damaged"
    return None


def _read(path: Path) -> bytes | None:
    with _io_error(path, "cannot read"):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _bad_sector(error: IoError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _io_error(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise IoError(f"{path}: {what}: {error.strerror}") from error

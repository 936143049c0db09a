"""What a peer writes for people: a line of rounds.jsonl a round, and outcome.json at the end.

A daemon goes on for years: a file that is full becomes rounds.jsonl.1, in place of an earlier one.
"""

import asyncio
import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tallynode.edge.meter import Traffic
from tallynode.edge.storage import atomic_write

MIB = 1 << 20
LINE_MAX = 64 << 10  # bytes; a record is about a kilobyte
FILE_MAX = 32 * MIB  # of records; twice that is the most that they take of an SD card


class Journal:
    """The records of one peer's life.

    Args:
        peer: its name.
        folder: where to write.
        file_max: bytes of records in a file.
    """

    def __init__(self, peer: str, folder: Path, file_max: int = FILE_MAX) -> None:
        self._peer = peer
        self._folder = folder
        self._file_max = file_max
        self._began = time.monotonic()
        self._linked_s: float | None = None
        self._self = psutil.Process()

    def open(self) -> None:
        """Make the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def linked(self) -> None:
        """All neighbours are linked, for the first time."""
        if self._linked_s is None:
            self._linked_s = time.monotonic() - self._began

    def round(self, fields: Mapping[str, object], wire: Traffic) -> None:
        """Add a finished round; `fields` are what the protocol and the daemon say of it."""
        record = {
            "peer": self._peer,
            "t_s": time.monotonic() - self._began,
            **fields,
            "wire_bytes": _wire(wire),
            "rss_mib": self._self.memory_info().rss / MIB,
            "tasks": len(asyncio.all_tasks()),
        }
        file, line = self._folder / "rounds.jsonl", json.dumps(record).encode() + b"\n"
        if file.exists() and file.stat().st_size + len(line) > self._file_max:
            file.replace(earlier(file))
        append_line(file, line)

    def outcome(self, ended: str, counters: Mapping[str, object], wire: Traffic) -> None:
        """Say how this life ended, with the bytes of all of it."""
        outcome = {
            "peer": self._peer,
            "exit": ended,
            "pid": os.getpid(),
            "discovery_s": self._linked_s,
            **counters,
            "wire_bytes": _wire(wire),
        }
        atomic_write(self._folder / "outcome.json", json.dumps(outcome).encode())


def earlier(file: Path) -> Path:
    """Where the records went that stood in a file before it was full."""
    return file.with_name(f"{file.name}.1")


def append_line(path: Path, line: bytes) -> None:
    """Add a line or nothing; what a full disk or a power cut left of an earlier one goes."""
    with path.open("ab+", buffering=0) as lines:
        end = lines.seek(0, os.SEEK_END)
        tail = os.pread(lines.fileno(), LINE_MAX, max(0, end - LINE_MAX))
        whole = end - len(tail) + tail.rfind(b"\n") + 1
        if whole < end:
            lines.truncate(whole)
        if lines.write(line) < len(line):
            lines.truncate(whole)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _wire(traffic: Traffic) -> dict[str, object]:
    return {"sent": traffic.sent, "received": traffic.received, "source": traffic.source}

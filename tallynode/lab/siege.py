"""Two pinned peers that train, while somebody tries to get at one of them."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml

from tallynode.edge.identity import load_or_make, pem_of
from tallynode.lab.attempts import Attempt, Target, Verdict
from tallynode.lab.forgeries import child_of, second_of
from tallynode.lab.trial import free_ports

T = TypeVar("T")

NAMES = ("a", "b")  # a is besieged
WARM_ROUNDS = 10  # before memory is measured; the first ones still allocate
ROUND_MAX_S = 5.0  # seconds; the deadline of a round, which normally closes in a fraction of it
WAIT_S = 300.0  # seconds; far beyond what is needed, so that only a failure reaches it
LOOK_S = 0.02  # seconds between two looks at memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One attempt, and what it did to the peer."""

    name: str
    verdict: Verdict
    grown_mib: float  # most resident memory during the attempt, above that before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How the peer's rounds went meanwhile."""

    count: int
    voters: set[int]
    closed_by: set[str]
    slowest_s: float


class Watched:
    """Running peers, and how much memory the first one takes, its broker included."""

    def __init__(self, folder: Path, processes: list["subprocess.Popen[bytes]"]) -> None:
        self._records = folder / "a" / "rounds.jsonl"
        self._log = folder / "a" / "log.jsonl"
        self._processes = processes
        self._peer = psutil.Process(processes[0].pid)

    def records(self) -> list[dict[str, Any]]:
        """The lines of the besieged peer's rounds.jsonl so far."""
        text = self._records.read_text(encoding="utf-8") if self._records.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def says(self, text: str) -> bool:
        """Whether the besieged peer's log holds this text yet."""
        return text in self._log.read_text(encoding="utf-8")

    def rounds(self, since: int) -> Rounds:
        """How the rounds after the first `since` went."""
        records = self.records()[since:]
        return Rounds(
            count=len(records),
            voters={record["voters"] for record in records},
            closed_by={record["closed_by"] for record in records},
            slowest_s=max((record["round_s"] for record in records), default=0.0),
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait while the peers run."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                assert all(process.poll() is None for process in self._processes), "a peer ended"
                await asyncio.sleep(LOOK_S)

    async def watch(self, doing: Awaitable[T]) -> tuple[T, float]:
        """Do something; its result, and how much memory the first peer took more, in MiB."""
        before = most = self._resident()
        task = asyncio.ensure_future(doing)
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_S)
            most = max(most, self._resident())
        return task.result(), (most - before) / (1 << 20)

    def _resident(self) -> int:
        """Bytes; a child that is just being started again counts nothing."""
        found = self._peer.memory_info().rss
        for child in self._peer.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                found += child.memory_info().rss
        return int(found)

    def end(self) -> None:
        """End all peers."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(20)


class Siege(Watched):
    """Running peers, and what an attacker needs to know of the first one."""

    def __init__(self, folder: Path, target: Target, processes: list["subprocess.Popen[bytes]"]):
        super().__init__(folder, processes)
        self.target = target

    async def attempt(self, name: str, attempt: Attempt) -> Outcome:
        """Try one thing, and watch the peer's memory meanwhile."""
        verdict, grown = await self.watch(attempt(self.target))
        return Outcome(name=name, verdict=verdict, grown_mib=grown)


@asynccontextmanager
async def siege(folder: Path, broker: str) -> AsyncIterator[Siege]:
    """Start the peers, wait until they train together, and end them afterwards."""
    file, target = _prepare(folder, broker)
    besieged = Siege(folder, target, [start_peer(folder, file, name) for name in NAMES])
    try:
        await besieged.until(lambda: len(besieged.records()) >= WARM_ROUNDS)
        yield besieged
    finally:
        besieged.end()


def _prepare(folder: Path, broker: str) -> tuple[Path, Target]:
    devices = {name: load_or_make(folder / name / "state") for name in (*NAMES, "stranger")}
    ports = free_ports(len(NAMES))
    topology = {
        "mesh": "besieged",
        "broker": broker,
        "discovery": False,
        "graph": "complete",
        "peers": [
            {"name": name, "id": devices[name].id, "address": "127.0.0.1", "port": port}
            for name, port in zip(NAMES, ports, strict=True)
        ],
        "task": {"probes": {"count": 200}, "partition": {"dirichlet": 0.5, "per_peer": 60}},
        # Enough local work that rounds take some 0.2 s, and the machine has time for the attacks.
        "rounds": {
            "count": 0,
            "local_epochs": 20,
            "deadline": {"min": f"{ROUND_MAX_S}s", "max": f"{ROUND_MAX_S}s"},
            "quorum": 1.0,
        },
    }
    file = folder / "topology.yaml"
    file.write_text(yaml.safe_dump(topology), encoding="utf-8")
    certificate = folder / "certificate.pem"
    certificate.write_bytes(pem_of(devices["a"].certificate))
    pinned = devices["b"].pem
    target = Target(
        host="127.0.0.1",
        port=ports[0],
        certificate=certificate,
        pinned=pinned,
        unpinned=devices["stranger"].pem,
        child=child_of(pinned, folder / "child.pem"),
        second=second_of(pinned, folder / "second.pem"),
    )
    return file, target


def start_peer(folder: Path, file: Path, name: str) -> "subprocess.Popen[bytes]":
    """Run a peer of a topology as a process, with its state and records below a folder."""
    home = folder / name
    words = ["--peers-config", file, "--peer", name, "--state-dir", home / "state", "--out", home]
    with (home / "log.jsonl").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tallynode", "--json", *map(str, words)],
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


async def besiege(
    folder: Path, attempts: Mapping[str, Attempt], broker: str = "embedded"
) -> tuple[list[Outcome], Rounds, float]:
    """Make all attempts, one after the other; outcomes, the peer's rounds, and seconds in all."""
    async with siege(folder, broker) as besieged:
        since = len(besieged.records())
        began = time.perf_counter()
        outcomes = [await besieged.attempt(name, attempt) for name, attempt in attempts.items()]
        took_s = time.perf_counter() - began
        done = len(besieged.records())
        await besieged.until(lambda: len(besieged.records()) > done)
        return outcomes, besieged.rounds(since), took_s

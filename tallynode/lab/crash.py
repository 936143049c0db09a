"""Peers that are killed and paused at random instants, and what must hold whatever happens.

Kills overlap: a peer stays down for a random while, and the next one may fall meanwhile. After
each kill the state folder is opened as the next life will open it; while the trial runs an observer
reads every outbox; at the end everybody is left alone and must get on together.
"""

import asyncio
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.edge.checkpoint import unpack
from tallynode.edge.storage import CheckpointStore
from tallynode.errors import DataError, TallynodeError
from tallynode.lab.observer import Observer
from tallynode.lab.processes import ProcessMesh, peer_folder
from tallynode.protocol import snapshot as snap
from tallynode.protocol.coding import DecodeError

BETWEEN_S = 0.6  # seconds at most from one kill to the next
DOWN_S = 1.0  # seconds at most that a killed peer stays down
PAUSE_SHARE = 0.2  # of the kills have a SIGSTOP before them, of another peer
PAUSE_S = 2.0  # seconds at most
SLACK_S = 1.0  # seconds over its deadline that a round may close where the machine is busy
CHILD_GONE_WITHIN_S = 3.0  # seconds; the kernel kills a broker with its peer
HEAL_ROUNDS = 5  # that every peer must do when all are left alone
HEAL_WITHIN_S = 60.0
LOOK_S = 0.05


@dataclass(slots=True)
class Verdict:
    """One promise: how often it was looked at, and each time that it was broken."""

    promise: str
    looked: int = 0
    broken: list[str] = field(default_factory=list)

    def see(self, broken: Iterable[str]) -> None:
        """Look once."""
        self.looked += 1
        self.broken += broken


class CrashTrial:
    """One mesh under fire.

    Args:
        mesh: fixed ports, `coding: packed`, rounds without end.
        folder: where the peers write.
        seed: draws victims and instants.
    """

    def __init__(self, mesh: Mesh, folder: Path, seed: int) -> None:
        self._mesh = mesh
        self._folder = folder
        self._chance = random.Random(seed)
        self._processes = ProcessMesh(mesh, folder)
        self._settings = assemble.parts(mesh, mesh.names[0]).settings
        outboxes = {peer.name: (peer.address or "", peer.port or 0) for peer in mesh.peers}
        self._observer = Observer(self._settings, outboxes)
        self._records: dict[str, list[dict[str, Any]]] = {name: [] for name in mesh.names}
        self._sequence: dict[str, int] = defaultdict(int)
        self._paused_s: dict[str, float] = defaultdict(float)  # the longest pause of each
        self._down: set[str] = set()
        self.kills = self.pauses = 0
        self.intact = Verdict("every state folder loads, undamaged")
        self.kept = Verdict("no acknowledged round is lost or done again")
        self.single = Verdict("one ballot a peer and round")
        self.prompt = Verdict("every survivor closes every round by its deadline")
        self.tidy = Verdict("no process outlives its peer")
        self.steady = Verdict("no peer ends by itself, and all go on together afterwards")

    @property
    def verdicts(self) -> list[Verdict]:
        """All promises."""
        return [self.intact, self.kept, self.single, self.prompt, self.tidy, self.steady]

    @property
    def rounds(self) -> int:
        """Rounds that were recorded, over all peers."""
        return sum(map(len, self._records.values()))

    @property
    def ballots(self) -> int:
        """Ballots of different peers and rounds that the observer read."""
        return self._observer.seen

    async def run(self, kills: int) -> None:
        """Kill so often, heal, judge."""
        try:
            async with self._observer.watching():
                for name in self._mesh.names:
                    self._processes.start(name)
                await self._all_reach(1)
                async with asyncio.TaskGroup() as restarts:
                    while self.kills < kills:
                        await self._strike(restarts)
                self._read()
                top = max(map(self._observer.latest, self._mesh.names))
                await self._all_reach(top + HEAL_ROUNDS)
        finally:
            await asyncio.to_thread(self._processes.stop)
        self._judge_the_end()

    # -- striking -------------------------------------------------------------------------------

    async def _strike(self, restarts: asyncio.TaskGroup) -> None:
        await asyncio.sleep(self._chance.uniform(0, BETWEEN_S))
        self._look_at_processes()
        if self._chance.random() < PAUSE_SHARE:
            await self._pause()
        if not (standing := self._standing()):
            return  # all are down: the next strike may find one
        victim = self._chance.choice(standing)
        down_s = self._chance.uniform(0, DOWN_S)
        self._down.add(victim)
        await self._kill(victim)
        restarts.create_task(self._restart(victim, down_s))

    def _standing(self) -> list[str]:
        return [name for name in self._mesh.names if name not in self._down]

    async def _pause(self) -> None:
        if not (standing := self._standing()):
            return
        name = self._chance.choice(standing)
        pid = self._processes.pids()[name] or 0
        seconds = self._chance.uniform(0, PAUSE_S)
        self.pauses += 1
        self._paused_s[name] = max(self._paused_s[name], seconds)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    async def _kill(self, name: str) -> None:
        children = psutil.Process(self._processes.pids()[name]).children(recursive=True)
        self._processes.kill(name)
        self.kills += 1
        self._look_at_state(name)
        for _ in range(int(CHILD_GONE_WITHIN_S / LOOK_S)):
            if not any(map(_runs, children)):
                break
            await asyncio.sleep(LOOK_S)
        self.tidy.see(f"{name}: {child} is still there" for child in filter(_runs, children))

    async def _restart(self, name: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._processes.start(name)
        self._down.discard(name)

    async def _all_reach(self, round_: int) -> None:
        until = time.monotonic() + HEAL_WITHIN_S
        while time.monotonic() < until:
            self._read()
            self._look_at_processes()
            done = [n for n, of in self._records.items() if of and of[-1]["round"] >= round_]
            if len(done) == len(self._mesh.names):
                return
            await asyncio.sleep(LOOK_S)
        missing = sorted(set(self._mesh.names).difference(done))
        self.steady.see([f"not in round {round_} within {HEAL_WITHIN_S:g} s: {missing}"])

    # -- judging --------------------------------------------------------------------------------

    def _look_at_processes(self) -> None:
        words = self._processes.exits().items()
        ended = [f"{n} {word}" for n, word in words if word and n not in self._down]
        self.steady.see(ended)
        if ended:
            raise TallynodeError(f"ended by itself: {', '.join(ended)}; see {self._folder}")

    def _look_at_state(self, name: str) -> None:
        """Open the folder as the next life will, and hold it against what was seen."""
        self._read()
        store = CheckpointStore(peer_folder(self._folder, name) / "state")
        loaded = store.load()
        self.intact.see(store.damaged)
        seen = self._observer.latest(name)
        recorded = self._records[name][-1]["round"] if self._records[name] else 0
        if loaded is None:
            self.kept.see([f"{name} has no state after round {seen}"] if seen else [])
            return
        try:
            protocol, _ = unpack(loaded.body)
            saved = snap.decode(protocol)
            ballot = self._observer.decoded(saved.body)
        except (DataError, DecodeError) as error:
            self.intact.see([f"{name}: {error}"])
            return
        facts = {
            f"its sequence went from {self._sequence[name]} to {loaded.sequence}": (
                loaded.sequence < self._sequence[name]
            ),
            f"saved round {saved.round}, published {seen}": saved.round < seen,
            f"saved round {saved.round}, recorded {recorded}": saved.round < recorded,
            f"another ballot of round {saved.round} saved than published": bool(
                self._observer.votes(name, saved.round) - {ballot}
            ),
        }
        self._sequence[name] = loaded.sequence
        self.kept.see(f"{name}: {what}" for what, wrong in facts.items() if wrong)

    def _read(self) -> None:
        """Take new records in: rounds only go up, but for the open one that a restart closes."""
        limit_s = self._mesh.rounds.deadline.max + SLACK_S
        for record in self._processes.new_records():
            name, round_, gather_s = record["peer"], record["round"], record["gather_s"]
            before = self._records[name][-1]["round"] if self._records[name] else 0
            back = round_ < before or (round_ == before and not record["resumed"])
            self.kept.see([f"{name} did round {round_} after {before}"] if back else [])
            late = gather_s > limit_s + self._paused_s[name]
            self.prompt.see([f"{name}: round {round_} took {gather_s:.1f} s"] if late else [])
            self._records[name].append(record)

    def _judge_the_end(self) -> None:
        self._read()
        self.single.looked = self._observer.seen
        self.single.broken += [*self._observer.double(), *self._observer.backwards]
        for name in self._mesh.names:
            log = (peer_folder(self._folder, name) / "log.jsonl").read_text(encoding="utf-8")
            lines = log.splitlines()
            self.single.broken += [f"{name}: {x}" for x in lines if "different ballots" in x]
            self.steady.see(f"{name}: {x}" for x in lines if "Traceback" in x)
            how = self._processes.outcome(name).get("exit")
            self.steady.see([] if how == "stopped" else [f"{name} ended as {how}"])
            self._look_at_state(name)
        self.tidy.see(_orphans(self._folder))


def _runs(process: psutil.Process) -> bool:
    """Whether a process does anything yet: one that nobody has reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _orphans(folder: Path) -> list[str]:
    """Processes that work in the folder of a trial that is over."""
    found = []
    for process in psutil.process_iter():
        try:
            where = [process.cwd(), *process.cmdline()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if process.pid != os.getpid() and any(word.startswith(str(folder)) for word in where):
            found.append(f"{process} is still there")
    return found

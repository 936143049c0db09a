"""The daemon: the pure peer, driven by real brokers, links, discovery, disk and clock.

All events go through one queue and are worked off one at a time, effects in order; so a Save is on
the disk before the Publish behind it leaves. The one timer is set to the peer's deadline after each
event.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from tallynode.assemble import Parts
from tallynode.config import Mesh
from tallynode.edge.broker import MQTT_PORT, Broker, make_broker
from tallynode.edge.checkpoint import CURE, pack, resume, write_model
from tallynode.edge.company import Company
from tallynode.edge.health import Health
from tallynode.edge.inbox import Inbox
from tallynode.edge.journal import Journal
from tallynode.edge.kept import Kept, keep_or_say
from tallynode.edge.links import Links
from tallynode.edge.meter import Traffic
from tallynode.edge.neighbourhood import Neighbourhood
from tallynode.edge.signer import DeviceSigner
from tallynode.edge.storage import CheckpointStore, FolderLock
from tallynode.edge.trainer import Trainer
from tallynode.edge.trust import admission_of, other_pins
from tallynode.errors import DataError, IoError, TallynodeError
from tallynode.methods.copies import learner_weights
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import snapshot as snap
from tallynode.protocol.peer import Peer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where a peer writes: `state` to survive a restart, `run` for people to read."""

    state: Path
    run: Path


class Daemon:
    """One peer of a mesh as a running process.

    Args:
        mesh: the whole configuration.
        parts: this peer's data, trainer and protocol settings.
        folders: where it writes.
    """

    def __init__(self, mesh: Mesh, parts: Parts, folders: Folders) -> None:
        self._mesh = mesh
        self._parts = parts
        self._folders = folders
        self._name = parts.settings.name
        self._trainer = Trainer(parts.method, parts.renew, mesh.rounds.pace)
        self._journal = Journal(self._name, folders.run)
        self._store = CheckpointStore(folders.state)
        self._inbox = Inbox()
        self._admission = admission_of(mesh, self._name, parts.settings.neighbours, folders.state)
        self._broker: Broker | None = None
        self._links = Links(
            self._name,
            on_up=self._link_up,
            on_down=lambda neighbour: self._inbox.put(ev.LinkDown(neighbour=neighbour)),
            on_message=lambda neighbour, topic, data: self._inbox.put(
                ev.Received(neighbour=neighbour, topic=topic, data=data)
            ),
            tls=self._admission.link_to if self._admission else None,
        )
        self._around = Neighbourhood(
            mesh,
            self._name,
            parts.settings.neighbours,
            self._links,
            folders.state / "addresses.json",
        )
        self._company = Company(
            self._admission, parts.settings.neighbours, self._links, self._inbox
        )
        self._kept = Kept(folders.state / "kept.msgpack")
        self._jobs: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._finished = False
        self._health = Health()

    async def run(self) -> str:
        """Run until all rounds are done or `stop` is called; returns how it ended.

        Raises:
            IoError: the outbox's port is in use, or the state folder cannot be used.
            DataError: the stored state belongs to something else.
            LocalError, ExceptionGroup: a bug of ours.
        """
        try:
            self._journal.open()
        except OSError as error:
            why = f"cannot make the folder: {error.strerror}"
            raise IoError(f"{self._folders.run}: {why}") from error
        with FolderLock(self._folders.state):
            peer = Peer(
                self._parts.settings,
                self._restore(),
                signer=DeviceSigner(self._admission) if self._admission else None,
                kept=self._kept.messages,
            )
            broker = self._broker = self._make_broker()
            host, port = await broker.start()
            log.info("outbox open", host=host, port=port, broker=self._mesh.broker)
            self._inbox.put(ev.Started())  # the clock of start_within runs from the first event on
            await self._company.start(broker, self._parts.settings.voters)
            await self._around.start(host, port)
            try:
                ended = await self._live(peer, broker)
            except ExceptionGroup as group:
                if (alone := _alone(group)) is None:
                    raise
                raise alone from None
            self._write_model(peer)
            self._journal.outcome(ended, peer.counters.fields(), self._wire(broker))
        return ended

    def stop(self) -> None:
        """Ask the peer to end; safe to call twice."""
        self._inbox.put(ev.Stop())

    def reload(self, mesh: Mesh) -> None:
        """Take over the pins of a topology that was read again; all else waits for a restart.

        Raises:
            ConfigError, IoError: pins.yaml is wrong or cannot be read; the pins stay as they were.
        """
        self._company.set_pins(other_pins(mesh, self._name, self._folders.state))

    def _link_up(self, neighbour: str) -> None:
        self._inbox.put(ev.LinkUp(neighbour=neighbour))
        self._around.reached(neighbour)

    # -- driving --------------------------------------------------------------------------------

    async def _live(self, peer: Peer, broker: Broker) -> str:
        async with asyncio.TaskGroup() as group:
            links = group.create_task(self._links.run())
            try:
                return await self._drive(peer, broker, group)
            finally:
                await self._close(broker)
                links.cancel()

    async def _drive(self, peer: Peer, broker: Broker, group: asyncio.TaskGroup) -> str:
        loop = asyncio.get_running_loop()
        ended = "finished"
        while not self._finished:
            event = await self._inbox.get()
            if isinstance(event, ev.Stop):
                ended = "stopped"
            for effect in peer.step(event, loop.time()):
                await self._do(effect, peer, broker, group)
            if len(peer.linked) == len(peer.settings.neighbours):
                self._journal.linked()
            self._arm(peer, loop)
        return ended

    def _arm(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = peer.deadline()
        self._timer = (
            loop.call_at(deadline, self._inbox.put, ev.Tick()) if deadline is not None else None
        )

    async def _do(
        self, effect: ef.Effect, peer: Peer, broker: Broker, group: asyncio.TaskGroup
    ) -> None:
        match effect:
            case ef.Train() | ef.Learn():
                self._begin(group, effect)
            case ef.Save(state=state):
                await self._save(state)
            case ef.Publish(topic=topic, data=data, retain=retain):
                await broker.publish(topic, data, retain=retain)
            case ef.Subscribe(neighbour=neighbour, topics=topics):
                self._links.subscribe(neighbour, topics)
            case ef.Unsubscribe(neighbour=neighbour, topics=topics):
                self._links.unsubscribe(neighbour, topics)
            case ef.Keep(topic=topic, data=data):
                keep_or_say(self._kept, topic, data)
            case ef.Shun(neighbour=neighbour, for_s=for_s):
                self._company.shun(neighbour, for_s)
            case ef.Report(fields=fields):
                self._record(fields, broker)
            case ef.Log(level=level, event=event, fields=fields):
                getattr(log, level)(event, **fields)
            case ef.Finish():
                self._finished = True

    def _begin(self, group: asyncio.TaskGroup, job: ef.Train | ef.Learn) -> None:
        async def work() -> None:
            if isinstance(job, ef.Train):
                self._inbox.put(await self._trainer.train(job))
            else:
                self._inbox.put(await self._trainer.learn(job))

        self._start_job(group.create_task(work()))

    def _start_job(self, task: asyncio.Task[None]) -> None:
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    # -- starting and ending --------------------------------------------------------------------

    def _make_broker(self) -> Broker:
        own = self._mesh.peer(self._name)
        fixed = MQTT_PORT if own.address else 0  # who is reached by address needs a known port
        return make_broker(
            self._mesh.broker,
            name=self._name,
            mesh=self._mesh.mesh,
            address=(self._mesh.listen, own.port or fixed),
            run_dir=self._folders.state,
            admission=self._admission,
        )

    async def _close(self, broker: Broker) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for job in self._jobs:
            job.cancel()
        await self._around.stop()
        await self._company.stop()
        await self._links.stop()
        await broker.stop()
        await asyncio.get_running_loop().run_in_executor(None, self._trainer.close)
        try:
            self._around.save()
        except IoError as error:
            self._health.failed("save addresses", str(error))

    # -- state and records ----------------------------------------------------------------------

    def _restore(self) -> snap.Snapshot | None:
        """The snapshot of an earlier life, its tensors loaded into the trainer."""
        found = resume(self._store, self._parts.settings)
        if found is None:
            return None
        snapshot, tensors = found
        try:
            self._parts.method.load(tensors)
        except DataError as error:
            raise DataError(f"{self._store.folder}: {error}; {CURE}") from error
        return snapshot

    async def _save(self, state: bytes) -> None:
        """Checkpoint; where the disk refuses, say so and go on voting."""
        body = pack(state, self._trainer.state())
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._store.save, body)
        except IoError as error:
            self._health.failed("save", str(error))
            self._inbox.put(ev.Unsaved())
        else:
            self._health.fine("save")

    def _write_model(self, peer: Peer) -> None:
        """The learner, which is what all this is for, where a person finds it."""
        about = {
            "mesh": self._mesh.mesh,
            "peer": self._name,
            "round": str(peer.round),
            "model": self._mesh.train_settings(self._mesh.peer(self._name)).model,
            "classes": json.dumps(self._parts.data.classes),
            "input": json.dumps(self._parts.data.shape),
        }
        path = self._folders.run / "model.safetensors"
        write_model(path, learner_weights(self._trainer.state()), about)
        log.info("model written", file=str(path))

    def _wire(self, broker: Broker) -> Traffic:
        return broker.traffic() + self._links.traffic()

    def _record(self, fields: Mapping[str, object], broker: Broker) -> None:
        try:
            own = {
                "lateness_ms": self._trainer.lateness_s * 1000,
                "troubles": self._health.troubles,
            }
            self._journal.round({**fields, **own}, self._wire(broker))
        except OSError as error:
            self._health.failed("write records", str(error))
        else:
            self._health.fine("write records")
        self._trainer.lateness_s = 0.0
        log.info(
            "round",
            round=fields["round"],
            accuracy=fields["accuracy"],
            voters=fields["voters"],
            closed_by=fields["closed_by"],
        )


def _alone(group: ExceptionGroup[Exception]) -> TallynodeError | None:
    """The error that this group of tasks, however nested, ended with; None: another, or several."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, TallynodeError) else None

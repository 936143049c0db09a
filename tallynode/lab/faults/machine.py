"""A host that can die at any point, stand still, and wake up to another time."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tallynode.lab.faults.disk import Disk, Moment
from tallynode.lab.faults.judge import Judge
from tallynode.lab.faults.trace import Trace
from tallynode.lab.faults.voter import Voter
from tallynode.lab.world.clock import Clock
from tallynode.lab.world.host import Host
from tallynode.lab.world.network import Network
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol import snapshot
from tallynode.protocol.settings import PeerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Doom:
    """A death that waits for its moment."""

    power: bool  # the machine dies, not the process alone
    effects: int  # of the step that are executed before it, if it has more
    moment: Moment | None  # inside the save; None: between effects, of the next step that has any

    def strikes(self, effects: Sequence[ef.Effect], done: int) -> bool:
        """Whether death comes instead of the next effect of a step."""
        if self.moment:
            return isinstance(effects[done], ef.Save)
        return done == min(self.effects, len(effects) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What every machine of a mesh shares."""

    clock: Clock
    network: Network
    judge: Judge
    trace: Trace
    seen: Counter[str]


class Machine(Host):
    """One peer's process, its disk and its clock."""

    trainer: Voter

    def __init__(
        self, settings: PeerSettings, voter: Voter, world: World, mourn: Callable[[str, bool], None]
    ) -> None:
        """Prepare; `boot` starts. `mourn` hears of a doom met: the name, and whether by power."""
        super().__init__(settings, voter, world.clock, world.network)
        self.trainer = voter
        self.disk = Disk()
        self.finished = False
        self.doom: Doom | None = None
        self.ahead_s = 0.0  # of this machine's monotonic clock before the world's
        self.reports: list[Mapping[str, object]] = []
        self._judge, self._trace, self._seen = world.judge, world.trace, world.seen
        self._mourn = mourn
        self._restored: snapshot.Snapshot | None = None  # what this life began from
        self._waiting: list[ev.Event] | None = None  # what comes while the process stands still
        self._event: ev.Event = ev.Tick()

    @property
    def now(self) -> float:
        """Monotonic time as this machine's kernel tells it."""
        return self.clock.now + self.ahead_s

    @property
    def running(self) -> bool:
        """Whether the process is there and can answer."""
        return self.peer is not None and self._waiting is None

    def boot(self) -> None:
        """Start the process from its disk."""
        saved = self.disk.load()
        restored = None if saved is None else self._read(saved)
        self._waiting = self.doom = None
        self._restored = restored
        self._trace.note(self.clock.now, self.name, f"boots from {restored}")
        self.start(restored)

    def _read(self, saved: bytes) -> snapshot.Snapshot:
        """A state that allows for those that were lost after it, as edge/checkpoint.py does."""
        found = snapshot.decode(saved)
        lost = self.settings.rounds.save_every * self.disk.damaged
        return replace(found, covered=found.covered + lost)

    def die(self) -> None:
        """End without a word."""
        self._trace.note(self.clock.now, self.name, "dies")
        self.peer = None
        self.life += 1

    def pause(self) -> None:
        """Stand still (SIGSTOP)."""
        self._trace.note(self.clock.now, self.name, "stands still")
        self._waiting = self._waiting or []

    def resume(self) -> None:
        """Go on (SIGCONT), with everything that came meanwhile."""
        self._trace.note(self.clock.now, self.name, "goes on")
        waiting, self._waiting = self._waiting or [], None
        for event in waiting:
            self.take(event)

    def jump(self, seconds: float) -> None:
        """Let the monotonic clock leap; what is due then is due."""
        self._trace.note(self.clock.now, self.name, f"leaps {seconds!r}")
        self.ahead_s += seconds
        self._armed = None
        self.arm()

    def take(self, event: ev.Event) -> None:
        """See Host."""
        if self._waiting is not None:
            self._waiting.append(event)
            return
        self._event = event
        super().take(event)

    def execute(self, effects: Sequence[ef.Effect]) -> None:
        """See Host; between any two effects, or inside a save, the process may die."""
        peer = self.peer
        assert peer is not None
        self._trace.step(self.clock.now, self.name, self._event, effects)
        if isinstance(self._event, ev.Started):
            self._judge.started(peer, self._restored, self.disk)
        self._judge.stepped(peer, self._event, self.now)
        for done, effect in enumerate(effects):
            if self.doom and self.doom.strikes(effects, done):
                self._meet(self.doom, effect)
                return
            self._judge.does(peer, effect, self.disk)
            self.do(effect)

    def _meet(self, doom: Doom, effect: ef.Effect) -> None:
        if doom.moment and isinstance(effect, ef.Save):
            self._seen["died inside a save"] += 1
            self._seen["save torn"] += doom.moment is Moment.WRITING
            self._seen["rename undone by power cut"] += doom.moment is Moment.RENAMED and doom.power
            self.disk.die_saving(effect.state, doom.moment, power=doom.power)
        else:
            self._seen["died between two effects"] += 1
        self.die()
        self._mourn(self.name, doom.power)

    def save(self, state: bytes) -> None:
        """See Host."""
        if not self.disk.save(state):
            self._seen["save refused"] += 1
            self._later(0.0, ev.Unsaved)

    def report(self, fields: Mapping[str, object]) -> None:
        """See Host."""
        self.reports.append(fields)

    def log(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        """See Host; the judge hears it too."""

    def finish(self) -> None:
        """See Host."""
        self._trace.note(self.clock.now, self.name, "ends")
        super().finish()
        for neighbour in self.settings.neighbours:
            self.network.abandon(self.name, neighbour)
        self.network.clear(self.name)
        self.finished = not isinstance(self._event, ev.Stop)
        self.peer = None
        self.life += 1

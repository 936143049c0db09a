"""A host: one peer with its trainer and its disk, driven as the daemon drives it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from tallynode.errors import LocalError
from tallynode.lab.world.clock import Clock
from tallynode.lab.world.network import Network
from tallynode.protocol import effects as ef
from tallynode.protocol import events as ev
from tallynode.protocol.peer import Peer
from tallynode.protocol.settings import PeerSettings
from tallynode.protocol.snapshot import Snapshot


class Trainer(Protocol):
    """What a peer trains with, and how long that takes."""

    def train(self, job: ef.Train) -> tuple[float, Callable[[], ev.Trained]]:
        """Seconds it takes, and what gives the answer when they are over."""

    def learn(self, job: ef.Learn) -> tuple[float, Callable[[], ev.Learned]]:
        """Seconds it takes, and what gives the answer when they are over."""


class Host:
    """One process of a made-up world.

    Args:
        settings: its peer's.
        trainer: answers Train and Learn.
        clock: the world's.
        network: the world's.
    """

    def __init__(
        self, settings: PeerSettings, trainer: Trainer, clock: Clock, network: Network
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.clock = clock
        self.network = network
        self.trainer = trainer
        self.peer: Peer | None = None  # None: the process does not run
        self.life = 0  # counts starts; what an earlier life waited for never comes
        self._armed: float | None = None

    @property
    def now(self) -> float:
        """Monotonic time as this host's kernel tells it."""
        return self.clock.now

    def start(self, restored: Snapshot | None = None) -> None:
        """Start the process."""
        self.life += 1
        self._armed = None
        self.peer = Peer(self.settings, restored)
        self.take(ev.Started())

    def take(self, event: ev.Event) -> None:
        """Hand the peer an event and do what it asks, in order."""
        peer = self.peer
        if peer is None:
            return
        self.execute(peer.step(event, self.now))
        if self.peer is peer:
            self.arm()

    def execute(self, effects: Sequence[ef.Effect]) -> None:
        """Execute the effects of one step, in order."""
        for effect in effects:
            self.do(effect)

    def arm(self) -> None:
        """Set the one timer to the peer's deadline."""
        deadline = self.peer.deadline() if self.peer else None
        if deadline is not None and deadline != self._armed:
            wait_s = max(0.0, deadline - self.now)
            self.clock.at(self.clock.now + wait_s, partial(self._wake, deadline, self.life))
        self._armed = deadline

    def do(self, effect: ef.Effect) -> None:
        """Execute one effect."""
        network = self.network
        match effect:
            case ef.Train():
                self._later(*self.trainer.train(effect))
            case ef.Learn():
                self._later(*self.trainer.learn(effect))
            case ef.Publish(topic=topic, data=data, retain=retain):
                network.publish(self.name, topic, data, retain=retain)
            case ef.Subscribe(neighbour=neighbour, topics=topics):
                network.subscribe(self.name, neighbour, topics)
            case ef.Unsubscribe(neighbour=neighbour, topics=topics):
                network.unsubscribe(self.name, neighbour, topics)
            case ef.Save(state=state):
                self.save(state)
            case ef.Keep():
                pass  # nobody is pinned here, so there are no keys
            case ef.Shun(neighbour=neighbour):
                raise LocalError(f"{self.name} shuns {neighbour} where nobody means harm")
            case ef.Report(fields=fields):
                self.report(fields)
            case ef.Log(level=level, event=event, fields=fields):
                self.log(level, event, fields)
            case ef.Finish():
                self.finish()

    def save(self, state: bytes) -> None:
        """Make a state durable; nothing is lost where nothing fails."""

    def report(self, fields: Mapping[str, object]) -> None:
        """Take a round's record."""

    def log(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        """Take a line for a person; an error in a world without faults is a bug."""
        if level == "error":
            raise LocalError(f"{self.name}: {event} {dict(fields)} in a mesh without faults")

    def finish(self) -> None:
        """End: the neighbours see their connections close."""
        for neighbour in self.settings.neighbours:
            self.network.disconnect(neighbour, self.name, lose=False)

    def _later(self, seconds: float, answer: Callable[[], ev.Event]) -> None:
        life = self.life

        def happen() -> None:
            if self.life == life:
                self.take(answer())

        self.clock.at(self.clock.now + seconds, happen)

    def _wake(self, deadline: float, life: int) -> None:
        if self.life == life and self._armed == deadline:
            self._armed = None
            self.take(ev.Tick())

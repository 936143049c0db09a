"""A mesh of machines whose links come and go with them, with wires, and with time."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from random import Random

from tallynode.lab.faults.judge import Judge
from tallynode.lab.faults.machine import Machine, World
from tallynode.lab.faults.plan import Plan
from tallynode.lab.faults.trace import Trace
from tallynode.lab.faults.voter import Voter
from tallynode.lab.faults.weather import Weather
from tallynode.lab.world.clock import Clock
from tallynode.lab.world.network import Network
from tallynode.protocol import events as ev

NOTICED_S = (
    30.0  # a link that says nothing is given up within twice the keepalive of edge/client.py
)
REDIAL_S = 2.0  # seconds within which a lost link is dialled again; the daemon backs off alike

Wire = tuple[str, str]  # reader, outbox


class FaultyMesh:
    """The machines of a plan and the wires between them.

    Args:
        plan: what the mesh is made of.
        trace: takes what happens.
        judge: decides what may.
    """

    def __init__(self, plan: Plan, trace: Trace, judge: Judge | None = None) -> None:
        self.judge = judge or Judge()
        self.seen = self.judge.seen
        self.draw = Random(f"mesh {plan.seed}")
        self.clock = Clock()
        self.weather = Weather(plan.climate, self.draw, self.seen)
        self.network = Network(self.clock, self.weather, self._deliver)
        world = World(
            clock=self.clock,
            network=self.network,
            judge=self.judge,
            trace=trace,
            seen=self.seen,
        )
        self.machines = {
            s.name: Machine(s, Voter(s, (plan.seed, i), plan.pace), world, self._gone)
            for i, s in enumerate(plan.settings)
        }
        self.wires = [(s.name, other) for s in plan.settings for other in s.neighbours]
        self._cut: Counter[Wire] = Counter()
        self._clogged: Counter[Wire] = Counter()
        self.after_death: Callable[[str], None] = lambda name: None  # hears of every process's end

    def run(self, until_s: float, done: Callable[[], bool]) -> None:
        """Let things happen until a time, or until `done`, asked after each."""
        while not done() and self.clock.until(until_s):
            pass

    # -- machines -------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a machine's process, and dial."""
        machine = self.machines[name]
        if machine.finished or machine.peer is not None:
            return
        for wire in self._about(name):  # a wire that nobody missed yet is reset by the newcomer
            self._lose(wire)
        machine.ahead_s = self.draw.random() * 1_000.0
        machine.boot()
        for wire in self._about(name):
            self._dial(wire)

    def kill(self, name: str, *, power: bool) -> None:
        """End a machine's process; without power its kernel cannot even say so."""
        machine = self.machines[name]
        if machine.peer is None:
            return
        machine.die()
        self._gone(name, power)

    def leave(self, name: str) -> None:
        """Ask a process to end, as systemd does."""
        machine = self.machines[name]
        if machine.running:
            machine.take(ev.Stop())
            self.after_death(name)

    def pause(self, name: str) -> None:
        """Let a process stand still; who waits long enough for it gives its links up."""
        machine = self.machines[name]
        if not machine.running:
            return
        machine.pause()
        life = machine.life
        for wire in self._about(name):
            session = self.network.link(*wire).session

            def give_up(wire: Wire = wire, session: int = session) -> None:
                still = machine.life == life and not machine.running
                if still and self.network.link(*wire).session == session:
                    self._lose(wire)

            self.clock.at(self.clock.now + self._noticed(), give_up)

    def resume(self, name: str) -> None:
        """Let it go on."""
        machine = self.machines[name]
        if machine.peer is None or machine.running:
            return
        machine.resume()
        for wire in self._about(name):
            self._dial(wire)

    # -- wires ----------------------------------------------------------------------------------

    def cut(self, wires: Iterable[Wire]) -> None:
        """Let nothing through; who reads there notices after a while."""
        for wire in wires:
            self._cut[wire] += 1
            self.clog(wire)
            session = self.network.link(*wire).session

            def give_up(wire: Wire = wire, session: int = session) -> None:
                if self._cut[wire] and self.network.link(*wire).session == session:
                    self._lose(wire)

            self.clock.at(self.clock.now + self._noticed(), give_up)

    def mend(self, wires: Iterable[Wire]) -> None:
        """Undo a cut: what nobody noticed was only slow."""
        for wire in wires:
            self._cut[wire] -= 1
            self.unclog(wire)
            self._dial(wire)

    def flap(self, wire: Wire) -> None:
        """Break a link that can be dialled again at once."""
        self._lose(wire)
        self._dial(wire)

    def clog(self, wire: Wire) -> None:
        """Let what is sent wait."""
        self._clogged[wire] += 1
        self.network.clog(*wire)

    def unclog(self, wire: Wire) -> None:
        """Let it come, in a burst."""
        self._clogged[wire] -= 1
        if not self._clogged[wire]:
            self.network.unclog(*wire)

    def reachable(self, wire: Wire) -> bool:
        """Whether a reader could connect to an outbox."""
        return not self._cut[wire] and all(self.machines[name].running for name in wire)

    # -- inside ---------------------------------------------------------------------------------

    def _deliver(self, reader: str, event: ev.Event) -> None:
        self.machines[reader].take(event)

    def _about(self, name: str) -> list[Wire]:
        others = self.machines[name].settings.neighbours
        return [(name, other) for other in others] + [(other, name) for other in others]

    def _gone(self, name: str, power: bool) -> None:
        self.after_death(name)
        self.network.clear(name)
        for other in self.machines[name].settings.neighbours:
            self.network.abandon(name, other)
            wire = (other, name)
            if not power and not self._cut[wire]:
                self.network.disconnect(*wire, lose=False)
                continue
            session = self.network.link(*wire).session

            def give_up(wire: Wire = wire, session: int = session) -> None:
                if self.network.link(*wire).session == session:
                    self._lose(wire)

            self.clock.at(self.clock.now + self._noticed(), give_up)

    def _lose(self, wire: Wire) -> None:
        if self.network.link(*wire).up:
            self.network.disconnect(*wire, lose=True)

    def _dial(self, wire: Wire) -> None:
        """Connect when both ends are there, now or when they next are."""
        if self.reachable(wire) and not self.network.link(*wire).up:
            when = self.clock.now + self.draw.random() * REDIAL_S
            self.clock.at(when, partial(self._connect, wire))

    def _connect(self, wire: Wire) -> None:
        if self.reachable(wire) and not self.network.link(*wire).up:
            self.network.connect(*wire)
            if self._clogged[wire]:
                self.network.clog(*wire)

    def _noticed(self) -> float:
        return self.draw.random() * NOTICED_S

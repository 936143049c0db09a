"""Who breaks things: each kind of fault at random times, until told to stop and to mend it all."""

import itertools
from collections.abc import Callable
from functools import partial
from random import Random

from tallynode.lab.faults.disk import Moment
from tallynode.lab.faults.machine import Doom, Machine
from tallynode.lab.faults.mesh import FaultyMesh, Wire
from tallynode.lab.faults.plan import Plan

SLOW = 8.0  # times as long as usual that a slow trainer takes
DEAD_FOR_GOOD = 0.15  # chance that a mesh has a peer which never comes back
CUT_FOR_GOOD = 0.25  # chance that a mesh has an edge which is never mended


class Gremlin:
    """The faults of one mesh.

    Args:
        mesh: what it breaks.
        plan: which faults come how often.
    """

    def __init__(self, mesh: FaultyMesh, plan: Plan) -> None:
        self._mesh = mesh
        self._plan = plan
        self._draw = Random(f"gremlin {plan.seed}")
        self._names = list(plan.names)
        self._undo: dict[int, Callable[[], None]] = {}  # what mends the faults that last
        self._keys = itertools.count()
        self._over = False
        self._lost = self._draw.choice(self._names) if self._chance(DEAD_FOR_GOOD) else None
        self._broken = self._draw.choice(mesh.wires) if self._chance(CUT_FOR_GOOD) else None
        mesh.after_death = self._revive
        for kind in plan.faults:
            self._plan_next(kind)

    def heal(self) -> None:
        """Undo everything but what is for good; nothing is broken again."""
        self._over = True
        lasting, self._undo = self._undo, {}
        for undo in lasting.values():
            undo()
        if self._broken:
            self._mesh.cut([self._broken, self._broken[::-1]])
        self._mesh.weather.calm = True
        for name, machine in self._mesh.machines.items():
            machine.doom = None
            machine.disk.refuses = False
            machine.trainer.steady = True
            self._mesh.resume(name)
            if name == self._lost:
                self._mesh.kill(name, power=False)
            else:
                self._mesh.start(name)

    # -- when -----------------------------------------------------------------------------------

    def _plan_next(self, kind: str) -> None:
        wait_s = self._draw.expovariate(self._plan.faults[kind]) * self._plan.round_s
        self._later(wait_s, partial(self._break, kind))

    def _break(self, kind: str) -> None:
        if self._over:
            return
        self._mesh.seen[f"fault: {kind}"] += 1
        getattr(self, f"_{kind}")()
        self._plan_next(kind)

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._mesh.clock.at(self._mesh.clock.now + seconds, do)

    def _lasts(self, undo: Callable[[], None]) -> None:
        """Undo a fault after a while, or when all is healed."""
        key = next(self._keys)
        self._undo[key] = undo

        def end() -> None:
            if self._undo.pop(key, None):
                undo()

        self._later(self._rounds(0.1, 10.0), end)

    def _rounds(self, low: float, high: float) -> float:
        """The seconds of so many rounds, each order of magnitude as likely as the next."""
        return float(low * (high / low) ** self._draw.random()) * self._plan.round_s

    def _chance(self, of: float) -> bool:
        return self._draw.random() < of

    def _machine(self) -> Machine:
        return self._mesh.machines[self._draw.choice(self._names)]

    def _revive(self, name: str) -> None:
        """A process ended: some time later it is started again."""
        if name != self._lost and not self._over:
            self._later(self._rounds(0.05, 10.0), partial(self._mesh.start, name))

    # -- what -----------------------------------------------------------------------------------

    def _kill(self) -> None:
        self._mesh.kill(self._machine().name, power=False)

    def _power(self) -> None:
        self._mesh.kill(self._machine().name, power=True)

    def _leave(self) -> None:
        self._mesh.leave(self._machine().name)

    def _strike(self) -> None:
        moment = self._draw.choice([None, None, *Moment])
        self._machine().doom = Doom(
            power=self._chance(0.5), effects=self._draw.randint(0, 4), moment=moment
        )

    def _pause(self) -> None:
        name = self._machine().name
        self._mesh.pause(name)
        self._lasts(lambda: self._mesh.resume(name))

    def _jump(self) -> None:
        self._machine().jump(self._rounds(0.1, 100.0))

    def _slow(self) -> None:
        voter = self._machine().trainer
        voter.slow = SLOW

        def normal() -> None:
            voter.slow = 1.0

        self._lasts(normal)

    def _flap(self) -> None:
        self._mesh.flap(self._draw.choice(self._mesh.wires))

    def _clog(self) -> None:
        wire = self._draw.choice(self._mesh.wires)
        self._mesh.clog(wire)
        self._lasts(lambda: self._mesh.unclog(wire))

    def _oneway(self) -> None:
        self._cut([self._draw.choice(self._mesh.wires)])

    def _island(self) -> None:
        self._part({self._draw.choice(self._names)})

    def _halves(self) -> None:
        self._part(set(self._draw.sample(self._names, len(self._names) // 2)))

    def _part(self, side: set[str]) -> None:
        self._cut([wire for wire in self._mesh.wires if (wire[0] in side) != (wire[1] in side)])

    def _cut(self, wires: list[Wire]) -> None:
        self._mesh.cut(wires)
        self._lasts(lambda: self._mesh.mend(wires))

    def _disk(self) -> None:
        disk = self._machine().disk
        disk.refuses = True

        def free() -> None:
            disk.refuses = False

        self._lasts(free)

    def _rot(self) -> None:
        dead = [m for m in self._mesh.machines.values() if m.peer is None and not m.finished]
        if dead and self._draw.choice(dead).disk.rot():
            self._mesh.seen["checkpoint spoilt"] += 1

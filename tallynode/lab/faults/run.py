"""One seed from its plan to its verdict: a phase with faults, then one in which all must heal."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tallynode.errors import LocalError
from tallynode.lab.faults.gremlin import Gremlin
from tallynode.lab.faults.judge import Violation
from tallynode.lab.faults.machine import Machine
from tallynode.lab.faults.mesh import FaultyMesh
from tallynode.lab.faults.plan import Plan, plan_of
from tallynode.lab.faults.trace import Say, Trace
from tallynode.protocol import graph
from tallynode.protocol.settings import PeerSettings

LINKING_S = 60.0  # after the healing until all links are up; who is alone meanwhile runs ahead
SETTLING = 12  # rounds after that in which reading lists may still settle
SETTLED = 3  # rounds in a row in which everyone must hear everyone
BUGS = (Violation, LocalError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a seed came to."""

    seed: int
    digest: str  # of its trace
    peers: int
    peer_rounds: int
    steps: int
    virtual_s: float
    seen: Counter[str]
    broken: str | None  # the invariant that broke, in words


def run_seed(seed: int, say: Say | None = None) -> Outcome:
    """Draw a mesh, break it, heal it."""
    return run_plan(plan_of(seed), say)


def run_plan(plan: Plan, say: Say | None = None) -> Outcome:
    """Run a mesh through its faults and its healing; an invariant that breaks is in the outcome."""
    trace = Trace(say)
    mesh = FaultyMesh(plan, trace)
    broken = None
    try:
        _live(mesh, plan)
    except BUGS as bug:
        broken = f"{type(bug).__name__}: {bug}"
        trace.note(mesh.clock.now, "broken", broken)
        if not isinstance(bug, Violation) and say:
            raise
    return Outcome(
        seed=plan.seed,
        digest=trace.digest(),
        peers=len(plan.names),
        peer_rounds=sum(len(m.reports) for m in mesh.machines.values()),
        steps=trace.steps,
        virtual_s=mesh.clock.now,
        seen=mesh.seen,
        broken=broken,
    )


def _live(mesh: FaultyMesh, plan: Plan) -> None:
    gremlin = Gremlin(mesh, plan)
    for name in plan.names:
        late_s = mesh.draw.choice([0.0, plan.round_s * mesh.draw.random()])
        mesh.clock.at(late_s, lambda name=name: mesh.start(name))  # type: ignore[misc]
    mesh.run(plan.rounds * plan.round_s, lambda: False)
    gremlin.heal()
    alive = [name for name, machine in mesh.machines.items() if machine.peer is not None]
    if plan.settings[0].rounds.count:
        _check_all_end(mesh, plan, alive)
    else:
        _check_all_meet(mesh, plan, alive)


def _patience_s(plan: Plan, rounds: int) -> float:
    """How long so many rounds may take when each waits to its deadline."""
    settings = plan.settings[0].rounds
    longest = plan.pace.train_s + plan.pace.learn_s
    return (
        settings.start_within_s
        + settings.linger_s
        + 60.0
        + rounds * (2 * longest + settings.deadline_max_s)
    )


def _check_all_end(mesh: FaultyMesh, plan: Plan, alive: list[str]) -> None:
    within = _patience_s(plan, plan.settings[0].rounds.count)
    mesh.run(mesh.clock.now + within, lambda: all(mesh.machines[n].finished for n in alive))
    late = [n for n in alive if not mesh.machines[n].finished]
    if late:
        raise Violation(f"{late} have not finished {within:.0f} s after the last fault")


def _check_all_meet(mesh: FaultyMesh, plan: Plan, alive: list[str]) -> None:
    """Everyone comes to rounds in which everyone hears everyone in reach, one after the other.

    A peer that is a round behind gains on the others what they wait for it: a deadline a round.
    """
    steps = plan.round_s / plan.settings[0].rounds.deadline_min_s
    settling = SETTLING + int(2 * steps)
    _await_links(mesh, plan, alive)
    start = max(peer.round for n in alive if (peer := mesh.machines[n].peer))
    edges = graph.of_pairs(wire for wire in mesh.wires if mesh.reachable(wire))
    neighbours = graph.adjacency(alive, edges)
    views = {name: mesh.machines[name].settings for name in alive}
    heard = {origin: _heard_by(origin, views, neighbours) for origin in alive}
    watch = {
        name: _Whole(mesh.machines[name], sum(name in by for by in heard.values()))
        for name in alive
    }
    within = _patience_s(plan, settling)
    mesh.run(
        mesh.clock.now + within,
        lambda: (
            all(w.whole() for w in watch.values())
            or min(w.round for w in watch.values()) > start + settling
        ),
    )
    broken = [f"{name} {w.last}, in reach {w.reach}" for name, w in watch.items() if not w.whole()]
    if broken:
        raise Violation(f"{settling} rounds after the last fault: {'; '.join(broken)}")


def _await_links(mesh: FaultyMesh, plan: Plan, alive: list[str]) -> None:
    """Until everyone knows which links there are, and has closed the round that was open then."""
    links = [(mesh.network.link(*wire), mesh.reachable(wire)) for wire in mesh.wires]
    mesh.run(mesh.clock.now + LINKING_S, lambda: all(link.told is up for link, up in links))
    closed = {name: len(mesh.machines[name].reports) for name in alive}
    mesh.run(
        mesh.clock.now + _patience_s(plan, 1),
        lambda: all(len(mesh.machines[name].reports) > closed[name] for name in alive),
    )


def _heard_by(
    origin: str, views: Mapping[str, PeerSettings], neighbours: Mapping[str, Iterable[str]]
) -> set[str]:
    """Who hears an origin: along links that are there, through those that pass it on."""
    found, fresh = {origin}, [origin]
    while fresh:
        here = fresh.pop()
        if here == origin or views[here].hops_left(origin):
            new = {n for n in neighbours[here] if origin in views[n].voters} - found
            found |= new
            fresh += new
    return found


class _Whole:
    """Whether the last rounds of a machine held the ballot of everyone in reach."""

    def __init__(self, machine: Machine, reach: int) -> None:
        self.reach = reach
        self.last = "has closed no round"
        self.round = 0
        self._reports = machine.reports
        self._read = len(machine.reports)
        self._in_a_row = 0

    def whole(self) -> bool:
        """Take in what was reported since the last call."""
        for fields in self._reports[self._read :]:
            fine = (fields["voters"], fields["late"]) == (self.reach, 0)
            self._in_a_row = self._in_a_row + 1 if fine else 0
            self.round = int(str(fields["round"]))
            self.last = "round {round}: {voters} voters, {late} late, {closed_by}".format(**fields)
        self._read = len(self._reports)
        return self._in_a_row >= SETTLED

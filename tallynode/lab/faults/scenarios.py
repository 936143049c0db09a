"""What people leave the field's frameworks for: scenarios, each with its own promise."""

import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from random import Random

from tallynode.lab.faults.disk import Disk
from tallynode.lab.faults.gremlin import Gremlin
from tallynode.lab.faults.judge import Judge, Violation
from tallynode.lab.faults.mesh import FaultyMesh
from tallynode.lab.faults.plan import Plan, diameter, edges_of, mesh_settings, names_of
from tallynode.lab.faults.trace import Trace
from tallynode.lab.faults.voter import Pace
from tallynode.lab.faults.weather import Climate
from tallynode.protocol import effects as ef
from tallynode.protocol.peer import Peer
from tallynode.protocol.settings import RoundSettings
from tallynode.protocol.tally import Consensus

CLIMATE = Climate(latency_s=0.02, jitter_s=0.02)
ENDLESS = RoundSettings(count=0, deadline_min_s=1.0, deadline_max_s=60.0)


def plan_for(
    kind: str, n: int, *, rounds: RoundSettings = ENDLESS, train_s: float = 5.0, seed: int = 1
) -> Plan:
    """A mesh without faults, in which everyone hears everyone."""
    names = names_of(n)
    edges = edges_of(kind, names, Random(f"scenario {kind} {n} {seed}"))
    return Plan(
        seed=seed,
        kind=kind,
        settings=mesh_settings(edges, diameter(edges), rounds),
        pace=Pace(train_s, train_s / 10, 0.1),
        climate=CLIMATE,
        faults={},
        rounds=0,
    )


def up(plan: Plan, judge: Judge | None = None) -> FaultyMesh:
    """The mesh, all started."""
    mesh = FaultyMesh(plan, Trace(), judge)
    for name in plan.names:
        mesh.start(name)
    return mesh


def to_the_end(plan: Plan) -> FaultyMesh:
    """The mesh, once all have finished or an hour has passed."""
    mesh = up(plan)
    mesh.run(3600.0, lambda: all(machine.finished for machine in mesh.machines.values()))
    return mesh


def rounds_of(mesh: FaultyMesh) -> dict[str, int]:
    """The round that each living peer is in."""
    return {n: m.peer.round for n, m in mesh.machines.items() if m.peer is not None}


class Census(Judge):
    """A judge that also counts, at each close, whose ballots of that round were there."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[str, float] = {}  # since when, by the world's clock
        self.tallied: Counter[str] = Counter()  # peer -> ballots of its rounds that it tallied
        self.missed: Counter[str] = Counter()  # that were cast in time, and it did not
        self.labels: dict[tuple[str, int], bytes] = {}  # what each peer's tally said
        self.clock: Callable[[], float] = lambda: 0.0
        self._when: dict[tuple[str, int], float] = {}  # when each ballot was cast
        self._began: dict[str, float] = {}  # when each peer began the round that it is in

    def does(self, peer: Peer, effect: ef.Effect, disk: Disk) -> None:
        """See Judge."""
        super().does(peer, effect, disk)
        name = peer.settings.name
        match effect:
            case ef.Train():
                self._began[name] = self.clock()
            case ef.Save(round=round_):
                self._when.setdefault((name, round_), self.clock())
            case ef.Learn(round=round_):
                self._count(peer, round_)
                if isinstance(effect.outcome, Consensus):
                    self.labels[name, round_] = effect.outcome.labels.tobytes()

    def _count(self, peer: Peer, round_: int) -> None:
        """Ballots of who was there all along, cast a journey through the mesh before the close."""
        name, now = peer.settings.name, self.clock()
        journey = 2 * CLIMATE.latency_s * len(peer.settings.voters)
        for origin, since in self.alive.items():
            cast = self._when.get((origin, round_), now)
            if origin == name or since > self._began.get(name, 0.0) or cast > now - journey:
                continue
            held = peer.hearing.box.get(origin, round_) is not None
            (self.tallied if held else self.missed)[name] += 1


def churn(rounds: int = 200, n: int = 20, share: float = 0.3) -> Iterator[str]:
    """Of twenty peers six leave and come back each round; those that stay lose nothing by it."""
    plan = plan_for("random-regular", n)
    census = Census()
    mesh = up(plan, census)
    census.clock = lambda: mesh.clock.now
    stay, go = plan.names[: n // 3], list(plan.names[n // 3 :])
    draw = Random("churn")

    def start(name: str) -> None:
        mesh.start(name)
        census.alive[name] = mesh.clock.now

    def leave(name: str) -> None:
        census.alive.pop(name, None)
        mesh.kill(name, power=False)
        mesh.clock.at(mesh.clock.now + plan.round_s * draw.uniform(0.1, 0.6), partial(start, name))

    census.alive.update(dict.fromkeys(plan.names, 0.0))
    deaths = 0
    for round_ in range(1, rounds + 1):
        for name in draw.sample(go, int(n * share)):
            mesh.clock.at(mesh.clock.now + plan.round_s * draw.random() * 0.4, partial(leave, name))
            deaths += 1
        stayed = partial(_past, mesh, stay, round_)
        mesh.run(mesh.clock.now + 10 * plan.round_s, stayed)
        if not stayed():
            raise Violation(f"churn: round {round_} takes more than {10 * plan.round_s:.0f} s")
    for name in stay:
        done = [int(str(f["round"])) for f in mesh.machines[name].reports]
        if done[:rounds] != list(range(1, rounds + 1)):
            raise Violation(f"churn: {name} stayed and did not finish every round")
    tallied = sum(census.tallied[name] for name in stay)
    missed = sum(census.missed[name] for name in stay)
    share_tallied = tallied / (tallied + missed)
    yield (
        f"churn: {n} peers, {deaths} deaths over {rounds} rounds: {share_tallied:.2%} of the "
        f"{tallied + missed:,} ballots of connected peers tallied by {len(stay)} that stayed, "
        f"{mesh.clock.now / rounds:.1f} s a round of {plan.round_s:.1f} s"
    )
    if share_tallied < 0.99:
        raise Violation(f"churn: only {share_tallied:.2%} of the ballots were tallied")


def _past(mesh: FaultyMesh, names: Sequence[str], round_: int) -> bool:
    return all(rounds_of(mesh)[name] > round_ for name in names)


def partition(n: int = 10, before: int = 10, apart: int = 15) -> Iterator[str]:
    """Cut a mesh in half, cut one peer off, cut one direction: all go on, and meet again."""
    for kind in ("ring", "complete", "random-regular"):
        for what in ("halves", "one isolated", "one-way"):
            plan = plan_for(kind, n)
            census = Census()
            mesh = up(plan, census)
            mesh.run(plan.round_s * before, lambda: False)
            wires = _wires_between(mesh, plan, what)
            was = rounds_of(mesh)
            mesh.cut(wires)
            mesh.run(mesh.clock.now + plan.round_s * apart * 2, lambda: False)
            now = rounds_of(mesh)
            slowest = min(now[name] - was[name] for name in plan.names)
            if slowest < apart // 2:
                raise Violation(f"partition: {kind}, {what}: only {slowest} rounds meanwhile")
            mesh.mend(wires)
            healed = _healed(mesh)
            mesh.run(mesh.clock.now + plan.round_s * 20, lambda: False)
            agree = _agreement(census, plan, max(healed.values()))
            yield (
                f"partition: {kind} of {n}, {what}: {slowest} rounds at least while apart, rounds "
                f"{min(healed.values())} to {max(healed.values())} when mended, tallies agree "
                f"{agree} rounds later"
            )
            if agree > 2:
                raise Violation(f"partition: {kind}, {what}: tallies agree after {agree} rounds")


def _wires_between(mesh: FaultyMesh, plan: Plan, what: str) -> list[tuple[str, str]]:
    side = set(plan.names[: len(plan.names) // 2] if what == "halves" else plan.names[:1])
    if what == "one-way":
        return [w for w in mesh.wires if w[0] in side]
    return [w for w in mesh.wires if (w[0] in side) != (w[1] in side)]


def _healed(mesh: FaultyMesh) -> dict[str, int]:
    """Run until every link is up again; the rounds that the peers are in then."""
    mesh.run(mesh.clock.now + 60.0, lambda: all(mesh.network.link(*w).told for w in mesh.wires))
    return rounds_of(mesh)


def _agreement(census: Census, plan: Plan, healed: int) -> int:
    """Rounds after the healing until the tallies of a round, and of all later ones, agree."""
    last = min(max(r for n, r in census.labels if n == name) for name in plan.names)
    differing = [
        r
        for r in range(healed, last + 1)
        if len({census.labels.get((name, r)) for name in plan.names}) > 1
    ]
    return max(differing) + 1 - healed if differing else 0


def graphs(sizes: tuple[int, ...] = (3, 10, 30, 100), rounds: int = 4) -> Iterator[str]:
    """Every kind of graph, small and large: every run ends, and everyone heard everyone."""
    for kind in ("line", "ring", "star", "torus", "small-world", "complete"):
        for n in sizes:
            settings = RoundSettings(count=rounds, deadline_min_s=5.0)
            mesh = to_the_end(plan_for(kind, n, rounds=settings))
            unfinished = [name for name, m in mesh.machines.items() if not m.finished]
            if unfinished:
                raise Violation(f"graphs: {kind} of {n}: {unfinished} did not end")
            heard = Counter(
                int(str(f["voters"])) for m in mesh.machines.values() for f in m.reports
            )
            how = Counter(str(f["closed_by"]) for m in mesh.machines.values() for f in m.reports)
            yield (
                f"graphs: {kind} of {n}: {rounds} rounds in {mesh.clock.now:.0f} s, "
                f"{min(heard)} to {max(heard)} voters, closed by {dict(how)}"
            )


def speed(n: int = 20, rounds: int = 50) -> Iterator[str]:
    """What a round of a peer costs, every invariant checked after every step."""
    settings = RoundSettings(count=rounds, deadline_min_s=5.0)
    for kind in ("line", "ring", "star", "small-world", "random-regular", "complete"):
        began = time.process_time()
        to_the_end(plan_for(kind, n, rounds=settings))
        spent = time.process_time() - began
        yield f"speed: {kind} of {n}: {rounds} rounds in {spent:.2f} s of processor time"


DAY_FAULTS: Mapping[str, float] = {
    "flap": 0.1,
    "clog": 0.05,
    "oneway": 0.05,
    "halves": 0.02,
    "disk": 0.05,
    "pause": 0.05,
    "jump": 0.01,
}


def day(hours: int = 24, n: int = 6) -> Iterator[str]:
    """A day of made-up time with links that fail all day: what a peer holds does not grow."""
    plain = plan_for("ring", n, train_s=50.0)
    plan = Plan(
        seed=plain.seed,
        kind=plain.kind,
        settings=plain.settings,
        pace=plain.pace,
        climate=Climate(latency_s=0.05, jitter_s=0.05, lost=0.01, twice=0.01, disorder=0.01),
        faults=DAY_FAULTS,
        rounds=0,
    )
    mesh = up(plan)
    Gremlin(mesh, plan)
    held = []
    for hour in range(1, hours + 1):
        mesh.run(hour * 3600.0, lambda: False)
        held.append(max(len(pickle.dumps(m.peer)) for m in mesh.machines.values() if m.peer))
    rounds = rounds_of(mesh)
    early, late = max(held[hours // 6 : hours // 2]), max(held[hours // 2 :])
    yield (
        f"day: {hours} h, {n} peers, rounds {min(rounds.values())} to {max(rounds.values())}, a "
        f"peer's state at most {early:,} bytes in the morning, {late:,} in the afternoon"
    )
    if late > early * 1.1:
        raise Violation("day: what a peer holds grows")


SCENARIOS: Mapping[str, Callable[[], Iterator[str]]] = {
    "churn": churn,
    "partition": partition,
    "graphs": graphs,
    "day": day,
    "speed": speed,
}

"""Any small mesh under any faults: when they are over, everyone hears everyone again, once.

The plays of the other files with everything drawn: graph, latencies, training times, who dies and
comes back, which wires break and mend, and when.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallynode.protocol import graph
from tallynode.protocol.settings import RoundSettings

latencies = st.sampled_from([0.001, 0.01, 0.03, 0.09])
SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def meshes(draw: st.DrawFn) -> tuple[list[str], graph.Edges, dict[tuple[str, str], float]]:
    """A connected graph of three to six peers and how long each of its edges takes."""
    names = [f"p{i}" for i in range(draw(st.integers(3, 6)))]
    pairs = [(names[draw(st.integers(0, i - 1))], names[i]) for i in range(1, len(names))]
    every = [(a, b) for a in names for b in names if a < b]
    edges = graph.of_pairs(pairs + draw(st.lists(st.sampled_from(every), max_size=6)))
    latency = {(a, b): draw(latencies) for edge in sorted(edges) for a, b in (edge, edge[::-1])}
    return names, edges, latency


faults = st.lists(
    st.tuples(st.sampled_from(["kill", "cut", "restore"]), st.integers(0, 99), st.floats(0, 3)),
    max_size=5,
)


@SETTINGS
@given(
    meshes(),
    faults,
    st.lists(st.sampled_from([0.05, 0.1, 0.3]), min_size=6, max_size=6),
    st.booleans(),
)
def test_after_any_faults_everyone_hears_everyone_again(
    play: Callable[..., Any],
    mesh: tuple[list[str], graph.Edges, dict[tuple[str, str], float]],
    troubles: list[tuple[str, int, float]],
    train_s: list[float],
    pinned: bool,
) -> None:
    """Once all are up and linked, each round closes by all, and each ballot comes once."""
    names, edges, latency = mesh
    times = dict(zip(names, train_s, strict=False))
    rounds = RoundSettings(count=0, deadline_max_s=60.0)
    scene = play(edges, rounds=rounds, latency_s=latency, train_s=times, pinned=pinned)
    scene.start()
    down: set[str] = set()
    broken: set[tuple[str, str]] = set()

    def restore() -> None:
        for a, b in sorted(broken):
            if not {a, b} & down:
                scene.mend(a, b)
        broken.difference_update({e for e in broken if not set(e) & down})
        for name in sorted(down):
            scene.start(name)
        down.clear()
        broken.clear()

    for what, which, later in troubles:
        scene.run(until_s=scene.now + later)
        edge = sorted(edges)[which % len(edges)]
        if what == "restore":
            restore()
        elif what == "kill" and names[which % len(names)] not in down:
            down.add(names[which % len(names)])
            scene.kill(names[which % len(names)])
        elif what == "cut" and edge not in broken and not set(edge) & down:
            broken.add(edge)
            scene.cut(*edge)
    restore()
    settled = max((b.round for n in names for b in scene.ballots(n)), default=0) + 12
    scene.run(until=lambda: min(scene.round_of(n) for n in names) >= settled + 4)
    for name in names:
        reports = scene.reports(name)
        for round_ in range(settled, settled + 3):
            assert (reports[round_]["voters"], reports[round_]["closed_by"]) == (len(names), "all")
        assert scene.refusals(name) == []
        assert scene.peers[name].hearing.signatures.left_out == []
    if pinned:  # voters are audited, which takes further copies
        return
    copies = scene.copies(settled + 1)
    assert set(copies) == {(a, b) for a in names for b in names if a != b}
    assert set(copies.values()) == {1}

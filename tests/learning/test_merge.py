"""Merging: the mesh's mean is kept whatever comes late, all entries are plain averaging."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallynode.methods.merge import CHANGE_MAX, HISTORY, Merge, MergePlan
from tallynode.protocol import graph
from tallynode.protocol.coding.delta import Values
from tallynode.protocol.mixing import shares

SIZE = 60
NAMES = tuple("abcde")
GRAPHS = {"ring": graph.ring(NAMES), "star": graph.star(NAMES), "complete": graph.complete(NAMES)}
INITIAL = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)

Heard = dict[str, list[tuple[int, bytes]]]


class Mesh:
    """Peers whose models move at random between merges, on a network that a test decides about."""

    def __init__(self, edges: graph.Edges, density: float, **plan: object) -> None:
        self.neighbours = graph.adjacency(NAMES, edges)
        self.plans = {
            name: MergePlan(weights=shares(name, self.neighbours), density=density, **plan)
            for name in NAMES
        }
        self.peers = {name: Merge(self.plans[name], INITIAL) for name in NAMES}
        self.models = {name: INITIAL.copy() for name in NAMES}
        self.untouched = {name: INITIAL.astype(np.float64) for name in NAMES}
        self.draw = np.random.default_rng(1)
        self.waiting: dict[str, Heard] = {name: {} for name in NAMES}

    def train(self, names: Sequence[str] = NAMES) -> None:
        """Let each model take a step of its own."""
        for name in names:
            step = (self.draw.normal(size=SIZE) * self.draw.random(SIZE) ** 4).astype(np.float32)
            self.models[name] += step
            self.untouched[name] += step

    def publish(self, round_: int, names: Sequence[str] = NAMES) -> dict[str, int]:
        """Each sends its delta on its way; their sizes."""
        sizes = {}
        for name in names:
            data = self.peers[name].publish(self.models[name], round_)
            sizes[name] = len(data)
            for reader in self.neighbours[name]:
                self.waiting[reader].setdefault(name, []).append((round_, data))
        return sizes

    def hear(self, name: str, heard: Mapping[str, Sequence[tuple[int, bytes]]]) -> None:
        """Let a peer merge some deltas."""
        self.models[name], refused = self.peers[name].merge(self.models[name], heard)
        assert not refused

    def hear_all(self, names: Sequence[str] = NAMES) -> None:
        """Let everything that is on its way arrive."""
        for name in names:
            self.hear(name, self.waiting[name])
            self.waiting[name] = {}

    def off(self) -> float:
        """How far the mean is from the one without any exchange, at most."""
        mean = np.mean([self.models[name] for name in NAMES], axis=0, dtype=np.float64)
        return float(np.abs(mean - np.mean(list(self.untouched.values()), axis=0)).max())

    def spread(self) -> float:
        """How far apart the models are."""
        return float(np.std([self.models[name] for name in NAMES], axis=0).mean())


@pytest.mark.parametrize("kind", sorted(GRAPHS))
@pytest.mark.parametrize("values", list(Values))
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.02, 0.2, 1.0]))
def test_the_mean_is_kept_in_any_order_of_arrival(
    kind: str, values: Values, seed: int, density: float
) -> None:
    """Deltas that come rounds late, each after those before it: all arrived, the mean is whole."""
    mesh, draw = Mesh(GRAPHS[kind], density, values=values), np.random.default_rng(seed)
    for round_ in range(1, 6):
        mesh.train()
        mesh.publish(round_)
        for name in NAMES:
            now: Heard = {}
            for sender, queue in mesh.waiting[name].items():
                kept = int(draw.integers(0, min(len(queue) + 1, HISTORY)))
                now[sender] = queue[: len(queue) - kept]
                mesh.waiting[name][sender] = queue[len(queue) - kept :]
            mesh.hear(name, now)
    mesh.hear_all()
    assert mesh.off() < 1e-5


def test_all_entries_on_a_complete_graph_are_plain_averaging() -> None:
    """Density 1 at step 1 gives every peer the mean, up to what int8 leaves over."""
    mesh = Mesh(GRAPHS["complete"], 1.0, values=Values.FLOAT16)
    mesh.train()
    mean = np.mean([mesh.models[name] for name in NAMES], axis=0)
    mesh.publish(1)
    mesh.hear_all()
    for model in mesh.models.values():
        assert np.abs(model - mean).max() < 2e-3


@pytest.mark.parametrize("density", [0.05, 0.3])
def test_what_stands_still_comes_together(density: float) -> None:
    """Models that are not trained any more meet at their mean by sparse deltas alone."""
    mesh = Mesh(GRAPHS["complete"], density)
    mesh.train()
    apart = mesh.spread()
    for round_ in range(1, 40):
        mesh.publish(round_)
        mesh.hear_all()
    assert mesh.spread() < 0.02 * apart
    assert mesh.off() < 1e-5


@pytest.mark.parametrize("kind", ["ring", "star"])
def test_full_bridges_bring_a_sparse_graph_together(kind: str) -> None:
    """Each is a weighted mean of whole models, so that what was heard goes on from edge to edge."""
    mesh = Mesh(GRAPHS[kind], 0.05, full=2)
    mesh.train()
    apart = mesh.spread()
    for round_ in range(1, 80):
        mesh.publish(round_)
        mesh.hear_all()
    assert mesh.spread() < 0.02 * apart
    assert mesh.off() < 1e-4


def test_without_error_feedback_small_changes_would_never_go_out() -> None:
    """An entry that is never the largest is sent all the same, once enough of it has piled up."""
    merge = Merge(MergePlan(weights={"b": 0.5}, density=1 / SIZE), np.zeros(SIZE, np.float32))
    twin = Merge(MergePlan(weights={"a": 0.5}, density=1 / SIZE), np.zeros(SIZE, np.float32))
    model, other = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    for round_ in range(1, 40):
        model[3] += 1.0
        model[7] += 0.2
        twin.publish(other, round_)
        other, _ = twin.merge(other, {"a": [(round_, merge.publish(model, round_))]})
    assert other[7] > 0


def test_a_delta_moves_nothing_twice() -> None:
    """Neither the same delta again nor an older one, nor what a restored state has merged."""
    mesh = Mesh(GRAPHS["complete"], 0.2)
    mesh.train()
    mesh.publish(1)
    heard = mesh.waiting["a"]
    mesh.hear("a", heard)
    once = mesh.models["a"].copy()
    restored = Merge(mesh.plans["a"], INITIAL)
    restored.load(mesh.peers["a"].state())
    mesh.hear("a", heard)
    assert np.array_equal(mesh.models["a"], once)
    again, _ = restored.merge(once, heard)
    assert np.array_equal(again, once)


def test_a_restored_peer_goes_on_bit_for_bit() -> None:
    """State and model give the deltas and merges that the uninterrupted peer gives."""
    mesh = Mesh(GRAPHS["ring"], 0.1)
    for round_ in range(1, 4):
        mesh.train()
        mesh.publish(round_)
        if round_ < 3:
            mesh.hear_all()
    twin = Merge(mesh.plans["b"], INITIAL)
    twin.load(mesh.peers["b"].state())
    for peer in (twin, mesh.peers["b"]):
        merged, _ = peer.merge(mesh.models["b"], mesh.waiting["b"])
        after = peer.publish(merged, 4)
        assert (merged, after) == (pytest.approx(merged), after)
    one, two = (peer.publish(mesh.models["b"], 5) for peer in (twin, mesh.peers["b"]))
    assert one == two


def test_who_comes_late_is_brought_in_by_a_full_bridge() -> None:
    """Until then it tells nothing of how it came so far; then it has the mean like all others."""
    mesh = Mesh(GRAPHS["complete"], 0.05, full=6, values=Values.FLOAT16)
    others = NAMES[1:]
    for round_ in range(1, 4):
        mesh.train()  # the late one trains alone
        mesh.publish(round_, others)
        mesh.hear_all(others)
    mesh.waiting["a"] = {}
    before = mesh.models["b"].copy()
    mesh.publish(4)
    own = mesh.waiting["b"]["a"]
    mesh.hear("b", {"a": own})  # paired with what b itself has sent
    moved = np.flatnonzero(mesh.models["b"] != before)
    assert len(moved) <= round(SIZE * 0.05)
    mesh.waiting = {name: {} for name in NAMES}
    mesh.publish(6)
    mesh.hear_all()
    assert mesh.spread() < 1e-3


def test_what_cannot_be_read_is_said_and_changes_nothing() -> None:
    """Damaged bytes and too many entries are refused, by whose they are."""
    mesh = Mesh(GRAPHS["ring"], 0.1)
    mesh.train()
    mesh.publish(1)
    (good,) = mesh.waiting["a"]["b"]
    greedy = Merge(MergePlan(weights={"a": 1.0}, density=0.5), INITIAL)
    for round_, bad in enumerate((b"", good[1][:9], greedy.publish(mesh.models["b"], 1)), 2):
        mesh.peers["a"].publish(mesh.models["a"], round_)
        model, refused = mesh.peers["a"].merge(mesh.models["a"], {"b": [(round_, bad)]})
        assert list(refused) == ["b"]
        assert np.array_equal(model, mesh.models["a"])


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_damaged_deltas_are_merged_or_refused(data: st.DataObject) -> None:
    """Whatever a neighbour sends, the model stays finite and nothing is raised."""
    mesh = Mesh(GRAPHS["ring"], 0.2)
    mesh.train()
    mesh.publish(1)
    ((round_, good),) = mesh.waiting["a"]["b"]
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(bad)))
        bad[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    model, _ = mesh.peers["a"].merge(mesh.models["a"], {"b": [(round_, bytes(bad))]})
    assert np.abs(model - mesh.models["a"]).max() < 2 * CHANGE_MAX


def test_a_state_of_another_model_is_refused() -> None:
    """Replicas of another size are no replicas of this model."""
    plan = MergePlan(weights={"b": 0.5}, density=0.1)
    state = Merge(plan, np.zeros(9, np.float32)).state()
    with pytest.raises(ValueError, match="9 parameters"):
        Merge(plan, INITIAL).load(state)

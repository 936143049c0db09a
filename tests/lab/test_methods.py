"""The methods that votes are compared with: the same peers, and their bytes counted as theirs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tallynode.config import Mesh
from tallynode.edge import process
from tallynode.edge.daemon import Folders
from tallynode.errors import ConfigError
from tallynode.lab.bench import changed
from tallynode.lab.simulate import Options, simulate
from tallynode.lab.virtual import accuracy_alone, run_virtual

ROUNDS = 12
SMALL = {
    "mesh": "small",
    "peers": 4,
    "graph": "ring",
    "task": {"probes": {"count": 200}, "partition": {"dirichlet": 0.3, "per_peer": 60}},
    "rounds": {"count": ROUNDS},
}


def last_lines(
    changes: Mapping[str, object] | None = None, **method: Any
) -> dict[str, Mapping[str, Any]]:
    """The last record of each peer of the small mesh, with other values at dotted keys."""
    last: dict[str, Mapping[str, Any]] = {}
    run_virtual(
        changed(Mesh.model_validate(SMALL), {**(changes or {}), "method": method}),
        lambda line: last.update({line["peer"]: line}),
    )
    return last


@pytest.mark.parametrize(("bits", "least", "most"), [(0, 8000, 8100), (4, 80, 400)])
def test_soft_labels_are_learnt_from(bits: int, least: int, most: int) -> None:
    """Each peer publishes four soft ballots a round, its own and relays; the mean is good."""
    last = last_lines(name="fd", bits=bits)
    for line in last.values():
        bytes_ = line["payload_bytes"]
        assert bytes_["ballot"] == bytes_["delta"] == 0
        assert least < bytes_["soft"] / (ROUNDS * 4) < most
        assert line["tally_accuracy"] > 0.6
        assert line["tally"] is None
    assert sum(line["accuracy"] for line in last.values()) / 4 > 0.5


def test_the_hub_of_a_star_sends_its_own_finer_labels_down() -> None:
    """CFD-1-8: a leaf sends one vote a probe to the hub alone, and gets the hub's labels back."""
    star = {"graph": {"kind": "star"}, "rounds.local_epochs": 5}
    last = last_lines(star, name="cfd", bits=1, bits_down=8)
    hub, *leaves = (last[name] for name in sorted(last))
    down = hub["coded_bytes"]["soft"]
    for leaf in leaves:
        assert leaf["relayed_bytes"] == hub["relayed_bytes"] == 0
        assert 5 * leaf["coded_bytes"]["soft"] < down
        assert down < leaf["payload_received"]["soft"] < down + 40 * ROUNDS
        assert leaf["accuracy"] > 0.6
    sent = sum(leaf["payload_bytes"]["soft"] for leaf in leaves)
    assert hub["payload_received"]["soft"] == sent
    assert hub["accuracy"] > 0.6


def test_delta_coding_saves_bytes_and_changes_nothing_else() -> None:
    """The same labels are learnt from, with and without."""
    with_, without = (last_lines(name="cfd", bits=4, delta_coding=d) for d in (True, False))
    for name, line in with_.items():
        assert line["accuracy"] == without[name]["accuracy"]
        assert line["payload_bytes"]["soft"] < 0.9 * without[name]["payload_bytes"]["soft"]


def test_pseudo_labels_are_learnt_from() -> None:
    """Votes alone travel, and every peer gains on what it would have been by itself."""
    last = last_lines({"rounds.local_epochs": 5}, name="fedct")
    alone = last_lines({"rounds.local_epochs": 5, "graph": {"edges": []}}, name="fedct")
    for line in last.values():
        assert 0 < line["payload_bytes"]["ballot"] < 4 * ROUNDS * 120
        assert line["tally_accuracy"] > 0.5
    gain = [last[name]["accuracy"] - line["accuracy"] for name, line in alone.items()]
    assert sum(gain) / 4 > 0.03


def test_local_peers_say_nothing_and_are_the_peers_without_a_graph() -> None:
    """Not a byte, and the accuracies of the baseline."""
    last = last_lines(name="local")
    for line in last.values():
        assert not any((*line["payload_bytes"].values(), *line["payload_received"].values()))
        assert line["closed_by"] == "alone"
    assert {name: line["accuracy"] for name, line in last.items()} == accuracy_alone(
        Mesh.model_validate(SMALL)
    )


def test_centralised_is_one_net_on_the_private_data_of_all() -> None:
    """It is the only peer of a mesh whose share is everything; no local peer comes near it."""
    last = last_lines(name="centralised")
    assert len({line["accuracy"] for line in last.values()}) == 1
    whole = {"peers": [{"name": "peer-1"}], "task.partition.per_peer": 240}
    assert last_lines(whole, name="local")["peer-1"]["accuracy"] == pytest.approx(
        last["peer-1"]["accuracy"], abs=0.03
    )  # the same samples in another order
    local = last_lines(name="local")
    assert max(line["accuracy"] for line in local.values()) < last["peer-1"]["accuracy"] - 0.05
    assert accuracy_alone(
        Mesh.model_validate({**SMALL, "method": {"name": "centralised"}})
    ) == accuracy_alone(Mesh.model_validate(SMALL))


def test_real_peers_cannot_be_centralised(tmp_path: Path) -> None:
    """Neither a daemon nor processes; the reason says what can."""
    mesh = Mesh.model_validate({**SMALL, "method": {"name": "centralised"}})
    options = Options(
        out=tmp_path / "run",
        baseline=False,
        virtual=False,
        restart=False,
        json_output=False,
        jobs=1,
        command=(),
    )
    with pytest.raises(ConfigError, match="use simulate --virtual"):
        simulate(mesh, options)
    with pytest.raises(ConfigError, match="use simulate --virtual"):
        process.start(mesh, "peer-1", Folders(state=tmp_path, run=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "measure"), [("tally", "margin"), ("cfd", "entropy"), ("fedmd", "certainty")]
)
def test_probes_may_be_chosen_by_the_last_consensus(name: str, measure: str) -> None:
    """Half of the probes a round, chosen alike by all: every ballot counts, and not more bytes."""
    half = {"task.probes.per_round": 100, "rounds.count": 6}
    chosen = last_lines(half, name=name, select=measure)
    by_lot = last_lines(half, name=name)
    for peer, line in chosen.items():
        assert line["voters"] == 4
        assert line["refused"] == 0
        sent, other = (sum(of[peer]["payload_bytes"].values()) for of in (chosen, by_lot))
        assert sent < 1.3 * other
    scores = [[line["accuracy"] for line in of.values()] for of in (chosen, by_lot)]
    assert scores[0] != scores[1]


def test_a_choice_needs_a_mesh_where_all_hear_all() -> None:
    """Elsewhere the last consensus is not the same everywhere: a mesh made from another, too."""
    mesh = Mesh.model_validate({**SMALL, "method": {"hops": 1}})
    chosen = mesh.method.model_copy(update={"select": "margin"})
    with pytest.raises(ConfigError, match="needs a mesh in which every peer hears every other"):
        run_virtual(mesh.model_copy(update={"method": chosen}), lambda _: None)


def test_scores_are_learnt_from() -> None:
    """Four bytes a class of every probe, and the classes they come to are mostly right."""
    last = last_lines({"rounds.local_epochs": 5}, name="fedmd")
    for line in last.values():
        assert 8000 <= line["payload_bytes"]["soft"] / (ROUNDS * 4) < 8040
        assert line["tally_accuracy"] > 0.8
        assert line["accuracy"] > 0.7


@pytest.mark.parametrize("name", ["fedavg", "fedprox", "feddf"])
def test_averaged_models_are_one_model(name: str) -> None:
    """After the last round every peer holds the same parameters, at four bytes each."""
    last = last_lines(name=name)
    assert len({line["accuracy"] for line in last.values()}) == 1
    for line in last.values():
        assert 4 * 4810 < line["payload_bytes"]["delta"] / (ROUNDS * 4) < 4 * 4810 + 40
        assert line["tally_accuracy"] is None
        assert line["agreement"] is None

"""The virtual mesh: a run depends on its seed, not on the coding of ballots or on when it ran."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.lab import simulate
from tallynode.lab.virtual import Emit, accuracy_alone, run_virtual
from tallynode.protocol.limits import NAME_BYTES_MAX
from tallynode.protocol.privacy import composed

SMALL = {
    "mesh": "small",
    "peers": 4,
    "task": {"probes": {"count": 200}, "partition": {"dirichlet": 0.3, "per_peer": 60}},
    "rounds": {"count": 6},
}


def small(graph: str, coding: str) -> Mesh:
    """Four peers and six rounds."""
    return Mesh.model_validate({**SMALL, "graph": graph, "method": {"coding": coding}})


def records(mesh: Mesh) -> list[Mapping[str, Any]]:
    """Every record of a mesh."""
    lines: list[Mapping[str, Any]] = []
    run_virtual(mesh, lines.append)
    return lines


BYTES = ("payload_bytes", "payload_received", "relayed_bytes", "coded_bytes")


@pytest.mark.parametrize("graph", ["ring", "star"])
def test_coding_changes_bytes_and_nothing_else(graph: str) -> None:
    """Context-coded ballots give bit for bit the accuracies that packed ones give, for less."""
    packed, context = records(small(graph, "packed")), records(small(graph, "context"))
    without_bytes = [
        [{k: v for k, v in line.items() if k not in BYTES} for line in run]
        for run in (packed, context)
    ]
    assert without_bytes[0] == without_bytes[1]
    sent = [sum(line["payload_bytes"]["ballot"] for line in run[-4:]) for run in (packed, context)]
    assert sent[1] < sent[0] / 2
    assert set(packed[-1]["coded_bytes"]) == {"packed"}
    assert "tally" in context[-1]["coded_bytes"]


def test_a_run_repeats() -> None:
    """Two runs of one seed make the same records, byte counts included."""
    assert records(small("ring", "context")) == records(small("ring", "context"))


def test_votes_that_say_how_sure_they_are_go_the_same_way() -> None:
    """A mesh whose votes carry two levels learns, tallies and codes them like any others."""
    sections = {"graph": "ring", "method": {"levels": 2}}
    lines = records(Mesh.model_validate({**SMALL, **sections}))
    assert {line["voters"] for line in lines} == {4}
    assert min(line["tally_accuracy"] for line in lines[-4:]) > 0.6
    assert lines[-1]["payload_bytes"]["ballot"] < 6 * 4 * 200 * 5 / 8  # less than five bits a vote


@pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_is_summed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_by: signal.Signals
) -> None:
    """The run folder is complete with the rounds that there are; nobody has finished."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as a terminal gives it

    def stopped(mesh: Mesh, emit: Emit, jobs: int) -> Mapping[str, Mapping[str, object]]:
        def take(record: Mapping[str, Any]) -> None:
            emit(record)
            if record["round"] == 2:
                signal.raise_signal(asked_by)

        return run_virtual(mesh, take, jobs=jobs)

    monkeypatch.setattr(simulate, "run_virtual", stopped)
    options = simulate.Options(
        out=tmp_path / "run",
        baseline=False,
        virtual=True,
        restart=False,
        jobs=1,
        json_output=False,
        command=["tallynode", "simulate"],
    )
    try:
        summary = simulate.simulate(small("ring", "context"), options)
    finally:
        signal.signal(signal.SIGINT, before)
    assert {peer["exit"] for peer in summary["peers"]} == {"stopped"}
    assert max(peer["rounds"] for peer in summary["peers"]) == 2
    assert {"rounds.jsonl", "summary.json", "report.html"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


BRIDGED = {"every": 2, "density": 0.05}


def test_a_bridge_merges_repeats_and_counts_its_bytes() -> None:
    """Every second round closes with all deltas; they are counted apart from ballots."""
    bridged = Mesh.model_validate({**SMALL, "graph": "complete", "method": {"bridge": BRIDGED}})
    lines = records(bridged)
    assert lines == records(bridged)
    votes = records(Mesh.model_validate({**SMALL, "graph": "complete"}))
    first, second = ([line["accuracy"] for line in run] for run in (lines, votes))
    assert first[:4] == second[:4]  # nothing is merged before the second round
    assert first[-4:] != second[-4:]
    for line in lines[-4:]:
        entries = round(4810 * 0.05)
        assert entries < line["payload_bytes"]["delta"] / 3 < 3 * entries
        assert (line["closed_by"], line["refused"]) == ("all", 0)
    sent = sum(line["payload_bytes"]["delta"] for line in lines[-4:])
    assert sum(line["payload_received"]["delta"] for line in lines[-4:]) == 3 * sent


def test_peers_agree_on_their_bridge() -> None:
    """Who bridges otherwise is set up otherwise, in words that fit a hello."""
    method = {"levels": 8, "bridge": {"every": 10, "density": 0.0123456, "values": "float16"}}
    task = {"probes": {"count": 30}, "partition": {"per_peer": 30}}
    mesh = Mesh.model_validate({"mesh": "m", "peers": 2, "task": task, "method": method})
    said = assemble.parts(mesh, "peer-1").settings.said
    assert said == "tally, 8 levels, bridge 10 0.0123456 float16"
    method["bridge"] |= {"every": 1_000_000, "full": 1_000_000}
    mesh = Mesh.model_validate({"mesh": "m", "peers": 2, "task": task, "method": method})
    assert len(assemble.parts(mesh, "peer-1").settings.said) <= 2 * NAME_BYTES_MAX


def test_only_peers_of_one_model_merge() -> None:
    """Two models in one mesh: each merges among its own, and all vote together."""
    peers = [
        {"name": n, "model": m}
        for n, m in zip("abcd", ("mlp", "mlp", "resnet8", "mlp"), strict=True)
    ]
    own = {**SMALL, "peers": peers, "rounds": {"count": 2}, "graph": "complete"}
    last = {
        line["peer"]: line
        for line in records(Mesh.model_validate({**own, "method": {"bridge": BRIDGED}}))
    }
    assert {line["voters"] for line in last.values()} == {4}
    assert {line["refused"] for line in last.values()} == {0}
    sent = {name: line["payload_bytes"]["delta"] for name, line in last.items()}
    assert sent["c"] == 0
    assert last["a"]["payload_received"]["delta"] == sent["b"] + sent["d"]


def test_a_mesh_with_private_votes_repeats_learns_and_keeps_its_account() -> None:
    """At ε = 4 a vote skewed peers still gain, and each pays in rounds 1, 2, 4 and 8 alone."""
    skewed = {"probes": {"count": 200}, "partition": {"dirichlet": 0.1, "per_peer": 60}}
    own = {**SMALL, "graph": "complete", "task": skewed, "rounds": {"count": 8}}
    private = Mesh.model_validate({**own, "method": {"privacy": {"per_vote": 4.0}}})
    run = records(private)
    assert run == records(private)
    alone = accuracy_alone(Mesh.model_validate(own))
    assert sum(line["accuracy"] for line in run[-4:]) / 4 > sum(alone.values()) / 4 + 0.1
    for line in run:
        drawn = 200 * line["round"].bit_length()
        assert line["privacy"] == {
            "vote": 4.0,
            "round": composed(4.0, 10, 200 if line["round"] in (1, 2, 4, 8) else 0, 1e-5),
            "total": composed(4.0, 10, drawn, 1e-5),
            "probe": 4.0 * line["round"].bit_length(),
            "answers": drawn,
            "delta": 1e-5,
        }

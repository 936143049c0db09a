"""The virtual mesh: a run depends on its seed, not on the coding of ballots or on when it ran."""

from collections.abc import Mapping
from typing import Any

import pytest

from tallynode import assemble
from tallynode.config import Mesh
from tallynode.lab.virtual import VirtualMesh

SMALL = {
    "mesh": "small",
    "peers": 4,
    "task": {"probes": {"count": 200}, "partition": {"dirichlet": 0.3, "per_peer": 60}},
    "rounds": {"count": 6},
}


def records(graph: str, coding: str) -> list[Mapping[str, Any]]:
    """Every record of a small mesh."""
    mesh = Mesh.model_validate({**SMALL, "graph": graph, "method": {"coding": coding}})
    lines: list[Mapping[str, Any]] = []
    VirtualMesh({name: assemble.parts(mesh, name) for name in mesh.names}, lines.append).run()
    return lines


BYTES = ("payload_bytes", "payload_received", "relayed_bytes", "coded_bytes")


@pytest.mark.parametrize("graph", ["ring", "star"])
def test_coding_changes_bytes_and_nothing_else(graph: str) -> None:
    """Context-coded ballots give bit for bit the accuracies that packed ones give, for less."""
    packed, context = records(graph, "packed"), records(graph, "context")
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
    assert records("ring", "context") == records("ring", "context")


def test_votes_that_say_how_sure_they_are_go_the_same_way() -> None:
    """A mesh whose votes carry two levels learns, tallies and codes them like any others."""
    sections = {"graph": "ring", "method": {"levels": 2}}
    mesh = Mesh.model_validate({**SMALL, **sections})
    lines: list[Mapping[str, Any]] = []
    VirtualMesh({name: assemble.parts(mesh, name) for name in mesh.names}, lines.append).run()
    assert {line["voters"] for line in lines} == {4}
    assert min(line["tally_accuracy"] for line in lines[-4:]) > 0.6
    assert lines[-1]["payload_bytes"]["ballot"] < 6 * 4 * 200 * 5 / 8  # less than five bits a vote

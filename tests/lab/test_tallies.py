"""Peers' tallies summed up: agreement, and how right they are where voters are wrong."""

from typing import Any, cast

import pytest

from tallynode.lab.records import Record
from tallynode.lab.tallies import tallies


def record(peer: str, sample: list[int], most_wrong: int, tally_right: float | None) -> Record:
    """The first round of a peer that tallied four probes of two classes."""
    found: dict[str, Any] = {
        "votes": [6, 2],
        "labels": [sample.count(0), sample.count(1)],
        "silent": sample.count(-1),
        "sample": sample,
        "by_wrong": [[2, 1.0], [2, 0.5]],
        "most_wrong": most_wrong,
        "plurality_right": tally_right,
        "tally_right": tally_right,
    }
    return cast(Record, {"peer": peer, "round": 1, "tally": found})


def test_a_round_is_summed_up_over_peers() -> None:
    """Shares are of all probes of all peers, and weighted by how many there are."""
    series = {
        "a": [record("a", [0, 0, 1, -1], 1, 1.0)],
        "b": [record("b", [0, 1, 1, 1], 3, 1 / 3)],
        "c": [cast(Record, {"peer": "c", "round": 1, "tally": None})],
    }
    (found,) = tallies(series)
    assert found["agreement"] == pytest.approx(2 / 3)  # on the probes that both have a label for
    assert found["silent"] == 1 / 8
    assert found["most_wrong"] == 4 / 8
    assert found["tally_right"] == pytest.approx(2 / 4)
    assert found["by_wrong"] == [(0.5, 1.0), (0.5, 0.5)]
    assert found["votes"] == [0.75, 0.25]


def test_a_run_without_tallies_has_no_rounds() -> None:
    """Other methods tally nothing."""
    assert tallies({"a": [cast(Record, {"peer": "a", "round": 1, "tally": None})]}) == []

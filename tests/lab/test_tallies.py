"""Peers' tallies summed up: agreement, and how right they are where voters are wrong."""

from pathlib import Path
from typing import Any, cast

import pytest

from tallynode.lab import tally_plots
from tallynode.lab.figures import Figure
from tallynode.lab.records import Record
from tallynode.lab.tallies import tallies
from tallynode.lab.tally_plots import accuracy_by_skew, votes_by_class


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


def test_peers_of_different_class_lists_are_summed_up_and_drawn() -> None:
    """Each counts under its own numbers of classes, in every round as many as the longest list."""
    longer, later = record("b", [2, 2, 0, 1], 0, None), record("a", [0, 0, 1, 1], 0, None)
    cast(Any, longer)["tally"] |= {"votes": [1, 2, 5], "labels": [1, 1, 2]}
    later["round"] = 2
    found = tallies({"a": [record("a", [0, 0, 1, -1], 1, 1.0), later], "b": [longer]})
    assert found[0]["votes"] == [7 / 16, 4 / 16, 5 / 16]
    assert found[1]["votes"] == [0.75, 0.25, 0.0]
    assert "<svg" in votes_by_class(found)


def test_the_votes_of_a_single_round_are_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """An area between one round and itself is nothing to see."""
    bars: list[tuple[float, float]] = []

    def look(fig: Any) -> str:
        bars.extend((bar.get_width(), bar.get_height()) for bar in fig.axes[0].patches)
        return "<svg/>"

    monkeypatch.setattr(tally_plots, "to_svg", look)
    votes_by_class(tallies({"a": [record("a", [0, 0, 1, -1], 1, 1.0)]}))
    assert bars == [(pytest.approx(0.6), 0.75), (pytest.approx(0.6), 0.25)]


def test_a_run_without_tallies_has_no_rounds() -> None:
    """Other methods tally nothing."""
    assert tallies({"a": [cast(Record, {"peer": "a", "round": 1, "tally": None})]}) == []


def test_a_study_is_drawn_with_its_own_skews_and_methods(tmp_path: Path) -> None:
    """Also where a set was not run at every size: that panel stays empty, its methods are named."""
    rows = [
        {"data": data, "peers": peers, "α": alpha, "method": method, "accuracy": Figure.over([0.5])}
        for data, peers in (("digits", 5), ("digits", 10), ("fashion-mnist", 10))
        for alpha in ("0.1", "100")
        for method in ("alone", "soft labels", "soft labels, prior", "tallynode")
    ]
    accuracy_by_skew(rows, tmp_path / "grid.svg")
    drawn = (tmp_path / "grid.svg").read_text()
    for text in (">0.1<", ">100<", ">soft labels, prior<", ">fashion-mnist, 10 peers<"):
        assert text in drawn
    assert "fashion-mnist, 5 peers" not in drawn

"""summary.json: what the numbers are over, and what a restart does to a counter."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallynode.config import Mesh
from tallynode.errors import IoError
from tallynode.lab.records import Record, ended, format_bytes, format_share, payload_total, tidy
from tallynode.lab.summary import build_summary, installed_versions, write_summary
from tallynode.lab.virtual import records_of
from tallynode.protocol.settings import CONTENTS

NAMES = ["peer-1", "peer-2", "peer-3"]
Make = Callable[..., Any]


def test_means_are_over_the_last_round_of_every_peer(make_run: Make) -> None:
    """Accuracy and gain come from the last records and from the baseline of the same peers."""
    run = make_run(NAMES)
    summary = build_summary(*run)
    last = [record["accuracy"] for record in run.records if record["round"] == 20]
    alone = [outcome.alone for outcome in run.outcomes]
    assert summary["accuracy"] == {
        "mean": pytest.approx(sum(last) / 3),
        "min": min(last),
        "max": max(last),
        "peers": 3,
    }
    assert summary["gain_points"] == pytest.approx(100 * (sum(last) - sum(alone)) / 3)
    assert [peer["rounds"] for peer in summary["peers"]] == [20, 20, 20]


def test_a_killed_peer_is_listed_and_not_averaged(make_run: Make) -> None:
    """The mean, and the mean of alone, leave out a peer that did not finish; its row stays."""
    run = make_run(NAMES)
    run.outcomes[0] = replace(run.outcomes[0], exit="killed")
    records = [r for r in run.records if r["peer"] != "peer-1" or r["round"] <= 4]
    summary = build_summary(run.info, run.outcomes, records)
    assert summary["accuracy"] is not None
    assert summary["alone"] is not None
    assert summary["accuracy"]["peers"] == summary["alone"]["peers"] == 2
    assert summary["peers"][0]["rounds"] == 4
    assert summary["peers"][0]["exit"] == "killed"


def test_an_interrupted_run_still_has_its_mean(make_run: Make) -> None:
    """Peers that were asked to stop count, one that was killed before does not."""
    run = make_run(NAMES)
    outcomes = [replace(outcome, exit="stopped") for outcome in run.outcomes]
    for killed, peers in ((0, 3), (1, 2), (3, 3)):  # where all were killed, all that reported
        ends = [replace(of, exit="killed by SIGKILL") for of in outcomes[:killed]]
        summary = build_summary(run.info, ends + outcomes[killed:], run.records)
        assert summary["accuracy"] is not None
        assert summary["accuracy"]["peers"] == peers


def test_rounds_are_those_that_were_done(make_run: Make) -> None:
    """Not those that were planned: of a run cut short, those of the peer that did the most."""
    run = make_run(NAMES)
    short = [r for r in run.records if r["round"] <= (7 if r["peer"] == "peer-2" else 6)]
    assert build_summary(run.info, run.outcomes, short)["rounds"] == 7


def test_costs_are_measured_for_ballots_and_computed_for_the_rest(make_run: Make) -> None:
    """A ballot costs its bytes without relays; soft labels and parameters four bytes a value."""
    summary = build_summary(*make_run(NAMES))
    assert summary["costs"] == {
        "ballot_bytes_per_round": 250,
        "soft_label_bytes_per_round": 500 * 10 * 4,
        "parameter_bytes": 4810 * 4,
    }
    assert summary["bytes_per_peer_round"] is not None
    assert summary["bytes_per_peer_round"]["payload"] == 250 * 3 + 22
    assert summary["bytes_per_peer_round"]["wire_sent"] == 3 * 250 * 3


def test_a_virtual_mesh_has_no_wire_bytes(make_run: Make) -> None:
    """Wire bytes that nobody counted are null and not zero."""
    run = make_run(NAMES)
    for record in run.records:
        record["wire_bytes"] = {"sent": 0, "received": 0, "source": "none"}
    summary = build_summary(*run)
    assert summary["bytes_per_peer_round"] is not None
    assert summary["bytes_per_peer_round"]["wire_sent"] is None


def test_a_run_without_records_is_summed_up_too(make_run: Make) -> None:
    """A run stopped before its first round has null where numbers would be."""
    run = make_run(NAMES, baseline=False)
    summary = build_summary(run.info, run.outcomes, [])
    assert summary["accuracy"] is None
    assert summary["alone"] is None
    assert summary["gain_points"] is None
    assert summary["bytes_per_peer_round"] is None
    assert [peer["accuracy"] for peer in summary["peers"]] == [None] * 3


def test_counters_go_on_where_a_peer_started_again(make_run: Make) -> None:
    """What a killed process had published stays counted, and a repeated round counts once."""
    first, second = make_run(["pi"]).records[:5], deepcopy(make_run(["pi"]).records[:3])
    for record, number in zip(second, (5, 6, 7), strict=True):
        record["round"] = number
    (records,) = tidy(["pi"], first + second).values()
    assert [record["round"] for record in records] == [1, 2, 3, 4, 5, 6, 7]
    assert records[-1]["payload_bytes"]["ballot"] == 250 * (5 + 3)
    assert records[-1]["payload_received"]["control"] == 44 * (5 + 3)
    assert records[-1]["wire_bytes"]["sent"] == 3 * 250 * (5 + 3)
    assert records[3] == first[3]


def test_a_resumed_round_tells_a_restart_that_no_counter_does(make_run: Make) -> None:
    """A process that has published more than its predecessor at its first record is a new one."""
    records = make_run(["pi"]).records
    second = deepcopy(records[1])
    second["round"], second["resumed"] = 1, True
    (tidied,) = tidy(["pi"], [records[0], second]).values()
    assert [record["payload_bytes"]["ballot"] for record in tidied] == [250 + 500]


def test_the_last_record_counts_to_the_end(make_run: Make) -> None:
    """Only the last of each peer that has said so, and only what it counts."""
    records = make_run(["a", "b"]).records
    counted = {"a": {"relayed_bytes": 99_999, "wire_bytes": {"sent": 9}, "exit": "finished"}}
    found = ended(records, counted)
    last = max(i for i, record in enumerate(records) if record["peer"] == "a")
    assert found[last] == {**records[last], "relayed_bytes": 99_999, "wire_bytes": {"sent": 9}}
    assert [r for i, r in enumerate(found) if i != last] == [
        r for i, r in enumerate(records) if i != last
    ]


def test_a_life_without_a_record_is_added(make_run: Make) -> None:
    """A peer that started again, and was stopped before its next round: both lives count."""
    records = make_run(["pi"]).records[:2]
    after = {"payload_bytes": {**records[1]["payload_bytes"], "ballot": 50}}
    (tidied,) = tidy(["pi"], cast(list[Record], ended(records, {"pi": after}))).values()
    assert [record["payload_bytes"]["ballot"] for record in tidied] == [250, 500 + 50]


def test_wire_bytes_alone_do_not_tell_a_restart(make_run: Make) -> None:
    """A connection that ends may take its counter with it; nothing is counted twice for that."""
    records = make_run(["pi"]).records[:3]
    records[2]["wire_bytes"]["sent"] = 10
    (tidied,) = tidy(["pi"], records).values()
    assert tidied == records


def test_summary_is_pure_and_survives_json(make_run: Make, tmp_path: Path) -> None:
    """Equal records give equal summaries, and the file holds exactly that summary."""
    summary = build_summary(*make_run(NAMES))
    assert summary == build_summary(*make_run(NAMES))
    assert json.loads(write_summary(tmp_path, summary).read_text("utf-8")) == summary


def test_a_folder_that_is_gone_is_one_clear_line(make_run: Make, tmp_path: Path) -> None:
    """A summary that cannot be written names its file."""
    with pytest.raises(IoError, match=r"gone/summary\.json: cannot be written"):
        write_summary(tmp_path / "gone", build_summary(*make_run(NAMES)))


def test_versions_name_what_is_installed() -> None:
    """Versions are read from the installed packages, Python's own among them."""
    assert {"python", "torch", "numpy", "aiomqtt", "zeroconf"} <= installed_versions().keys()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1240, "1.24 kB"), (9_996, "10.0 kB"), (999_499, "999 kB")],
)
def test_bytes_read_with_three_digits(count: int, text: str) -> None:
    """Bytes are shown in powers of 1000 with three digits."""
    assert format_bytes(count) == text


@given(st.integers(0, 10**12))
def test_bytes_never_outgrow_their_column(count: int) -> None:
    """No count up to a terabyte is wider than the table's column for it."""
    assert len(format_bytes(count)) <= 7


def test_an_unknown_share_is_a_dash() -> None:
    """None is a dash and a share one decimal."""
    assert (format_share(None), format_share(0.7124)) == ("–", "71.2 %")


def test_published_bytes_add_up_by_class_and_coding(make_run: Callable[..., Any]) -> None:
    """Votes by coding, envelopes and control together are all that was published."""
    run = make_run(["a", "b"], rounds=4)
    summary = build_summary(run.info, run.outcomes, run.records)
    published = summary["published"]
    assert set(published) == {"votes, alone", "votes, history", "ballot envelopes", "control"}
    total = sum(payload_total(peer) for peer in summary["peers"])
    assert sum(published.values()) == total


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("fd", {"labels, soft", "ballot envelopes", "control"}),
        ("fedmd", {"scores, floats", "ballot envelopes", "control"}),
        ("fedavg", {"parameters, floats", "ballot envelopes", "control"}),
    ],
)
def test_what_a_ballot_holds_is_taken_from_its_own_class(
    make_run: Make, method: str, parts: set[str]
) -> None:
    """Soft labels, scores and parameters are parts of what was published, none of them negative."""
    task = {"probes": {"count": 40}, "partition": {"per_peer": 30}, "test": 30}
    own = {"graph": "complete", "rounds": {"count": 2}, "method": {"name": method, "hops": 1}}
    mesh = Mesh.model_validate({"mesh": "m", "peers": 2, "task": task, **own})
    info = replace(make_run(list(mesh.names)).info, contents=CONTENTS[method])
    summary = build_summary(info, [], records_of(mesh))
    assert set(summary["published"]) == parts
    assert min(summary["published"].values()) > 0
    total = sum(payload_total(peer) for peer in summary["peers"])
    assert sum(summary["published"].values()) == total

"""`tallynode simulate`: real peers in real processes, and the same ones in a made-up world."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tallynode.config import topology_dir

pytestmark = pytest.mark.slow

ROUNDS = [1, 2, 3, 4]
KEYS = {"mesh", "method", "seed", "rounds", "wall_s", "accuracy", "alone", "peers", "versions"}
PEER_KEYS = {
    *("name", "rounds", "accuracy", "neighbours_linked", "discovery_s"),
    *("payload_bytes", "wire_bytes", "rss_mib"),
}
TIMES = ("started", "wall_s", "command")


class Runs(NamedTuple):
    """One mesh, run as processes and twice as a virtual mesh."""

    real: Path
    virtual: tuple[Path, Path]
    piped: str  # what the second virtual one wrote to standard output


@pytest.fixture(scope="module")
def runs(shared_lab: Any) -> Runs:
    """Three runs of the same mesh of three, by what the command line says instead of the file."""
    words = (shared_lab.file(rounds={"count": 9}), "--rounds", "4", "--seed", "11")
    real = shared_lab.simulate(*words, out="real")
    virtual = shared_lab.simulate(*words, "--virtual", "--baseline", out="virtual")
    again = ("--virtual", "--baseline", "--jobs", "1", "--json", "--out", "again")
    command = shared_lab.start("simulate", "--peers-config", *words, *again)
    assert command.end() == 0
    return Runs(real, (virtual, shared_lab.folder / "again"), command.out)


def summary_of(run: Path) -> Any:
    """A run's summary.json."""
    return json.loads((run / "summary.json").read_text())


def learnt(run: Path) -> Any:
    """What a run came to, bit for bit, whatever moved the bytes."""
    fields = ("name", "rounds", "accuracy", "payload_bytes", "relayed_bytes")
    return [[peer[field] for field in fields] for peer in summary_of(run)["peers"]]


def test_three_processes_find_each_other_and_finish_every_round(runs: Runs, home: Any) -> None:
    """Over mDNS and real brokers every peer counts every vote of every round."""
    for peer in summary_of(runs.real)["peers"]:
        assert (peer["rounds"], peer["exit"], peer["refused"]) == (4, "finished", 0)
        assert peer["neighbours_linked"] == 2
        assert peer["discovery_s"] > 0
        assert peer["wire_bytes"]["sent"] > sum(peer["payload_bytes"].values())
        records = home(runs.real / "peers" / peer["name"]).records
        counted = [(r["round"], r["voters"], r["closed_by"]) for r in records]
        assert counted == [(number, 3, "all") for number in ROUNDS]
        assert all("lateness_ms" in record for record in records)


def test_summary_has_what_is_promised(runs: Runs) -> None:
    """summary.json has every key that a script may rely on."""
    summary = summary_of(runs.real)
    assert summary.keys() >= KEYS
    assert summary["accuracy"].keys() >= {"mean", "min", "max"}
    assert (summary["rounds"], summary["seed"]) == (4, 11)
    assert [peer["name"] for peer in summary["peers"]] == ["peer-1", "peer-2", "peer-3"]
    for peer in summary["peers"]:
        assert peer.keys() >= PEER_KEYS
        assert peer["payload_bytes"].keys() == {"ballot", "delta", "soft", "control"}
        assert peer["wire_bytes"].keys() == {"sent", "received", "source"}
        assert peer["rss_mib"] > 0


def test_bytes_are_counted_to_the_end(runs: Runs) -> None:
    """What a peer says after its last round is in the sums, as it is in its own outcome.json."""
    for peer in summary_of(runs.real)["peers"]:
        outcome = json.loads((runs.real / "peers" / peer["name"] / "outcome.json").read_text())
        for kind in ("payload_bytes", "payload_received", "wire_bytes", "relayed_bytes"):
            assert peer[kind] == outcome[kind]


def test_a_run_folder_explains_itself(runs: Runs, read_lines: Any) -> None:
    """Configuration, all records, and a report that needs no other file or host."""
    assert yaml.safe_load((runs.real / "topology.yaml").read_text())["rounds"]["count"] == 4
    found = sorted((r["peer"], r["round"]) for r in read_lines(runs.real / "rounds.jsonl"))
    assert found == [(f"peer-{peer}", number) for peer in (1, 2, 3) for number in ROUNDS]
    report = (runs.real / "report.html").read_text()
    assert report.count("<svg") >= 3
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|\#)|<link|@import|url\((?!\#)""", report)


def test_the_virtual_twin_learns_the_same(runs: Runs) -> None:
    """Accuracy and payload bytes of processes and virtual peers are equal, bit for bit."""
    assert learnt(runs.real) == learnt(runs.virtual[0])


def test_a_virtual_run_repeats_itself(runs: Runs) -> None:
    """Two runs of one seed write equal summaries apart from times; --baseline says `alone`."""
    first, second = (
        {key: value for key, value in summary_of(run).items() if key not in TIMES}
        for run in runs.virtual
    )
    assert first == second
    assert first["alone"].keys() >= {"mean"}
    assert all(peer["alone"] > 0 for peer in first["peers"])


def test_json_is_all_that_a_pipe_sees(runs: Runs) -> None:
    """With --json standard output is summary.json and nothing else."""
    assert json.loads(runs.piped) == summary_of(runs.virtual[1])


def own_bytes(run: Path) -> dict[str, int]:
    """The payload bytes of each peer's own ballots."""
    return {
        peer["name"]: peer["payload_bytes"]["ballot"] - peer["relayed_bytes"]
        for peer in summary_of(run)["peers"]
    }


@pytest.mark.privileged
def test_three_brokers_make_no_difference(lab: Any, stock_mosquitto: str) -> None:
    """Embedded, supervised and shared brokers: the same accuracy and ballots on ring-8, no asks.

    Who relays a ballot depends on the road that it took, and so on time; nobody relays it twice.
    """
    ring = yaml.safe_load((topology_dir() / "ring-8.yaml").read_text())
    patient = {"deadline": {"min": "30s"}}  # nothing is overdue and asked for on a busy machine
    of = {key: ring[key] for key in ("task", "method")}
    file = lab.file(graph="ring", peers=8, rounds=patient, **of)
    brokers = {"embedded": "embedded", "supervised": "mosquitto", "shared": stock_mosquitto}
    runs = [
        lab.simulate(file, "--rounds", "3", "--broker", broker, out=name)
        for name, broker in brokers.items()
    ]
    came_to = []
    for run in runs:
        peers, own = summary_of(run)["peers"], own_bytes(run)
        for peer in peers:
            assert peer["rounds"] == 3
            assert 0 < peer["relayed_bytes"] <= sum(own.values()) - own[peer["name"]]
        fields = [(peer["accuracy"], peer["payload_bytes"]["control"]) for peer in peers]
        came_to.append((fields, own))
    assert came_to[0] == came_to[1] == came_to[2]

"""Learners merged over real brokers: as in the virtual mesh, byte for byte, and over a crash."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tallynode.learning.idx import SETS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # three meshes of eight on two cores

PEERS, ROUNDS = 8, 3
# Beside a delta's bytes: MQTT's head alone where it shares a segment with a ballot, and that less
# than what busy peers ask twice in the other run; at most headers, acknowledgement, subscriptions.
SEGMENT_BYTES = (0, 420)
TASKS = {
    "mlp": {"data": "digits", "model": "mlp", "partition": {"per_peer": 60}},
    "lenet5": {"data": "fashion-mnist", "model": "lenet5", "partition": {"per_peer": 60}},
}


def summary_of(run: Path) -> Any:
    """A run's summary.json."""
    return json.loads((run / "summary.json").read_text())


def learnt(run: Path) -> Any:
    """What a run came to, whatever moved the bytes."""
    fields = ("name", "rounds", "accuracy", "payload_bytes", "refused")
    peers = summary_of(run)["peers"]
    return [
        [peer["payload_received"]["delta"], *(peer[field] for field in fields)] for peer in peers
    ]


@pytest.mark.parametrize("model", sorted(TASKS))
def test_eight_peers_merge_over_real_brokers_as_in_the_virtual_mesh(lab: Any, model: str) -> None:
    """Equal accuracies and payload bytes, bit for bit; the wire's are more by known overhead."""
    task = {**TASKS[model], "test": 200, "probes": {"count": 100}}
    installed = SETS["fashion-mnist"].debian
    if model == "lenet5" and not (installed and installed.is_dir()):
        pytest.skip("Fashion-MNIST is not installed (apt install dataset-fashion-mnist)")
    sections = {"peers": PEERS, "task": task, "rounds": {"count": ROUNDS, "local_steps": 2}}
    votes = lab.file("votes.yaml", **sections)
    bridge = {"every": 1, "density": 0.2}
    both = lab.file("both.yaml", **sections, method={"bridge": bridge})
    real, virtual = lab.simulate(both, out="real"), lab.simulate(both, "--virtual", out="virtual")
    assert learnt(real) == learnt(virtual)
    peers = summary_of(real)["peers"]
    sent = sum(peer["payload_bytes"]["delta"] for peer in peers)
    assert sum(peer["payload_received"]["delta"] for peer in peers) == (PEERS - 1) * sent
    alone = summary_of(lab.simulate(votes, out="votes"))["peers"]
    wire = [sum(peer["wire_bytes"]["sent"] for peer in run) for run in (peers, alone)]
    deltas = PEERS * (PEERS - 1) * ROUNDS
    overhead = (wire[0] - wire[1] - (PEERS - 1) * sent) / deltas
    assert SEGMENT_BYTES[0] < overhead < SEGMENT_BYTES[1]


def test_a_killed_peer_goes_on_merging(lab: Any, home: Any) -> None:
    """It comes back with the reference that its neighbours know, and nobody refuses anything."""
    rounds = {"count": 100_000, "local_steps": 2, "pace": "50ms", "quorum": 0.6}
    file = lab.file(
        rounds={**rounds, "start_within": "5s", "deadline": {"min": "1s", "max": "20s"}},
        method={"bridge": {"every": 2, "density": 0.05}},
    )
    names = ("peer-1", "peer-2", "peer-3")
    daemons = {name: lab.daemon(file, name) for name in names}
    victim = home(lab.folder / "peer-3")
    for _ in range(3):
        before = len(victim.records)
        daemons["peer-3"].until(lambda before=before: len(victim.records) > before + 5)
        daemons["peer-3"].signal(signal.SIGKILL)
        daemons["peer-3"].end()
        daemons["peer-3"] = lab.daemon(file, "peer-3")
    before = len(victim.records)
    daemons["peer-3"].until(lambda: len(victim.records) > before + 5)
    first, last = victim.records[before], victim.records[-1]
    assert first["resumed"]
    assert last["payload_received"]["delta"] > first["payload_received"]["delta"]
    for name in names:
        daemons[name].signal(signal.SIGTERM)
        assert daemons[name].end() == 0
        assert home(lab.folder / name).records[-1]["refused"] == 0

"""What a mesh moves: read by a stock client, and counted by the kernel."""

import shutil
import subprocess
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tallynode.edge.admission import keep_certificate
from tallynode.edge.identity import load_or_make

pytestmark = [pytest.mark.slow, pytest.mark.privileged]

TOLERANCE = 0.03
ETHERNET = 14  # bytes a packet that the loopback device does not count


def test_a_stock_client_sees_the_topics(lab: Any, home: Any) -> None:
    """mosquitto_sub with its default options reads a simulated peer's outbox."""
    client = shutil.which("mosquitto_sub")
    if client is None:
        pytest.skip("mosquitto_sub is not installed")
    file = lab.file(rounds={"count": 100_000})
    simulation = lab.start("simulate", "--peers-config", file, "--out", "run")
    peer = home(lab.folder / "run" / "peers" / "peer-1")
    simulation.until(lambda: peer.rounds)
    port = next(line["port"] for line in peer.log if line["event"] == "outbox open")
    read = subprocess.run(
        [client, "-h", "127.0.0.1", "-p", str(port), "-t", "#", "-F", "%t", "-C", "12", "-W", "60"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(read.stdout.split()) >= {"h", "v/peer-1"}
    simulation.ctrl_c()
    assert simulation.end() == 0


@pytest.mark.parametrize("pinned", [False, True])
def test_wire_bytes_of_a_mesh_are_what_the_interface_counts(
    lab: Any, home: Any, namespace: str, pinned: bool
) -> None:
    """All peers' TCP_INFO together is the interface's count, within three per cent; TLS or not."""
    names = ("a", "b", "c", "d")
    peers: list[dict[str, Any]] = [
        {"name": name, "address": "127.0.0.1", "port": 1883 + place}
        for place, name in enumerate(names)
    ]
    if pinned:  # and met before: a refused handshake is no connection either
        states = {name: lab.folder / name / "state" for name in names}
        devices = {name: load_or_make(state) for name, state in states.items()}
        for peer in peers:
            peer["id"] = devices[peer["name"]].id
        for me, other in permutations(names, 2):
            keep_certificate(states[me] / "identity", other, devices[other].certificate)
    # Attempts to reach a peer that is not there yet are no connections, and nobody counts them:
    # enough rounds, and ballots of 500 bytes, that they do not matter.
    sections = {
        "task": {"probes": {"count": 1000}},
        "rounds": {"count": 60},
        "method": {"coding": "packed"},
    }
    file = lab.file(peers=peers, discovery=False, graph="ring", **sections)
    inside = ("ip", "netns", "exec", namespace)
    daemons = [lab.daemon(file, name, within=inside) for name in names]
    assert [daemon.end() for daemon in daemons] == [0] * 4
    homes = [home(lab.folder / name) for name in names]
    assert all(at.records[-1]["voters"] == 4 for at in homes)
    statistics = Path("/sys/class/net/lo/statistics")
    read = subprocess.run(
        [*inside, "cat", statistics / "tx_bytes", statistics / "tx_packets"],
        check=True,
        capture_output=True,
        text=True,
    )
    counted, packets = map(int, read.stdout.split())
    wire = [at.outcome["wire_bytes"] for at in homes]
    assert {each["source"] for each in wire} == {"tcp-info"}
    interface = counted + ETHERNET * packets
    assert sum(each["sent"] for each in wire) == pytest.approx(interface, rel=TOLERANCE)
    assert sum(each["received"] for each in wire) == pytest.approx(interface, rel=TOLERANCE)

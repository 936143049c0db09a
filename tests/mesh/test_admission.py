"""Pinned peers as real processes: they train over TLS, and nobody else gets at them."""

import json
import shutil
import signal
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tallynode.edge.admission import keep_certificate
from tallynode.edge.identity import Identity, load_or_make
from tallynode.edge.pins import add_pin
from tallynode.lab.attempts import ATTEMPTS
from tallynode.lab.siege import ROUND_MAX_S, besiege

pytestmark = pytest.mark.slow

HAVE_TOOLS = shutil.which("mosquitto_sub") and shutil.which("mosquitto_pub")
HAVE_MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
GROWN_MAX_MIB = 16.0

# Behind the words of a command: what the peer is told, and its phase after it.
TELLS_EVENTS = """
import sys
from tallynode import cli
from tallynode.protocol.peer import Peer

step = Peer.step

def told(self, event, now):
    effects = step(self, event, now)
    print(type(event).__name__, self.phase.name, flush=True)
    return effects

Peer.step = told
cli.main(sys.argv[sys.argv.index("tallynode") + 1 :])
"""


def devices(lab: Any, names: str) -> dict[str, Identity]:
    """A key for each peer, in the state folder that it will run with."""
    return {name: load_or_make(lab.folder / name / "state") for name in names}


def entries(ports: list[int], known: dict[str, Identity], pinned: str) -> list[dict[str, Any]]:
    """Peers at fixed addresses on this host, some with their IDs."""
    return [
        {"name": name, "address": "127.0.0.1", "port": port}
        | ({"id": known[name].id} if name in pinned else {})
        for name, port in zip(known, ports, strict=False)
    ]


async def test_nobody_gets_at_a_running_peer(tmp_path: Path) -> None:
    """Everything of scripts/attempts: refused, bounded in memory, and the rounds end on time."""
    chosen = {
        name: attempt
        for name, attempt in ATTEMPTS.items()
        if HAVE_TOOLS or not name.startswith("mosquitto")
    }
    outcomes, rounds, _ = await besiege(tmp_path, chosen)
    assert [o.name for o in outcomes if not o.verdict.refused] == []
    assert {o.name: o.grown_mib for o in outcomes if o.grown_mib > GROWN_MAX_MIB} == {}
    assert rounds.count > 0
    assert (rounds.voters, rounds.closed_by) == ({2}, {"all"})
    assert rounds.slowest_s < ROUND_MAX_S


@pytest.mark.parametrize(
    "broker",
    [
        "embedded",
        pytest.param(
            "mosquitto",
            marks=pytest.mark.skipif(not HAVE_MOSQUITTO, reason="mosquitto is not installed"),
        ),
    ],
)
def test_pinned_peers_train(lab: Any, home: Any, free_ports: list[int], broker: str) -> None:
    """Two by the topology's IDs, the third by its pairing: every round has all votes."""
    known = devices(lab, "abc")
    for name in "ab":
        add_pin(lab.folder / name / "state", "c", known["c"].id)
    # A mosquitto is started anew when a neighbour is met for the first time, which costs rounds.
    for name, other in permutations("abc", 2) if broker == "mosquitto" else ():
        keep_certificate(lab.folder / name / "state" / "identity", other, known[other].certificate)
    file = lab.file(peers=entries(free_ports, known, "ab"), discovery=False, broker=broker)
    daemons = [lab.daemon(file, name) for name in "abc"]
    assert [daemon.end() for daemon in daemons] == [0, 0, 0]
    for name in "abc":
        records = home(lab.folder / name).records
        assert {(r["voters"], r["closed_by"]) for r in records} == {(3, "all")}
        assert records[-1]["refused"] == 0


def test_pins_change_while_peers_run(lab: Any, home: Any, free_ports: list[int]) -> None:
    """A pin that is taken away ends the peer's say within a round; given back, it votes again."""
    known = devices(lab, "abc")
    rounds = {"count": 0, "local_epochs": 20}
    with_c = entries(free_ports, known, "abc")
    common = lab.file("bc.yaml", peers=with_c, discovery=False, rounds=rounds)
    own = lab.file("a.yaml", peers=with_c, discovery=False, rounds=rounds)
    a = lab.daemon(own, "a")
    others = [lab.daemon(common, name) for name in "bc"]
    at = home(lab.folder / "a")
    a.until(lambda: len(at.records) > 5 and at.records[-1]["voters"] == 3)

    topology = yaml.safe_load(own.read_text())
    own.write_text(yaml.safe_dump({**topology, "peers": entries(free_ports, known, "ab")}))
    a.signal(signal.SIGHUP)
    a.until(lambda: a.says("pins read again"))
    done = len(at.records)
    a.until(lambda: len(at.records) > done + 5)
    after = [record["voters"] for record in at.records[done:]]
    assert set(after[1:]) == {2}, after  # a round may have closed while the signal was handled

    own.write_text("peers: [")
    a.signal(signal.SIGHUP)
    a.until(lambda: a.says("not taken over, the old pins hold"))
    own.write_text(yaml.safe_dump(topology))
    a.signal(signal.SIGHUP)
    a.until(lambda: at.records[-1]["voters"] == 3)
    for daemon in (a, *others):
        daemon.signal(signal.SIGTERM)
    assert [daemon.end() for daemon in (a, *others)] == [0, 0, 0]


def test_whoever_lacks_a_pin_does_not_cost_the_others_their_time(
    lab: Any, free_ports: list[int]
) -> None:
    """That c is not trusted is known at once, and b is waited for all the same."""
    known = devices(lab, "abc")
    file = lab.file(
        peers=entries(free_ports, known, "ab"),
        graph={"edges": [["a", "b"], ["b", "c"]]},
        method={"hops": 2},
    )
    a = lab.daemon(file, "a", within=(sys.executable, "-c", TELLS_EVENTS))
    a.until(lambda: a.says("not trusted"))
    a.signal(signal.SIGTERM)
    assert a.end() == 0
    assert a.out.splitlines()[:2] == ["Started STARTING", "Expelled STARTING"]


def test_off_loopback_nobody_starts_without_pins(lab: Any) -> None:
    """Exit code 78, and the message says all three ways out; the switch is said at each start."""
    file = lab.file(peers=["a", "b"], listen="0.0.0.0")
    daemon = lab.daemon(file, "a")
    assert daemon.end() == 78
    where = lab.folder / "a" / "state" / "pins.yaml"
    assert daemon.says(f"no neighbour of a (b) is pinned in the topology or in {where}")
    for way in ("tallynode pair", "tallynode id", "lab-network"):
        assert daemon.says(way)
    assert not daemon.says("outbox open")
    file = lab.file(peers=["a", "b"], insecure="lab-network", rounds={"start_within": "1s"})
    insecure = lab.daemon(file, "a")
    insecure.until(lambda: insecure.says("outbox open"))
    assert insecure.says("INSECURE: anybody on this network can read the ballots and vote")
    insecure.signal(signal.SIGTERM)
    assert insecure.end() == 0


def test_another_device_does_not_start_as_a_pinned_peer(lab: Any) -> None:
    """With the wrong state folder a peer would be refused everywhere: it says so at once."""
    known = devices(lab, "ab")
    peers = [{"name": "a", "id": known["b"].id}, "b"]
    daemon = lab.daemon(lab.file(peers=peers), "a")
    assert daemon.end() == 78
    assert daemon.says(f"this device is {known['a'].id}, but a is pinned as {known['b'].id}")


def test_a_simulation_of_a_pinned_mesh_needs_no_keys(lab: Any, home: Any) -> None:
    """The file that the devices run can be tried on one machine; its run folder says loopback."""
    known = devices(lab, "ab")
    peers = [
        {"name": name, "id": known[name].id, "address": f"192.0.2.{i}"}
        for i, name in enumerate("ab", 1)
    ]
    run = lab.simulate(lab.file(peers=peers, listen="0.0.0.0", rounds={"count": 2}))
    topology = yaml.safe_load((run / "topology.yaml").read_text())
    assert topology["insecure"] == "loopback"
    assert json.dumps(topology).count("TALLY-") == 0
    assert home(run / "peers" / "a").records[-1]["voters"] == 2

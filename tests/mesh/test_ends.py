"""How peers and simulations end, and begin again: by signals of every kind, and by crashes."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tallynode.errors import EX_IOERR, EX_SOFTWARE

pytestmark = pytest.mark.slow

ENDLESS = 100_000  # rounds
COUNT = 40  # rounds; enough that a peer dies and comes back before the others are done
STEPS = 30  # of training a round; long enough for a test to see a round go by
PATIENT_S = 30.0

# Behind the words of a command: its trainer breaks.
BROKEN = """
import sys
from tallynode import cli
from tallynode.edge.trainer import Trainer
from tallynode.errors import LocalError

async def train(self, job):
    raise LocalError("a broken contract")

Trainer.train = train
cli.main(sys.argv[sys.argv.index("tallynode") + 1 :])
"""

# Likewise: it tells itself to reload as it loads its data.
RELOADED_EARLY = """
import os, signal, sys
from tallynode import assemble, cli

load = assemble.parts

def parts(*which, **how):
    os.kill(os.getpid(), signal.SIGHUP)
    return load(*which, **how)

assemble.parts = parts
cli.main(sys.argv[sys.argv.index("tallynode") + 1 :])
"""


def none_left(family: list[psutil.Process]) -> bool:
    """Whether all these processes end, soon."""
    return not psutil.wait_procs(family, timeout=PATIENT_S)[1]


def all_train(homes: dict[str, Any]) -> bool:
    """Whether every peer has finished a round."""
    return all(home.rounds for home in homes.values())


@pytest.fixture
def running(lab: Any, home: Any) -> Any:
    """Starts a simulation of three peers: the command, and the peers' homes."""

    def start(count: int, *words: str) -> tuple[Any, dict[str, Any]]:
        file = lab.file(rounds={"count": count, "local_steps": STEPS})
        command = lab.start("simulate", "--peers-config", file, "--out", "run", *words)
        peers = lab.folder / "run" / "peers"
        return command, {name: home(peers / name) for name in ("peer-1", "peer-2", "peer-3")}

    return start


@contextmanager
def paused(homes: dict[str, Any]) -> Iterator[None]:
    """Time stands still for these peers, so that no slow machine starts another one too late."""
    pids = [home.pid for home in homes.values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def opened(home: Any) -> int:
    """How often a peer has begun to serve."""
    return [line["event"] for line in home.log].count("outbox open")


def see_that_all_is_well(homes: dict[str, Any], victim: Any, died_in: int) -> None:
    """All finished, nobody's vote was refused, and the victim's counted again."""
    for home in homes.values():
        assert home.rounds == list(range(1, COUNT + 1))
        assert "refused" not in [line["event"] for line in home.log]
    for home in (victim, *homes.values()):
        assert home.outcome["exit"] == "finished"
        assert home.outcome["refused"] == 0
    later = [record for record in victim.records if record["round"] > died_in]
    assert later[-1]["round"] == COUNT
    assert max(record["voters"] for record in later) == 3


def test_a_killed_peer_comes_back(lab: Any, running: Any) -> None:
    """The others go on without it; started again by hand it resumes, rejoins and finishes."""
    simulation, homes = running(COUNT)
    victim = homes.pop("peer-2")
    simulation.until(lambda: len(victim.rounds) > 1)
    os.kill(victim.pid, signal.SIGKILL)
    simulation.until(lambda: "start it again" in simulation.out)
    died_in = max(victim.rounds) + 1
    simulation.until(lambda: all(max(home.rounds) > died_in for home in homes.values()))
    where = ("--state-dir", victim.folder / "state", "--out", victim.folder, "--json")
    with paused(homes):
        again = lab.start("--peers-config", "run/topology.yaml", "--peer", "peer-2", *where)
        again.until(lambda: again.says("outbox open"))
    assert again.end() == 0
    assert simulation.end() == 0
    assert again.says('"resumed"')
    assert not again.says("refused")
    summary = json.loads((victim.folder.parent.parent / "summary.json").read_text())
    assert {peer["exit"] for peer in summary["peers"]} == {"finished"}
    see_that_all_is_well(homes, victim, died_in)


def test_restart_starts_a_killed_peer_again(running: Any) -> None:
    """With --restart the simulation itself brings it back, and all finish."""
    simulation, homes = running(COUNT, "--restart")
    victim = homes.pop("peer-2")
    simulation.until(lambda: len(victim.rounds) > 1)
    os.kill(victim.pid, signal.SIGKILL)
    with paused(homes):
        simulation.until(lambda: opened(victim) == 2)
    died_in = max(victim.rounds) + 1
    assert simulation.end() == 0
    assert {"resumed", "refused"} & {line["event"] for line in victim.log} == {"resumed"}
    see_that_all_is_well(homes, victim, died_in)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interrupted_simulation_leaves_results_and_no_process(running: Any, how: str) -> None:
    """However it is asked to stop, every peer ends and the run folder is complete."""
    simulation, homes = running(ENDLESS)
    simulation.until(lambda: all_train(homes))
    family = simulation.family()
    assert len(family) >= 1 + 3
    if how == "Ctrl-C":
        simulation.ctrl_c()
    else:
        simulation.signal(signal.SIGTERM)
    assert simulation.end() == 0
    assert none_left(family)
    for home in homes.values():
        assert home.outcome["exit"] == "stopped"
    run = next(iter(homes.values())).folder.parent.parent
    assert (run / "summary.json").exists()
    assert (run / "report.html").exists()


def test_peers_end_with_a_killed_simulation(running: Any) -> None:
    """SIGKILL of the simulation's process ends every peer too, in good order."""
    simulation, homes = running(ENDLESS)
    simulation.until(lambda: all_train(homes))
    family = simulation.family()
    simulation.signal(signal.SIGKILL)
    assert none_left(family)
    for home in homes.values():
        assert home.outcome["exit"] == "stopped"


def test_a_daemon_stops_when_asked(lab: Any, home: Any) -> None:
    """SIGTERM and SIGINT end a daemon that has no last round with exit code 0."""
    file = lab.file(peers=2, graph={"edges": []}, rounds={"count": 0})
    how = {"peer-1": signal.SIGTERM, "peer-2": signal.SIGINT}
    daemons = {name: lab.daemon(file, name) for name in how}
    for name, daemon in daemons.items():
        at = home(lab.folder / name)
        daemon.until(lambda at=at: len(at.rounds) > 1)
        family = daemon.family()
        daemon.signal(how[name])
        assert daemon.end() == 0
        assert none_left(family)
        assert at.outcome["exit"] == "stopped"


def test_a_reload_during_the_start_is_done_behind_it(lab: Any) -> None:
    """SIGHUP while the data are loaded neither ends the peer nor is lost."""
    file = lab.file(peers=1, graph={"edges": []})
    daemon = lab.daemon(file, "peer-1", within=(sys.executable, "-c", RELOADED_EARLY))
    assert daemon.end() == 0
    assert daemon.says("nothing to reload: peers are not pinned here")


def test_a_broken_contract_inside_the_daemon_is_one_line(lab: Any) -> None:
    """However many groups of tasks it comes through, its exit code is 70."""
    file = lab.file(peers=1, graph={"edges": []})
    daemon = lab.daemon(file, "peer-1", within=(sys.executable, "-c", BROKEN))
    assert daemon.end() == EX_SOFTWARE
    assert daemon.err.splitlines()[-1] == "tallynode: a broken contract"


def test_a_disk_that_fails_does_not_stop_the_votes(lab: Any, home: Any) -> None:
    """It says so once, goes on to its last round, and exits 74 since the model is nowhere."""
    rounds = {"count": 100, "local_steps": STEPS}
    daemon = lab.daemon(lab.file(peers=1, graph={"edges": []}, rounds=rounds), "peer-1")
    at = home(lab.folder / "peer-1")
    daemon.until(lambda: at.rounds)
    at.folder.rename(lab.folder / "gone")  # at once, while it may be writing
    assert daemon.end() == EX_IOERR
    assert daemon.err.count("cannot write records: going on without") == 1
    assert daemon.err.count("cannot save: going on without") == 1
    assert json.loads(daemon.err.splitlines()[-2])["round"] == 100
    assert str(at.folder) in daemon.err.splitlines()[-1]


def test_a_peer_whose_neighbours_never_come_trains_alone(
    lab: Any, home: Any, free_ports: list[int]
) -> None:
    """It waits for start_within, says that it is alone, does its rounds, and exits 0."""
    peers = [
        {"name": name, "address": "127.0.0.1", "port": port}
        for name, port in zip("abc", free_ports, strict=False)
    ]
    file = lab.file(peers=peers, discovery=False, rounds={"start_within": "100ms"})
    daemon, at = lab.daemon(file, "a"), home(lab.folder / "a")
    assert daemon.end() == 0
    assert daemon.err.count("alone, training on private data only") == 1
    assert at.rounds == [1, 2, 3, 4]
    assert {(r["closed_by"], r["voters"], r["agreement"]) for r in at.records} == {
        ("alone", 1, None)
    }
    assert at.outcome["exit"] == "finished"

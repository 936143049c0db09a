"""Meshes of real processes that are killed, cut off, and starved of disk: they go on."""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tallynode.edge.storage import SLOTS, CheckpointStore

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAP_S = 0.005
STEADY = {"count": 100_000, "local_steps": 2, "pace": "50ms"}


def script(name: str, *words: str, out: Path) -> dict[str, Any]:
    """Run a script to its good end; what it wrote with --json."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, *words, "--json", out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
def test_peers_killed_at_random_keep_their_promises(
    broker: str, tmp_path: Path, mosquitto: str | None
) -> None:
    """Thirty kills: state whole, no second ballot, deadlines kept, nothing left behind."""
    if broker == "mosquitto" and mosquitto is None:
        pytest.skip("mosquitto is not installed")
    kills = 30 if broker == "embedded" else 10
    words = ("--kills", str(kills), "--broker", broker)
    found = script("crash_test", *words, out=tmp_path / "crash.json")
    assert found["kills"] == kills
    assert all(verdict["looked"] for verdict in found["verdicts"])


def test_chaos_between_peers_ends_with_all_linked(tmp_path: Path) -> None:
    """Delays, resets, black holes and half-open links cost rounds, and no round its deadline."""
    found = script("chaos_test", "--seconds", "10", out=tmp_path / "chaos.json")
    assert found["chaos"]["connections"] > found["calm"]["connections"]
    assert found["chaos"]["voters, mean"] > 2


def test_a_soak_finds_nothing_that_grows_but_memory(tmp_path: Path) -> None:
    """Ten seconds of a mesh: descriptors, threads and tasks are flat; memory needs longer."""
    out = tmp_path / "soak.json"
    words = ("--minutes", "0.2", "--peers", "3", "--pace", "100ms", "--json", out)
    subprocess.run([sys.executable, SCRIPTS / "soak", *words], capture_output=True, check=False)
    for of in json.loads(out.read_text())["trends"]:
        assert of["rounds"] > 30
        for what in ("fds", "threads", "tasks"):
            early, late = of[what]
            assert 0 < late <= early + 1, what  # so short a run may catch one at its start
        assert of["threads"][1] <= 12


def test_a_peer_away_for_a_hundred_rounds_is_back_in_the_next(lab: Any, home: Any) -> None:
    """It closes the round that it had open, then votes in the one that the others are in."""
    file = lab.file(rounds={**STEADY, "quorum": 0.6, "start_within": "5s"})
    names = ("peer-1", "peer-2", "peer-3")
    daemons = {name: lab.daemon(file, name) for name in names}
    others, victim = home(lab.folder / "peer-1"), home(lab.folder / "peer-3")
    daemons["peer-3"].until(lambda: len(victim.rounds) > 5)
    daemons["peer-3"].signal(signal.SIGKILL)
    daemons["peer-3"].end()
    before, died_in = len(victim.records), others.rounds[-1]
    daemons["peer-1"].until(lambda: others.rounds[-1] > died_in + 100)
    again = lab.daemon(file, "peer-3")
    again.until(lambda: again.says('"resumed"'))
    came_back_in = others.rounds[-1]
    again.until(lambda: len(victim.records) > before + 5)
    first, second = victim.records[before : before + 2]
    assert first["resumed"]
    assert not second["resumed"]
    assert second["round"] >= came_back_in
    assert max(record["voters"] for record in victim.records[before:]) == 3
    for daemon in (daemons["peer-1"], daemons["peer-2"], again):
        daemon.signal(signal.SIGTERM)
        assert daemon.end() == 0
        assert not daemon.says("different ballots")


# -- a disk that fails ----------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(state: Path) -> Iterator[None]:
    """No byte is left on the file system, nor where a save that was under way gives some back."""
    ballast, stop = state / "ballast", threading.Event()

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            while not stop.wait(0.005):
                with contextlib.suppress(OSError):
                    while not stop.is_set():
                        file.write(bytes(4096))

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        yield
    finally:
        stop.set()
        filling.join()
        ballast.unlink()


@contextlib.contextmanager
def read_only_disk(state: Path) -> Iterator[None]:
    """What is written finds a read-only file system, as ext4 is after an error."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", state], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", state], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 4 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mount]
    if os.geteuid() or subprocess.run(made, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a file system")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


@pytest.mark.privileged
@pytest.mark.parametrize("failing", [full_disk, read_only_disk])
def test_a_peer_votes_on_while_its_disk_fails_and_saves_when_it_is_back(
    lab: Any, home: Any, small_disk: Path, failing: Callable[[Path], Any]
) -> None:
    """Rounds go on, the trouble is told once and recorded, and so is its end."""
    file = lab.file(peers=1, graph={"edges": []}, rounds=STEADY)
    where = ("--state-dir", small_disk, "--out", lab.folder / "out", "--json")
    daemon = lab.start("--peers-config", file, "--peer", "peer-1", *where)
    at = home(lab.folder / "out")
    daemon.until(lambda: len(at.rounds) > 2)
    with failing(small_disk):
        daemon.until(lambda: daemon.says("cannot save: going on without"))
        failed_in = at.rounds[-1]
        daemon.until(lambda: at.rounds[-1] > failed_in + 5)
        assert at.records[-1]["troubles"] == ["save"]
    daemon.until(lambda: daemon.says("can save again"))
    daemon.until(lambda: not at.records[-1]["troubles"])
    assert daemon.err.count("cannot save") == 1
    daemon.signal(signal.SIGTERM)
    assert daemon.end() == 0
    loaded = CheckpointStore(small_disk).load()
    assert loaded is not None
    assert not loaded.damaged


@pytest.mark.privileged
def test_a_peer_starts_on_a_full_disk(lab: Any, home: Any, small_disk: Path) -> None:
    """It resumes from what is there, says what it cannot do, and goes on."""
    file = lab.file(peers=1, graph={"edges": []}, rounds=STEADY)
    where = ("--state-dir", small_disk, "--out", lab.folder / "out", "--json")
    start = ("--peers-config", file, "--peer", "peer-1", *where)
    daemon, at = lab.start(*start), home(lab.folder / "out")
    daemon.until(lambda: len(at.rounds) > 2)
    daemon.signal(signal.SIGKILL)
    daemon.end()
    died_after = at.rounds[-1]
    with full_disk(small_disk):
        again = lab.start(*start)
        again.until(lambda: at.rounds[-1] > died_after + 3)
        assert again.says('"resumed"')
        assert again.says("cannot save: going on without")
        again.signal(signal.SIGTERM)
        assert again.end() == 0


def test_a_torn_checkpoint_falls_back_and_says_so(lab: Any, home: Any) -> None:
    """With its newest generation cut short, a peer resumes from the one before."""
    file = lab.file(peers=1, graph={"edges": []}, rounds=STEADY)
    daemon, at = lab.daemon(file, "peer-1"), home(lab.folder / "peer-1")
    daemon.until(lambda: len(at.rounds) > 3)
    daemon.signal(signal.SIGKILL)
    daemon.end()
    slots = [at.folder / "state" / slot for slot in SLOTS]
    newest = max(slots, key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-100])
    died_after = at.rounds[-1]
    again = lab.daemon(file, "peer-1")
    again.until(lambda: again.says('"resumed"'))
    again.until(lambda: at.rounds[-1] > died_after)
    assert again.says("damaged checkpoint passed over")
    again.signal(signal.SIGTERM)
    assert again.end() == 0


# -- training beside the network ------------------------------------------------------------------


@contextlib.contextmanager
def overslept() -> Iterator[list[float]]:
    """How late the machine wakes a process that does nothing, at worst in each 0.2 s, in ms."""
    worst: list[float] = []
    over = threading.Event()

    def sleep() -> None:
        while not over.is_set():
            began, late_s = time.monotonic(), 0.0
            while (now := time.monotonic()) < began + 0.2:
                over.wait(NAP_S)
                late_s = max(late_s, time.monotonic() - now - NAP_S)
            worst.append(1000 * late_s)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    try:
        yield worst
    finally:
        over.set()
        sleeper.join()


def test_the_loop_is_not_late_while_training(lab: Any, home: Any) -> None:
    """In most rounds the loop is at worst 50 ms later beside training than the machine makes it."""
    file = lab.file(
        peers=1,
        graph={"edges": []},
        task={"partition": {"per_peer": 500}},
        rounds={"count": 9, "local_steps": 1500},
    )
    daemon, at = lab.daemon(file, "peer-1"), home(lab.folder / "peer-1")
    daemon.until(lambda: at.rounds)
    with overslept() as machine_ms:
        assert daemon.end() == 0
    late_ms = statistics.median(record["lateness_ms"] for record in at.records)
    assert late_ms < 50 + statistics.median(machine_ms)
    longest_s = max(record["round_s"] for record in at.records)
    assert longest_s > 0.2, "there was nothing to be late for"

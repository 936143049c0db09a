"""What the mesh tests need: topology files, the command as a user starts it, what peers wrote."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tallynode.lab import trial

WAIT_S = 100.0  # seconds; far beyond what is needed, so that only a failure reaches it
LOOK_S = 0.05  # seconds between two looks at files
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")

# Small and fast; patience beyond measure, so that every round closes with all votes on any machine.
TOPOLOGY: dict[str, Any] = {
    "graph": {"kind": "complete"},
    "task": {
        "data": "digits",
        "model": "mlp",
        "probes": {"count": 200},
        "partition": {"dirichlet": 0.5, "per_peer": 60},
    },
    "rounds": {
        "count": 4,
        "deadline": {"min": "60s", "max": "90s"},
        "quorum": 1.0,
        "start_within": "60s",
    },
}


def _heed_ctrl_c() -> None:
    """What runs in a shell's background ignores SIGINT, and hands that on; a terminal does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """`tallynode …` as a process of its own, in a session of its own as in a terminal."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._files = [folder / f"{secrets.token_hex(4)}.{way}" for way in ("out", "err")]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                preexec_fn=_heed_ctrl_c,
            )
        self.pid = self._process.pid

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return self._files[0].read_text()

    @property
    def err(self) -> str:
        """What it has written to standard error."""
        return self._files[1].read_text()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds, while the command runs."""
        for _ in range(int(WAIT_S / LOOK_S)):
            if condition():
                return
            try:
                self._process.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                continue
            assert condition(), f"ended with {self._process.returncode}: {self.out}{self.err}"
            return
        pytest.fail(f"waited in vain: {self.out}{self.err}")

    def says(self, text: str) -> bool:
        """Whether its standard error holds this text yet."""
        return text in self.err

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(number)

    def ctrl_c(self) -> None:
        """SIGINT to all processes of the session, as a terminal sends it."""
        os.killpg(self.pid, signal.SIGINT)

    def family(self) -> list[psutil.Process]:
        """This process and all that descend from it."""
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def end(self) -> int:
        """Wait for the end, see that there is no traceback; the exit code."""
        code = self._process.wait(WAIT_S)
        assert "Traceback" not in self.err + self.out, self.err
        return code

    def clean_up(self) -> None:
        """Leave nothing running, whatever a test did."""
        if self._process.poll() is None:
            for process in self.family():
                process.kill()
            self._process.wait()


class Lab:
    """A folder with topology files, commands and run folders in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mesh = f"test-{secrets.token_hex(4)}"  # no other mesh on this host has this name
        self._commands: list[Command] = []

    def file(self, name: str = "topology.yaml", **sections: Any) -> Path:
        """A topology of three peers, with sections replaced, or changed where both are mappings."""
        topology: dict[str, Any] = {"mesh": self.mesh, "peers": 3, **TOPOLOGY}
        for key, value in sections.items():
            old = topology.get(key)
            if isinstance(old, Mapping) and isinstance(value, Mapping) and key != "graph":
                value = {**old, **value}
            topology[key] = value
        path = self.folder / name
        path.write_text(yaml.safe_dump(topology))
        return path

    def start(self, *words: str | Path, within: tuple[str, ...] = ()) -> Command:
        """Start `tallynode` with these words, behind another command if need be."""
        line = [*within, sys.executable, "-m", "tallynode", *map(str, words)]
        command = Command(line, self.folder)
        self._commands.append(command)
        return command

    def daemon(self, file: Path, peer: str, **how: Any) -> Command:
        """Start one peer that writes to folders of its own, its log in JSON lines."""
        home = self.folder / peer
        return self.start(
            *("--peers-config", file, "--peer", peer, "--json"),
            *("--state-dir", home / "state", "--out", home),
            **how,
        )

    def simulate(self, file: Path, *words: str, out: str = "run") -> Path:
        """Run a simulation to its good end; its run folder."""
        run = self.folder / out
        command = self.start("simulate", "--peers-config", file, "--out", run, *words)
        assert command.end() == 0, command.err
        return run

    def clean_up(self) -> None:
        """Leave nothing running."""
        for command in self._commands:
            command.clean_up()


class Home:
    """What a peer wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its rounds.jsonl as it stands."""
        return json_lines(self.folder / "rounds.jsonl")

    @property
    def rounds(self) -> list[int]:
        """The rounds that it has finished, in the order of the file."""
        return [record["round"] for record in self.records]

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log lines in a simulation."""
        return json_lines(self.folder / "log.jsonl")

    @property
    def pid(self) -> int:
        """The process that holds its state folder."""
        return int((self.folder / "state" / "lock").read_text())

    @property
    def outcome(self) -> dict[str, Any]:
        """Its outcome.json."""
        found: dict[str, Any] = json.loads((self.folder / "outcome.json").read_text())
        return found


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may still grow, or not be there yet."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A fresh Lab; what it started is gone after the test."""
    lab = Lab(tmp_path)
    yield lab
    lab.clean_up()


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A Lab for all tests of a file: a run that several look at is made once."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.clean_up()


@pytest.fixture
def home() -> type[Home]:
    """Makes a Home."""
    return Home


@pytest.fixture
def read_lines() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads a file of JSON lines."""
    return json_lines


@pytest.fixture
def free_ports() -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on just now."""
    return trial.free_ports(4)


@pytest.fixture
def mosquitto() -> str | None:
    """Path of the mosquitto program, if it is installed."""
    return MOSQUITTO


@pytest.fixture
def stock_mosquitto(tmp_path: Path, free_ports: list[int]) -> Iterator[str]:
    """mqtt:// address of a mosquitto that anybody may read and write, as for a shared broker."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    config = tmp_path / "stock.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(f"listener {free_ports[0]} 127.0.0.1\nallow_anonymous true\n{user}")
    process = subprocess.Popen([MOSQUITTO, "-c", config], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("running" in line for line in process.stderr), "mosquitto did not start"
    yield f"mqtt://127.0.0.1:{free_ports[0]}"
    process.terminate()
    process.communicate()

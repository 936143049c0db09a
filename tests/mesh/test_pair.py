"""`tallynode id` and `tallynode pair` as people use them: in terminals, with state folders."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tallynode.edge.identity import load_or_make
from tallynode.edge.pins import add_pin, read_pins

WAIT_S = 30.0
ID = r"TALLY(?:-[0-9A-HJKMNP-TV-Z]{5}){8}"


def _hear_ctrl_c() -> None:
    """A shell in front of a person never hands SIGINT on ignored; one behind a test may."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *words: str | Path) -> None:
        ours, theirs = pty.openpty()
        self._screen = ours
        self.text = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tallynode", *map(str, words)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )
        os.close(theirs)

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows this; what stood up to there does not count again."""
        while (found := re.search(pattern, self.text)) is None:
            assert select.select([self._screen], [], [], WAIT_S)[0], f"waits in vain: {self.text}"
            try:
                self.text += os.read(self._screen, 4096).decode().replace("\r\n", "\n")
            except OSError:  # Linux's word for the end of a terminal
                pytest.fail(f"ended before {pattern!r}: {self.text}")
        self.text = self.text[found.end() :]
        return found

    def type(self, text: str) -> None:
        """Type at the keyboard."""
        os.write(self._screen, text.encode())

    def ctrl_c(self) -> None:
        """SIGINT, as the terminal sends it."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for the end; the exit code."""
        return self._process.wait(WAIT_S)

    def clean_up(self) -> None:
        """Leave nothing running."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._screen)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    """Opens terminals, and closes them after the test."""
    opened: list[Terminal] = []

    def open_terminal(*words: str | Path) -> Terminal:
        opened.append(Terminal(*words))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.clean_up()


def pair(terminal: Callable[..., Terminal], file: Path, folder: Path, name: str) -> Terminal:
    """`tallynode pair` at one device."""
    where = ("--peers-config", file, "--peer", name, "--state-dir", folder / name / "state")
    return terminal("pair", *where)


def test_two_devices_pair_as_a_new_user_would(
    lab: Any, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Each shows its own ID and the other's; a yes on each writes both pins, and both end."""
    file = lab.file(peers=["a", "b"])
    a, b = (pair(terminal, file, tmp_path, name) for name in "ab")
    own_a = a.expect(rf"This is a:\s+({ID})")[1]
    own_b = b.expect(rf"This is b:\s+({ID})")[1]
    assert a.expect(rf"b shows itself as\s+({ID})\s.*\[y/N\]")[1] == own_b
    a.type("y\n")
    a.expect("Waiting for the yes at b")
    assert b.expect(rf"a shows itself as\s+({ID})\s.*\[y/N\]")[1] == own_a
    assert read_pins(tmp_path / "a" / "state") == {}
    b.type("yes\n")
    a.expect("b is paired")
    b.expect("a is paired")
    assert (a.end(), b.end()) == (0, 0)
    assert read_pins(tmp_path / "a" / "state") == {"b": own_b}
    assert read_pins(tmp_path / "b" / "state") == {"a": own_a}


def test_without_a_yes_on_both_sides_nothing_is_pinned(
    lab: Any, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """One yes is not enough: the other said no, and is not asked again."""
    file = lab.file(peers=["a", "b"])
    a, b = (pair(terminal, file, tmp_path, name) for name in "ab")
    a.expect(r"\[y/N\]")
    a.type("y\n")
    b.expect(r"\[y/N\]")
    b.type("\n")
    b.expect("a is not paired; run pair again")
    a.expect("Waiting for the yes at b")
    for each in (a, b):
        each.ctrl_c()
        each.expect("interrupted")
        assert each.end() == 130
    assert read_pins(tmp_path / "a" / "state") == read_pins(tmp_path / "b" / "state") == {}


def test_what_is_typed_before_the_question_is_no_answer(
    lab: Any, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """A yes must follow the ID that it is about."""
    file = lab.file(peers=["a", "b"])
    a = pair(terminal, file, tmp_path, "a")
    a.expect("This is a:")
    a.type("y\n")
    pair(terminal, file, tmp_path, "b")
    a.expect(r"\[y/N\]")
    a.type("n\n")
    assert a.expect("Waiting for the yes|b is not paired")[0] == "b is not paired"


def test_three_devices_pair_in_one_go(
    lab: Any, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Nobody leaves before the others know: every device ends with the two others pinned."""
    file = lab.file(peers=["a", "b", "c"])
    devices = [pair(terminal, file, tmp_path, name) for name in "abc"]
    for _ in range(2):
        for device in devices:
            device.expect(r"\[y/N\]")
            device.type("y\n")
    assert [device.end() for device in devices] == [0, 0, 0]
    assert [sorted(read_pins(tmp_path / name / "state")) for name in "abc"] == [
        ["b", "c"],
        ["a", "c"],
        ["a", "b"],
    ]


def test_a_newcomer_pairs_with_a_running_peer(
    lab: Any, home: Any, terminal: Callable[..., Terminal], tmp_path: Path, free_ports: list[int]
) -> None:
    """Who is pinned in the file is not asked about; the running peer takes the new pin over."""
    states = {name: lab.folder / name / "state" for name in "ab"}
    peers = [
        {"name": name, "address": "127.0.0.1", "port": port}
        for name, port in zip("ab", free_ports, strict=False)
    ]
    peers[0]["id"] = load_or_make(states["a"]).id
    file = lab.file(peers=peers, rounds={"count": 0, "local_epochs": 20, "start_within": "1s"})
    add_pin(states["a"], "b", load_or_make(tmp_path / "the b that broke").id)
    running = lab.daemon(file, "a")
    running.until(lambda: running.says("outbox open"))
    (states["a"] / "pins.yaml").unlink()
    a, b = (pair(terminal, file, lab.folder, name) for name in "ab")
    own = b.expect(rf"This is b:\s+({ID})")[1]
    assert a.expect(rf"b shows itself as\s+({ID})\s.*\[y/N\]")[1] == own
    a.type("y\n")
    b.expect("a is paired")
    assert (a.end(), b.end()) == (0, 0)
    assert "[y/N]" not in b.text
    running.until(lambda: running.says("pins read again"))
    newcomer = lab.daemon(file, "b")
    at = home(lab.folder / "a")
    running.until(lambda: at.records and at.records[-1]["voters"] == 2)
    for daemon in (running, newcomer):
        daemon.signal(signal.SIGTERM)
    assert (running.end(), newcomer.end()) == (0, 0)


def test_a_replaced_device_is_said_where_it_is_pinned(
    lab: Any, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """Its old pin is not paired over; the person reads what to delete, also while c is awaited."""
    file = lab.file(peers=["a", "b", "c"])
    old = load_or_make(tmp_path / "the b that broke").id
    add_pin(tmp_path / "a" / "state", "b", old)
    a, b = (pair(terminal, file, tmp_path, name) for name in "ab")
    own = b.expect(rf"This is b:\s+({ID})")[1]
    told = a.expect(rf"b shows itself as\s+({ID})\s+but is pinned as\s+({ID})\s[^.]*in\s+(\S+) and")
    assert (told[1], told[2]) == (own, old)
    assert told[3] == str(tmp_path / "a" / "state" / "pins.yaml")


def test_pair_says_why_it_cannot(lab: Any, terminal: Callable[..., Terminal]) -> None:
    """Without a terminal, and without discovery."""
    command = lab.start("pair", "--peers-config", lab.file(), "--peer", "peer-1")
    assert command.end() == 64
    assert command.says("needs a terminal")
    silent = terminal("pair", "--peers-config", lab.file(discovery=False), "--peer", "peer-1")
    silent.expect("discovery is off in this mesh")
    assert silent.end() == 78


def test_id_is_the_same_every_time(lab: Any, tmp_path: Path) -> None:
    """One line on standard output, also where the state folder is named after mesh and peer."""
    words = ("id", "--state-dir", tmp_path / "state")
    commands = [lab.start(*words) for _ in range(2)]
    assert [command.end() for command in commands] == [0, 0]
    assert commands[0].out == commands[1].out
    assert re.fullmatch(ID + "\n", commands[0].out)
    nobody = lab.start("id")
    assert nobody.end() == 64
    assert nobody.says("id needs to know whose")

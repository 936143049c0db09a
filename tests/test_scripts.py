"""How scripts read their options and how they end."""

import signal
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tallynode.cli_options import list_of, names_of
from tallynode.cli_script import run_script
from tallynode.errors import (
    EX_DATAERR,
    EX_INTERRUPTED,
    EX_IOERR,
    EX_OK,
    EX_USAGE,
    DataError,
    IoError,
)
from tallynode.lab.lines import append, end_line, lines_of

Ends = Callable[..., tuple[int, str]]


@pytest.fixture
def ends(
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ends:
    """Runs a script as its last line does; its exit code and what it says of it."""

    def end(name: str, *words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [f"scripts/{name}", *words])
        with pytest.raises(SystemExit) as ended:
            run_script(script(name).main)
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().err

    return end


def raises(error: BaseException) -> Callable[[], None]:
    """A script that goes wrong."""

    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        (lambda: None, EX_OK, ""),
        (lambda: 1, 1, ""),
        (raises(DataError("no data")), EX_DATAERR, ": no data\n"),
        (raises(FileExistsError(17, "File exists", "x")), EX_IOERR, ": x: File exists\n"),
        (raises(KeyboardInterrupt()), EX_INTERRUPTED, ": interrupted\n"),
        (lambda: signal.raise_signal(signal.SIGTERM), EX_INTERRUPTED, ": interrupted\n"),
    ],
)
def test_a_script_ends_by_sysexits(
    main: Callable[[], int | None], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and no traceback for whatever is not our own bug."""
    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == code
    assert capsys.readouterr().err.endswith(said)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_file_in_place_of_a_folder_is_named(ends: Ends, tmp_path: Path) -> None:
    """The operating system's word, the file, and the exit code of an input or output error."""
    file = tmp_path / "file"
    file.write_text("")
    assert ends("bench_tally", str(file)) == (EX_IOERR, f"bench_tally: {file}: File exists\n")


def test_a_wrong_option_is_a_wrong_command_line(ends: Ends) -> None:
    """64, as the command has it, and not argparse's 2."""
    code, said = ends("bench_tally", "DIR", "--jobs", "0")
    assert code == EX_USAGE
    assert "--jobs: should be 1 or more, not 0" in said


def test_a_folder_without_streams_is_said_to_be_one(ends: Ends, tmp_path: Path) -> None:
    """And what writes them."""
    code, said = ends("bench_coding", str(tmp_path))
    assert code == EX_DATAERR
    assert "holds no streams" in said


KNOWN = ["alone", "soft labels", "soft labels, prior", "majority, as in the paper"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("majority, as in the paper", KNOWN[3:]),
        ("soft labels, prior", KNOWN[2:3]),
        ("alone,soft labels", KNOWN[:2]),
        ("majority, as in the paper,alone", [KNOWN[3], KNOWN[0]]),
        ("soft labels ; alone", [KNOWN[1], KNOWN[0]]),
    ],
)
def test_names_may_hold_commas(text: str, names: list[str]) -> None:
    """The longest name that fits is meant, alone or among others."""
    assert names_of(KNOWN)(text) == names


@pytest.mark.parametrize("text", ["", "alon", "alone, prior", "alonesoft labels"])
def test_a_name_that_is_not_known_is_refused(text: str) -> None:
    """With those that are."""
    with pytest.raises(ArgumentTypeError, match="is none of: alone; soft labels"):
        names_of(KNOWN)(text)


def test_a_list_is_read_at_commas() -> None:
    """With spaces or without."""
    assert list_of(int)("1, 2,3") == [1, 2, 3]


def test_lines_that_the_system_refuses_name_their_file(tmp_path: Path) -> None:
    """A file that is a folder, and a folder that is not there."""
    with pytest.raises(IoError, match="cannot be read: Is a directory"):
        list(lines_of(tmp_path))
    for work in (lambda: append(tmp_path, [{}]), lambda: end_line(tmp_path)):
        with pytest.raises(IoError, match="cannot be written: Is a directory"):
            work()
    with pytest.raises(IoError, match="gone/lines: cannot be written: No such"):
        append(tmp_path / "gone" / "lines", [{}])

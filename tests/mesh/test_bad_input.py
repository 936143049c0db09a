"""What a person gets wrong: one clear line on standard error, an exit code, and no traceback."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tallynode.edge.storage import FolderLock
from tallynode.errors import EX_CONFIG, EX_DATAERR, EX_IOERR, EX_SOFTWARE, EX_USAGE


@pytest.fixture
def fails(lab: Any) -> Any:
    """Runs a command that must fail: its exit code and what it says."""

    def run(*words: str | Path) -> tuple[int, str]:
        command = lab.start(*words)
        code = command.end()
        assert command.out == ""
        return code, command.err

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--peers-config FILE, or a command (simulate, check), is needed"),
        (["--no-such"], "unrecognized arguments: --no-such"),
        (["simulate", "--no-such"], "unrecognized arguments: --no-such"),
        (["simulte"], "invalid choice: 'simulte'"),
        (["check"], "required: FILE"),
        (["simulate", "a.yaml", "--peers-config", "b.yaml"], "the mesh is named twice"),
        (["simulate", "--rounds", "-1"], "--rounds: "),
        (["simulate", "--virtual", "--jobs", "0"], "--jobs: should be 1 or more, not 0"),
        (["bench", "--jobs", "many"], "--jobs: should be 1 or more, not many"),
        (["--threads", "0"], "--threads: should be 1 or more, not 0"),
        (["simulate", "--rounds", "0"], "give a simulation an end with --rounds N"),
        (["simulate", "--rounds", "ten"], "--rounds: invalid int value: 'ten'"),
        (["simulate", "--seed", "-1"], "--seed: "),
        (["simulate", "--broker", "hive"], "--broker: "),
    ],
)
def test_a_wrong_command_line(fails: Any, words: list[str], said: str) -> None:
    """Exits with 64 and names the option."""
    code, err = fails(*words)
    assert code == EX_USAGE
    assert said in err


def test_wrong_yaml(lab: Any, fails: Any) -> None:
    """Exits with 78 and names every mistake by file, line and column."""
    file = lab.folder / "wrong.yaml"
    file.write_text("mesh: m\npeers: [{name: a}, {name: a}]\ngraf: ring\n")
    for words in (["check", file], ["simulate", "--peers-config", file]):
        code, err = fails(*words)
        assert code == EX_CONFIG
        assert f"{file}:2:16: peers[0].name: " in err
        assert f"{file}:3:1: graf: unknown key; did you mean 'graph'?" in err


def test_a_file_that_is_none(lab: Any, fails: Any) -> None:
    """A missing file, a folder and text that is no YAML exit with 78 and name the file."""
    torn = lab.folder / "torn.yaml"
    torn.write_text("mesh: [")
    for file in (lab.folder / "nowhere.yaml", lab.folder, torn):
        code, err = fails("check", file)
        assert code == EX_CONFIG
        assert str(file) in err


def test_a_topology_before_the_command_counts(lab: Any, fails: Any) -> None:
    """An option that may stand before `simulate` is not lost there."""
    code, err = fails("--peers-config", "nowhere.yaml", "simulate")
    assert code == EX_CONFIG
    assert "nowhere.yaml" in err


def test_an_unknown_peer(lab: Any, fails: Any) -> None:
    """Exits with 78 and lists the names, be it named by --peer or by this host's name."""
    file = lab.file(peers=["pi-a", "pi-b"])
    code, err = fails("--peers-config", file, "--peer", "pi-c")
    assert code == EX_CONFIG
    assert "'pi-c'" in err
    assert "pi-a, pi-b" in err
    code, err = fails("--peers-config", file)
    assert code == EX_CONFIG
    assert "choose one with --peer: pi-a, pi-b" in err


@pytest.mark.slow
def test_a_missing_data_folder(lab: Any, fails: Any) -> None:
    """Exits with 65 and names the folder, for one peer and for a simulation."""
    nowhere = lab.folder / "nowhere"
    file = lab.file(task={"data": f"folder:{nowhere}", "partition": {}})
    for words in (["--peer", "peer-1", "--state-dir", "state"], ["simulate", "--out", "run"]):
        code, err = fails("--peers-config", file, *words)
        assert code == EX_DATAERR
        assert str(nowhere) in err


@pytest.mark.slow
def test_a_port_in_use(lab: Any, fails: Any) -> None:
    """Exits with 74 and names host and port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        peers = [{"name": "a", "address": "127.0.0.1", "port": port}, {"name": "b"}]
        file = lab.file(peers=peers, discovery=False)
        code, err = fails("--peers-config", file, "--peer", "a", "--state-dir", "state")
    assert code == EX_IOERR
    assert f"127.0.0.1:{port}: port in use" in err


@pytest.mark.slow
def test_a_state_folder_in_use(lab: Any, fails: Any) -> None:
    """Exits with 74 and names the process that holds it."""
    with FolderLock(lab.folder / "state"):
        where = ("--state-dir", lab.folder / "state")
        code, err = fails("--peers-config", lab.file(), "--peer", "peer-1", *where)
    assert code == EX_IOERR
    assert f"{lab.folder / 'state'}: in use by another peer (process {os.getpid()})" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"mesh": "another"}, "holds the state of peer peer-1 of mesh "),
        ({"epoch": 1}, "holds the state of peer peer-1 of mesh "),
        ({"task": {"model": "resnet8"}}, "not of this model and method: "),
    ],
)
def test_the_state_of_another_mesh_or_model(
    lab: Any, fails: Any, other: dict[str, Any], said: str
) -> None:
    """Exits with 65 and leaves the state alone; says how to begin anew."""
    lonely = {"peers": 1, "graph": {"edges": []}, "rounds": {"count": 1}}
    assert lab.daemon(lab.file(**lonely), "peer-1").end() == 0
    kept = (lab.folder / "peer-1" / "state" / "checkpoint-0").read_bytes()
    where = ("--state-dir", lab.folder / "peer-1" / "state")
    code, err = fails("--peers-config", lab.file(**lonely, **other), "--peer", "peer-1", *where)
    assert code == EX_DATAERR
    assert f"{where[1]}: " in err
    assert said in err
    assert "remove its checkpoints to begin anew" in err
    assert (lab.folder / "peer-1" / "state" / "checkpoint-0").read_bytes() == kept


@pytest.mark.slow
def test_an_output_folder_that_is_a_file(lab: Any, fails: Any) -> None:
    """Exits with 74 and names it, for one peer and for a simulation."""
    file = lab.file()
    taken = lab.folder / "taken"
    taken.touch()
    for words in (["--peer", "peer-1", "--state-dir", "state"], ["simulate"]):
        code, err = fails("--peers-config", file, *words, "--out", taken)
        assert code == EX_IOERR
        assert str(taken) in err


@pytest.mark.slow
def test_a_run_folder_that_holds_another_run(lab: Any, fails: Any) -> None:
    """Exits with 74 rather than mix two runs."""
    (lab.folder / "run").mkdir()
    (lab.folder / "run" / "rounds.jsonl").touch()
    code, err = fails("simulate", "--peers-config", lab.file(), "--out", lab.folder / "run")
    assert code == EX_IOERR
    assert "holds another run" in err


@pytest.mark.slow
def test_a_simulation_in_which_a_peer_failed_does_not_exit_with_0(lab: Any) -> None:
    """One peer's folder is taken: the others finish, the command names it and exits with 70."""
    file = lab.file(rounds={"count": 2, "start_within": "200ms"})
    state = lab.folder / "run" / "peers" / "peer-2" / "state"
    with FolderLock(state):
        command = lab.start("simulate", "--peers-config", file, "--out", lab.folder / "run")
        assert command.end() == EX_SOFTWARE
    assert "peer-2 ended with an error" in command.err
    assert (lab.folder / "run" / "report.html").exists()
